"""The configuration: right for ever, or one line that names file, key and what is expected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from kms_core import CoreConfig
from kms_watchdog.config import CANARY_CONTEXT, EXPECTED, ConfigError, Settings, load

EXAMPLE = Path(__file__).parents[2] / "daemon" / "watchdog.example.toml"


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return str(caught.value)


def test_the_example_is_loaded_and_is_parker_flights() -> None:
    """The file that users copy is good, and what the setup guide prescribes."""
    settings = load(EXAMPLE)

    assert settings.estate.regions == ("us-east-1", "us-west-2", "eu-west-1")
    assert {key.alias for key in settings.keys.values()} == {
        f"alias/parker-flight-{purpose}-production" for purpose in ("general", "pii", "payment")
    }
    assert settings.publish_regions == ("us-east-1", "us-west-2")
    assert settings.core_config().keys["payment"].strict_key_state


def test_the_example_shows_only_defaults_and_names_that_exist(tmp_path: Path) -> None:
    """Every line that is commented out as a default is one: uncommented, it changes nothing."""
    text = EXAMPLE.read_text()
    shown = [
        line[2:] for line in text.splitlines() if line.startswith("# ") and " = " in line and "default:" not in line
    ]
    inside = [line for line in shown if not line.startswith(("key_id", "kms =", "cloudwatch ="))]
    path = tmp_path / "watchdog.toml"
    for line in inside:
        text = text.replace(f"# {line}", line)
    path.write_text(text)

    assert load(path) == load(EXAMPLE)
    assert len(inside) > 15


@pytest.mark.parametrize(
    ("more", "says"),
    [
        pytest.param("[cor]\n", "cor: unknown key; did you mean core?", id="section"),
        pytest.param("[http]\nlisen = 'x'\n", "http.lisen: unknown key; did you mean listen?", id="in-a-section"),
        pytest.param(
            "[keys.pii]\nallias = 'alias/x'\n", "keys.pii.allias: unknown key; did you mean alias?", id="in-a-key"
        ),
        pytest.param(
            "[endpoints.us-east-1]\ncloudwach = 'https://x'\n",
            "endpoints.us-east-1.cloudwach: unknown key; did you mean cloudwatch?",
            id="in-an-endpoint",
        ),
        pytest.param("[http]\nqqqq = 1\n", "http.qqqq: unknown key", id="nothing-near"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_name(
    write_config: Callable[..., Path], more: str, says: str
) -> None:
    """A misspelling is named, together with what was probably meant, in nested tables too."""
    path = write_config(more)

    said = refusal(path)

    assert said.startswith(f"{path}: {says}")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("more", "key", "expects"),
    [
        pytest.param("[canaries]\ninterval_seconds = 'often'\n", "canaries.interval_seconds", "number", id="type"),
        pytest.param("[canaries]\ninterval_seconds = 0\n", "canaries.interval_seconds", "greater than 0", id="range"),
        pytest.param(
            "[canaries]\ninterval_seconds = 5\ndeadline_seconds = 5\n", "canaries", "below interval_seconds", id="pair"
        ),
        pytest.param(
            "[canaries.golden]\ndeadline_seconds = 30\n",
            "canaries",
            "golden.deadline_seconds (30) must be below its interval_seconds (30)",
            id="a-kinds-pair",
        ),
        pytest.param("[canaries]\nkinds = ['golden']\n", "canaries", "must name round_trip", id="no-round-trips"),
        pytest.param("[canaries]\nkinds = ['round_trip', 'round_trip']\n", "canaries", "not repeat", id="kind-twice"),
        pytest.param("[http]\nlisten = '9464'\n", "http.listen", "HOST:PORT", id="address"),
        pytest.param("[http]\nlisten = '[::1]:65536'\n", "http.listen", "a port is 0 to 65535", id="port"),
        pytest.param("[cloudwatch]\nperiod_seconds = 30\n", "cloudwatch.period_seconds", "10 or 60", id="choice"),
        pytest.param("[keys.PII]\nalias = 'alias/x'\n", "keys", "1 to 32 of a-z and 0-9", id="purpose"),
        pytest.param("[keys.pii]\nalias = 'pii'\n", "keys.pii.alias", "alias/NAME", id="alias"),
        pytest.param("[keys.pii]\n", "keys.pii.alias", "missing", id="missing"),
        pytest.param(
            "[endpoints.us-east-1]\nkms = 'http://x'\n", "endpoints.us-east-1.kms", "https://", id="plain-http"
        ),
        pytest.param("[endpoints.mars]\nkms = 'https://x'\n", "endpoints.mars", "AWS region", id="no-region"),
        pytest.param(
            "[endpoints.ap-south-1]\nkms = 'https://x'\n", "endpoints names ap-south-1", "", id="other-region"
        ),
        pytest.param("[log]\nlevel = 'loud'\n", "log.level", "'info'", id="level"),
    ],
)
def test_a_bad_value_is_refused_with_what_is_expected(
    write_config: Callable[..., Path], more: str, key: str, expects: str
) -> None:
    """One line: file, key, and what would have been right."""
    path = write_config(more)

    said = refusal(path)

    assert said.startswith(f"{path}: ")
    assert key in said
    assert expects in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("base", "says"),
    [
        pytest.param("[estate", "not valid TOML", id="not-toml"),
        pytest.param("x = 1\n", "x: unknown key", id="a-misspelling-hides-behind-nothing-missing"),
        pytest.param("", "estate: missing", id="empty"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(write_config: Callable[..., Path], base: str, says: str) -> None:
    """Whatever the file is, the answer is one line."""
    assert says in refusal(write_config(base=base))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The path that was asked for is in the line."""
    path = tmp_path / "nowhere.toml"

    assert refusal(path) == f"{path}: cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(None, "is not there", id="not-there"),
        pytest.param("no PEM\n", "cannot be read as one", id="no-certificates"),
    ],
)
def test_a_ca_bundle_without_certificates_is_refused(
    write_config: Callable[..., Path], tmp_path: Path, content: str | None, says: str
) -> None:
    """That is found when the file is read: at the first use it ended `check-config`, and a reload, in a traceback."""
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    path = write_config(
        base="""
[estate]
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1"]
ca_bundle = "ca.pem"
[keys.general]
alias = "alias/general"
[state]
dir = "state"
"""
    )

    said = refusal(path)

    assert "estate.ca_bundle" in said
    assert f"{tmp_path / 'ca.pem'} {says}" in said


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param('primary_region = "eu-west-1"', "primary_region must be one of regions", id="primary-elsewhere"),
        pytest.param('home_region = "eu-west-1"\nprimary_region = "us-east-1"', "home_region must be", id="home"),
    ],
)
def test_regions_must_agree(write_config: Callable[..., Path], line: str, says: str) -> None:
    """The primary and the home region are regions of the estate."""
    base = f"""
[estate]
account_id = "123456789012"
regions = ["us-east-1"]
{line}
[keys.general]
alias = "alias/general"
[state]
dir = "state"
"""
    assert says in refusal(write_config(base=base))


def test_paths_count_from_the_files_folder(write_config: Callable[..., Path], tmp_path: Path) -> None:
    """The same file means the same wherever the command is run."""
    assert load(write_config()).state.dir == tmp_path / "state"


def test_metrics_go_to_two_regions_unless_told(settings: Settings) -> None:
    """Home and one other: a reporter in the region that fails tells nobody."""
    assert settings.publish_regions == ("us-east-1", "us-west-2")
    assert settings.monitor == "test-us-east-1"


def test_settings_are_frozen(settings: Settings) -> None:
    """Nothing changes what was checked."""
    with pytest.raises(ValueError, match="frozen"):
        settings.http.listen = "0.0.0.0:80"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        pytest.param("127.0.0.1:9464", ("127.0.0.1", 9464), id="v4"),
        pytest.param("[::1]:0", ("::1", 0), id="v6"),
        pytest.param("localhost:80", ("localhost", 80), id="name"),
    ],
)
def test_listen_is_taken_apart(write_config: Callable[..., Path], listen: str, address: tuple[str, int]) -> None:
    """Host and port, brackets off."""
    assert load(write_config(f"[http]\nlisten = '{listen}'\n")).http.address == address


def test_the_canary_context_is_one_pair() -> None:
    """Code and key policies read the same pair."""
    assert CANARY_CONTEXT == {"canary": "true"}


def patterns_in(schema: object) -> set[str]:
    """Return every pattern in a JSON schema."""
    if isinstance(schema, dict):
        own = {schema["pattern"]} if isinstance(schema.get("pattern"), str) else set()
        return own.union(*(patterns_in(value) for value in schema.values()))
    return set().union(*(patterns_in(value) for value in schema)) if isinstance(schema, list) else set()


def test_every_pattern_has_words() -> None:
    """No refusal shows a regular expression."""
    assert patterns_in(Settings.model_json_schema()) == set(EXPECTED)


def test_awss_own_namespaces_are_refused(write_config: Callable[..., Path]) -> None:
    """CloudWatch would refuse every datum in them."""
    assert "cloudwatch.namespace" in refusal(write_config("[cloudwatch]\nnamespace = 'AWS/KMS'\n"))


def test_the_core_is_set_as_the_application_sets_it(write_config: Callable[..., Path]) -> None:
    """One file for both: the same names, the same defaults, the guide's names too."""
    path = write_config("[core]\ndataKeyTTL = 60000\nmaxRetries = 2\nhedging = true\n")

    ours, applications = load(path).core_config(), CoreConfig.from_toml(path)

    names = [field.name for field in fields(CoreConfig)]
    assert [name for name in names if getattr(ours, name) != getattr(applications, name)] == []
    assert (ours.data_key_ttl_seconds, ours.max_retries, ours.hedging) == (60.0, 2, True)


@pytest.mark.parametrize(
    ("endpoints", "asks"),
    [
        ("", True),
        ("kms = 'https://127.0.0.1:1'", False),
        ("kms = 'https://127.0.0.1:1'\nsts = 'https://127.0.0.1:2'", True),
    ],
    ids=["AWS", "another KMS", "another AWS"],
)
def test_the_account_is_asked_for_where_the_right_sts_is_known(
    write_config: Callable[..., Path],
    endpoints: str,
    asks: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """AWS's own would be asked about credentials that are not for it; the daemon and the application agree."""
    path = write_config(f"[endpoints.us-east-1]\n{endpoints}\n")

    assert load(path).core_config().verify_account is asks
    assert CoreConfig.from_toml(path).verify_account is asks


def test_a_guides_name_and_our_own_are_not_both_taken(write_config: Callable[..., Path]) -> None:
    """Which of the two should win?"""
    with pytest.raises(ConfigError, match="data_key_ttl_seconds is given twice"):
        load(write_config("[core]\ndataKeyTTL = 60000\ndata_key_ttl_seconds = 60\n"))
