"""`doctor --message`: what a sealed message says of itself, and why it would not open here. Nobody is asked."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from doctor_kit import doctor, refused
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kms_core import Core
from kms_core.errors import MessageError
from kms_core.message import EncryptedDataKey, parse_header
from kms_core.suites import SUITES
from kms_core.testing import FakeEstate
from kms_core.testing.decode import encode
from kms_watchdog.cli import command
from kms_watchdog.doctor.diagnosis import Outcome
from kms_watchdog.doctor.message import MAX_BYTES, Place, describe, shown, text

ACCOUNT = "123456789012"
KEY_ID, OTHER_ID = "mrk-" + "a" * 32, "mrk-" + "b" * 32
SINGLE_ID = "11111111-2222-3333-4444-555555555555"
REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
CONTEXT = {"tenant": "t-17", "purpose": "pii"}


def arn(key_id: str = KEY_ID, region: str = "us-east-1", account_id: str = ACCOUNT) -> bytes:
    return f"arn:aws:kms:{region}:{account_id}:key/{key_id}".encode()


def sealed(
    *names: bytes, context: Mapping[str, str] = CONTEXT, provider: str = "aws-kms", size: int = 1000, frame: int = 256
) -> bytes:
    """A message as any SDK writes it, wrapped for these keys."""
    wrapped = [EncryptedDataKey(provider_id=provider, provider_info=name, ciphertext=b"w" * 184) for name in names]
    return encode(b"x" * size, b"k" * 32, wrapped, context, frame_length=frame, message_id=b"i" * 32)


def place(**more: Any) -> Place:
    usual: dict[str, Any] = {
        "account_id": ACCOUNT,
        "regions": REGIONS,
        "key_ids": {"general": OTHER_ID, "pii": KEY_ID},
        "purposes": ("general", "pii"),
        "max_wrapped_keys": 3,
        "accepts_legacy": False,
    }
    return Place(**{**usual, **more})


def obstacles(message: bytes, here: Place | None = None) -> list[str]:
    return [obstacle.id for obstacle in describe(message, here or place()).obstacles]


def legacy(suite: int) -> bytes:
    """The header of a message of version 1, and a body of one block, none of which was ever sealed."""
    context = b""
    wrapped = b"\x00\x01" + b"\x00\x07aws-kms" + len(arn()).to_bytes(2, "big") + arn() + b"\x00\x02ww"
    header = b"\x01\x80" + suite.to_bytes(2, "big") + b"i" * 16 + len(context).to_bytes(2, "big") + context + wrapped
    return (
        header
        + b"\x01"
        + bytes(4)
        + b"\x0c"
        + bytes(4)
        + bytes(12 + 16)
        + bytes(12)
        + (5).to_bytes(8, "big")
        + bytes(21)
    )


def test_a_message_in_order() -> None:
    """Suite, commitment, context keys, wrapped keys, frames; and whose it is."""
    found = describe(sealed(arn()), place())

    assert (found.outcome, found.obstacles, found.untold) == (Outcome.NOTHING_WRONG, (), ())
    assert [(one.name, one.purpose, one.notes) for one in found.wrapped] == [(arn().decode(), "pii", ())]
    told = "\n".join(text(found, show_context=False))
    for words in (
        "suite           0x0478",
        "committed       True",
        "context keys    tenant, purpose",
        "frame bytes     256",
    ):
        assert words in told.replace("purpose, tenant", "tenant, purpose")
    assert "t-17" not in told
    assert "tenant=t-17" in "\n".join(text(found, show_context=True))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512, 1000])
def test_the_end_of_a_whole_message_is_found(size: int) -> None:
    """Whatever the frames' number and the last one's length."""
    assert obstacles(sealed(arn(), size=size)) == []


@pytest.mark.parametrize("size", [0, 256, 1000])
def test_cut_off_anywhere_it_is_told(size: int) -> None:
    """After each single byte: truncated, or no message where nothing is left."""
    whole = sealed(arn(), size=size)

    found = {end: obstacles(whole[:end]) for end in range(len(whole))}

    assert found.pop(0) == ["empty"]
    assert set(map(tuple, found.values())) == {("truncated",)}


def test_what_follows_a_message_is_told() -> None:
    """The core refuses it, too."""
    assert obstacles(sealed(arn()) + b"more") == ["trailing-bytes"]


@pytest.mark.parametrize(
    ("message", "obstacle"),
    [
        pytest.param(b"-----BEGIN PGP MESSAGE-----", "wrong-format", id="another-format"),
        pytest.param(b"\x02\x99\x99" + b"x" * 100, "unknown-suite", id="suite-of-version-2"),
        pytest.param(b"\x01\x80\x99\x99" + b"x" * 100, "unknown-suite", id="suite-of-version-1"),
        pytest.param(b"\x02\x04\x78" + b"i" * 32 + b"\x00\x01x" + bytes(200), "header-damaged", id="context"),
        pytest.param(b"\x02\x04\x78" + b"i" * 32 + bytes(400), "header-damaged", id="no-wrapped-keys"),
    ],
)
def test_what_is_no_message(message: bytes, obstacle: str) -> None:
    """Each for its own reason; the core refuses them all."""
    assert obstacles(message) == [obstacle]
    with pytest.raises(MessageError):
        parse_header(message)


def test_base64_is_decoded_and_told() -> None:
    """The bytes in it are looked at all the same, line breaks and a cut included."""
    lines = base64.encodebytes(sealed(arn()))

    assert obstacles(lines) == ["base64"]
    assert obstacles(lines[: len(lines) // 2]) == ["base64", "truncated"]


@pytest.mark.parametrize("suite", sorted(number for number, suite in SUITES.items() if suite.version == 1))
def test_version_1_needs_the_flag(suite: int) -> None:
    """Those that use the data key as it is are never opened, flag or not."""
    message = legacy(suite)
    derived, signed = SUITES[suite].kdf is not None, SUITES[suite].signed

    with_flag = obstacles(message, place(accepts_legacy=True))

    assert obstacles(message)[0] == "legacy-suite"
    assert ("legacy-suite" in with_flag) is not derived
    assert ("signature-key" in with_flag) is signed  # a signed one without a key to verify with


@pytest.mark.parametrize(
    ("names", "here", "obstacle"),
    [
        pytest.param([arn()], {"purpose": "general"}, "another-purpose", id="purpose"),
        pytest.param([arn("mrk-" + "c" * 32)], {}, "no-configured-key", id="key"),
        pytest.param([arn(account_id="210987654321")], {}, "no-configured-key", id="account"),
        pytest.param([arn(SINGLE_ID, "ap-south-1")], {"key_ids": {}}, "region-not-configured", id="region"),
        pytest.param([b"alias/pii"], {"key_ids": {}}, "no-configured-key", id="no-arn"),
        pytest.param([arn()] * 4, {}, "too-many-keys", id="too-many"),
    ],
)
def test_why_it_would_not_open_here(names: list[bytes], here: dict[str, Any], obstacle: str) -> None:
    """One reason each."""
    assert obstacles(sealed(*names), place(**here)) == [obstacle]


def test_another_provider_is_nobody_here() -> None:
    """Raw keyrings have names of their own."""
    assert obstacles(sealed(b"k1", provider="somebody")) == ["no-configured-key"]


def test_a_multi_region_keys_own_region_need_not_be_configured() -> None:
    """Its relatives here open it; that is told, and is no obstacle."""
    found = describe(sealed(arn(region="ap-south-1")), place())

    assert (found.outcome, found.wrapped[0].purpose) == (Outcome.NOTHING_WRONG, "pii")
    assert found.wrapped[0].notes == (
        "its region ap-south-1 is not configured; a related key in a configured region opens it",
    )


def test_a_key_that_is_known_by_its_alias_alone_could_not_be_told() -> None:
    """3, and how to make it known; one that is known is found among several."""
    unknown = describe(sealed(arn()), place(key_ids={"general": OTHER_ID}))
    known = describe(sealed(arn(account_id="210987654321"), arn()), place())

    assert (unknown.outcome, unknown.obstacles) == (Outcome.COULD_NOT_TELL, ())
    assert "the key of pii is known by its alias alone" in unknown.untold[0]
    assert (known.outcome, [one.purpose for one in known.wrapped]) == (Outcome.NOTHING_WRONG, ["", "pii"])


def test_a_very_long_message_is_read_by_its_beginning() -> None:
    """Its header is told; whether it is whole is not."""
    beginning = sealed(arn()) + bytes(MAX_BYTES)

    found = describe(beginning[: MAX_BYTES + 1], place())

    assert (found.outcome, found.obstacles) == (Outcome.COULD_NOT_TELL, ())


@hypothesis_settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_crash_it(noise: bytes) -> None:
    """Hostile ones neither."""
    for message in (noise, b"AgR4" + noise, b"\x02\x04\x78" + noise, sealed(arn())[:60] + noise):
        assert list(text(describe(message, place()), show_context=True))


def test_what_a_message_says_cannot_move_the_cursor() -> None:
    """A context is whoever wrote it's; so is an ARN."""
    hostile = describe(sealed(b"\x1b[2J" + arn(), context={"\x1b]0;x\x07\n": "\r\x1b[31m"}), place())

    told = "".join(text(hostile, show_context=True))

    assert told.isprintable()
    assert len(shown("x" * 10_000)) < 400


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def pinned(write_config: Callable[..., Path], estate: FakeEstate) -> Path:
    """A configuration that names its keys' ids, and whose endpoints lead nowhere."""
    base = """
[estate]
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1", "us-west-2", "eu-west-1"]
[state]
dir = "state"
"""
    for purpose, alias in (("general", "alias/general"), ("payment", "alias/payment")):
        key_id = estate.kms["us-east-1"].describe_key(alias).key_arn.rpartition("/")[2]
        base += f'[keys.{purpose}]\nalias = "{alias}"\nkey_id = "{key_id}"\n'
    return write_config(base=base, name="pinned.toml")


def run(config: Path, *words: str, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(command, ["doctor", *words, "--config", str(config)], input=stdin)


def test_a_message_of_the_core_is_read_without_credentials(
    pinned: Path, core: Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a file and from a pipe; no client is made, so that no KMS is asked."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "there-is-no-such-profile")  # whoever makes a client fails
    file = tmp_path / "sealed.bin"
    file.write_bytes(core.encrypt(b"secret", purpose="payment", context={"tenant": "t-17"}))

    named, wrong = doctor(pinned, "--message", str(file)), doctor(pinned, "--message", str(file), "--key", "general")
    piped = run(pinned, "--message", "-", "--show-context", stdin=file.read_bytes())

    assert (named.code, named.document["wrapped_keys"][0]["key"]) == (0, "payment")
    assert named.document["header"]["context_keys"] == ["tenant"]
    assert (wrong.code, [one["id"] for one in wrong.document["obstacles"]]) == (1, ["another-purpose"])
    assert wrong.document["obstacles"][0]["because"] == "it is of payment, not of general"
    assert (piped.exit_code, "tenant=t-17" in piped.stdout) == (0, True)
    assert "secret" not in piped.stdout


def test_without_known_ids_it_could_not_tell(write_config: Callable[..., Path], core: Core, tmp_path: Path) -> None:
    """The base configuration knows aliases alone, and there is no old message to learn from."""
    file = tmp_path / "sealed.bin"
    file.write_bytes(core.encrypt(b"x", purpose="payment", context={"tenant": "t"}))

    assert doctor(write_config(), "--message", str(file)).code == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["network", "--message", "-"], "network and --message: one at a time"),
        (["--message", "-", "--code", "x"], "--code does not go with --message"),
        (["--prerequisites", "--key", "pii"], "--key does not go with --prerequisites"),
        (["--show-context"], "--show-context goes with --message"),
        (["us-west-2"], "a region goes with --region, a key with --key, an error with --code"),
        (["--region", "us-east-2"], "no region 'us-east-2' in the configuration; did you mean us-west-2?"),
        (["--key", "genral"], "'genral' names no key; did you mean general?"),
        (["--message", "-", "--key", "alias/other"], "'alias/other' is no key of the configuration"),
    ],
)
def test_what_cannot_be_asked_is_one_line(pinned: Path, words: list[str], says: str) -> None:
    """And exit code 2."""
    code, told = refused(pinned, *words)

    assert (code, told.count("\n")) == (2, 1)
    assert says in told


def test_a_file_that_is_not_there(pinned: Path, tmp_path: Path) -> None:
    """Is named."""
    code, told = refused(pinned, "--message", str(tmp_path / "nothing.bin"))

    assert code == 2
    assert "nothing.bin" in told
    assert json.dumps("") not in told
