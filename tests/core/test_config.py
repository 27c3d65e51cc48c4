"""The configuration is refused when it cannot be right, with the name of what is wrong; and never changes."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path
from typing import Any, get_type_hints

import botocore
import pytest

from kms_core import ConfigurationError, CoreConfig, KeyConfig
from kms_core.config import _KINDS, check_ca_bundle

KEY = KeyConfig(alias="alias/general")
ROLE = "arn:aws:iam::123456789012:role/ParkerFlightServiceRole"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param({"account_id": "12345"}, "account_id", id="short account"),
        pytest.param({"regions": ()}, "regions", id="no region"),
        pytest.param({"regions": ("us-east-1", "us-east-1")}, "regions", id="a region twice"),
        pytest.param({"regions": ("us-east-1", "mars")}, "regions", id="no AWS region"),
        pytest.param({"home_region": "mars"}, "home_region", id="home on no earth"),
        pytest.param({"home_region": "cn-north-1"}, "home_region", id="home in another partition"),
        pytest.param({"regions": ("us-east-1", "cn-north-1")}, "regions", id="two partitions"),
        pytest.param({"region_preference": ("eu-central-1",)}, "region_preference", id="unknown preference"),
        pytest.param({"endpoints": {"eu-central-1": "https://x"}}, "endpoints", id="unknown endpoint"),
        pytest.param({"sts_endpoints": {"eu-central-1": "https://x"}}, "sts_endpoints", id="unknown STS endpoint"),
        pytest.param({"keys": {}}, "keys", id="no purpose"),
        pytest.param({"keys": {"Général": KEY}}, "keys.Général", id="a purpose that is no word"),
        pytest.param({"keys": {3: KEY}}, "keys.3", id="a purpose that is a number"),
        pytest.param({"keys": {"a": KEY, "b": KEY}}, "keys.b.alias", id="two purposes of one alias"),
        pytest.param({"edk_arn": "primary"}, "edk_arn", id="no primary to name"),
        pytest.param({"stale_max_age_seconds": 901.0}, "stale_max_age_seconds", id="too stale"),
        pytest.param({"role_arn": "ServiceRole"}, "role_arn", id="a role's name"),
        pytest.param({"web_identity_token_file": "/token"}, "web_identity_token_file", id="a token for no role"),
        pytest.param({"ca_bundle": ""}, "ca_bundle", id="no file, which botocore takes for no verifying"),
        pytest.param({"deadline_seconds": 0.0}, "deadline_seconds", id="no time"),
        pytest.param({"deadline_seconds": float("nan")}, "deadline_seconds", id="no number"),
        pytest.param({"read_timeout_seconds": 90_000.0}, "read_timeout_seconds", id="more than a day"),
        pytest.param({"max_retries": -1}, "max_retries", id="negative"),
        pytest.param({"max_encryptions_per_key": 0}, "max_encryptions_per_key", id="zero uses"),
        pytest.param({"frame_length": 2**31}, "frame_length", id="frame too long for the SDKs"),
    ],
)
def test_a_wrong_value_is_refused_by_name(config: CoreConfig, change: dict[str, Any], named: str) -> None:
    """First of all, so that who read it from outside can put the outside's name there; and it is a ValueError too."""
    with pytest.raises(ConfigurationError) as refused:
        dataclasses.replace(config, **change)
    assert str(refused.value).startswith(f"{named} ")
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        pytest.param({"account_id": 123456789012}, "account_id must be a string, not 123456789012", id="account"),
        pytest.param({"regions": "us-east-1"}, "regions must be a sequence of strings, not 'us-east-1'", id="text"),
        pytest.param({"regions": 1}, "regions must be a sequence of strings, not 1", id="number"),
        pytest.param({"regions": (1,)}, "regions must be a sequence of strings, not (1,)", id="numbers"),
        pytest.param({"region_preference": "us-east-1"}, "region_preference must be a sequence", id="preference"),
        pytest.param({"home_region": None}, "home_region must be a string, not None", id="no home"),
        pytest.param({"keys": {"pii": "alias/pii"}}, "keys.pii must be a KeyConfig, not 'alias/pii'", id="key"),
        pytest.param({"keys": [KEY]}, "keys must be a mapping of purpose to KeyConfig", id="keys"),
        pytest.param({"max_retries": "2"}, "max_retries must be a whole number, not '2'", id="a number as text"),
        pytest.param({"max_retries": 2.0}, "max_retries must be a whole number, not 2.0", id="a fraction"),
        pytest.param({"max_retries": True}, "max_retries must be a whole number, not True", id="a switch"),
        pytest.param({"deadline_seconds": "8"}, "deadline_seconds must be a number, not '8'", id="seconds as text"),
        pytest.param({"deadline_seconds": True}, "deadline_seconds must be a number, not True", id="seconds as switch"),
        pytest.param({"hedging": "false"}, "hedging must be true or false, not 'false'", id="a switch as text"),
        pytest.param({"edk_arn": "other"}, "edk_arn must be response or primary, not 'other'", id="another word"),
        pytest.param({"edk_arn": True}, "edk_arn must be response or primary, not True", id="no word"),
        pytest.param({"ca_bundle": 3}, "ca_bundle must be a string, not 3", id="file"),
        pytest.param({"endpoints": "https://x"}, "endpoints must be a mapping of region to URL", id="endpoints"),
    ],
)
def test_a_value_of_another_kind_is_refused(config: CoreConfig, change: dict[str, Any], refusal: str) -> None:
    """At birth, and not where it is first used."""
    with pytest.raises(ConfigurationError) as refused:
        dataclasses.replace(config, **change)
    assert str(refused.value).startswith(refusal)


@pytest.mark.parametrize("kind", [CoreConfig, KeyConfig])
def test_every_field_is_of_a_kind_that_has_words(kind: type) -> None:
    """A new field's annotation must be one of the table's."""
    assert set(get_type_hints(kind).values()) <= set(_KINDS)


def test_lists_of_regions_are_frozen(config: CoreConfig) -> None:
    """They were taken from the beginning."""
    given: Any = ["us-east-1", "us-west-2"]
    made = dataclasses.replace(config, regions=given, region_preference=given[1:])
    given.clear()

    assert made.regions == ("us-east-1", "us-west-2")
    assert made.region_preference == ("us-west-2",)


@pytest.mark.parametrize("field", ["endpoints", "sts_endpoints"])
@pytest.mark.parametrize(
    "url",
    ["localhost:3", "https://", "https://:443", "https://a b", "https://a:99999", "https://[::1", "http://kms.example",
     "http://127.0.0.1.example", "http://localhost@kms.example", "https://kms.example\n", "ftp://localhost", "", 3],
)  # fmt: skip
def test_an_endpoint_is_reached_by_https(config: CoreConfig, field: str, url: Any) -> None:
    """In the clear, anybody on the way would read the data keys."""
    change: dict[str, Any] = {field: {"us-east-1": url}}

    with pytest.raises(ConfigurationError) as refused:
        dataclasses.replace(config, **change)

    assert str(refused.value).startswith(f"{field}.us-east-1 must be https://HOST")
    assert str(refused.value).endswith(f"not {url!r}")


@pytest.mark.parametrize(
    "url",
    ["https://kms.example", "https://vpce-0.kms.us-east-1.vpce.amazonaws.com:443/", "https://10.0.0.1:5001",
     "http://127.0.0.1:5001", "http://[::1]:5001", "http://localhost:5001"],
)  # fmt: skip
def test_on_loopback_an_endpoint_may_be_plain(config: CoreConfig, url: str) -> None:
    """Nobody is on the way there."""
    made = dataclasses.replace(config, endpoints={"us-east-1": url})
    assert made.endpoints == {"us-east-1": url}


@pytest.mark.parametrize("alias", ["general", "alias/", "alias/a b", "arn:aws:kms:us-east-1:123456789012:alias/x"])
def test_an_alias_is_a_name_and_not_an_arn(alias: str) -> None:
    """Each region resolves it for itself."""
    with pytest.raises(ConfigurationError, match="alias"):
        KeyConfig(alias=alias)


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        pytest.param({"alias": 3}, "alias must be a string, not 3", id="alias"),
        pytest.param({"key_id": 3}, "key_id must be a string, not 3", id="key id"),
        pytest.param({"strict_key_state": 0}, "strict_key_state must be true or false, not 0", id="zero"),
        pytest.param({"strict_key_state": "false"}, "strict_key_state must be true or false, not 'false'", id="text"),
    ],
)
def test_a_key_of_another_kind_is_refused(given: dict[str, Any], refusal: str) -> None:
    """The text "false" is true to Python."""
    with pytest.raises(ConfigurationError) as refused:
        KeyConfig(**{"alias": "alias/x"} | given)
    assert str(refused.value) == refusal


@pytest.mark.parametrize("key_id", ["mrk-1", "mrk-" + "g" * 32, "alias/x", ""])
def test_a_pinned_key_id_has_kms_form(key_id: str) -> None:
    """A multi-Region key's, or a UUID."""
    with pytest.raises(ConfigurationError, match="key_id"):
        KeyConfig(alias="alias/x", key_id=key_id)


def test_mappings_are_copied_and_cannot_change(config: CoreConfig) -> None:
    """Right for ever."""
    keys = {"general": KEY}
    made = dataclasses.replace(config, keys=keys)
    keys["pii"] = KEY

    assert list(made.keys) == ["general"]
    with pytest.raises(TypeError):
        made.keys["pii"] = KEY  # type: ignore[index]


@pytest.mark.parametrize(
    ("preference", "order"),
    [
        pytest.param((), ("us-west-2", "us-east-1", "eu-west-1"), id="home first"),
        pytest.param(("eu-west-1",), ("eu-west-1", "us-east-1", "us-west-2"), id="as preferred"),
    ],
)
def test_regions_are_tried_in_this_order(
    config: CoreConfig, preference: tuple[str, ...], order: tuple[str, ...]
) -> None:
    """The caller's own region, unless a preference is configured; then the others as listed."""
    made = dataclasses.replace(config, home_region="us-west-2", region_preference=preference)
    assert made.region_order == order
    assert made.fixed_regions == 1


@pytest.mark.parametrize(
    ("preference", "order", "fixed"),
    [
        pytest.param((), ("us-east-1", "us-west-2", "eu-west-1"), 0, id="as listed"),
        pytest.param(("eu-west-1",), ("eu-west-1", "us-east-1", "us-west-2"), 1, id="as preferred"),
    ],
)
def test_home_may_be_where_no_keys_are(
    config: CoreConfig, preference: tuple[str, ...], order: tuple[str, ...], fixed: int
) -> None:
    """Then no region is the process's own, and only what was measured moves those that nobody named."""
    made = dataclasses.replace(
        config,
        home_region="us-east-2",
        region_preference=preference,
        sts_endpoints={"us-east-2": "https://sts.example"},  # whose STS is the nearest all the same
    )

    assert made.home_region == "us-east-2"
    assert (made.region_order, made.fixed_regions) == (order, fixed)


@pytest.mark.parametrize(
    "twin_of",
    [
        pytest.param(lambda one: pickle.loads(pickle.dumps(one)), id="pickled"),  # noqa: S301 - our own bytes
        pytest.param(copy.deepcopy, id="copied deep"),
        pytest.param(copy.copy, id="copied"),
    ],
)
def test_a_configuration_can_be_given_to_another_process(config: CoreConfig, twin_of: Any) -> None:
    """Workers that are spawned are sent it; the twin is as equal and as frozen."""
    made = dataclasses.replace(config, endpoints={"us-east-1": "https://kms.example"}, max_retries=2)

    twin = twin_of(made)

    assert twin == made
    assert twin is not made
    with pytest.raises(TypeError):
        twin.keys["pii"] = KEY
    with pytest.raises(dataclasses.FrozenInstanceError):
        twin.max_retries = 3


def test_a_token_is_for_a_role(config: CoreConfig) -> None:
    """As on EKS."""
    made = dataclasses.replace(config, role_arn=ROLE, web_identity_token_file="/var/run/token")
    assert made.web_identity_token_file == "/var/run/token"


def test_certificates_to_trust_are_looked_at() -> None:
    """A file that is right is taken."""
    check_ca_bundle(str(Path(botocore.__file__).with_name("cacert.pem")))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(None, "cannot be read", id="missing"),
        pytest.param("", "no PEM certificate", id="empty"),
        pytest.param("trust everybody", "no PEM certificate", id="a text"),
        pytest.param(
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no PEM certificate", id="no certificate"
        ),
    ],
)
def test_a_file_that_is_no_certificate_is_named(tmp_path: Path, content: str | None, reason: str) -> None:
    """With the field, before a connection needs it."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)

    with pytest.raises(ConfigurationError) as refused:
        check_ca_bundle(str(file))

    assert str(refused.value).startswith(f"ca_bundle {str(file)!r} ")
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("region", "partition"), [("us-east-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_the_partition_follows_from_the_region(config: CoreConfig, region: str, partition: str) -> None:
    """So that a pinned key's ARN can be made without asking."""
    assert dataclasses.replace(config, regions=(region,), home_region=region).partition == partition


def test_the_setup_guides_settings_are_the_defaults(config: CoreConfig) -> None:
    """Data keys 300 s and 1000 uses, breaker at 3, 5 retries."""
    defaults = (
        config.data_key_ttl_seconds,
        config.max_encryptions_per_key,
        config.circuit_breaker_threshold,
        config.max_retries,
    )
    assert defaults == (300.0, 1000, 3, 5)
