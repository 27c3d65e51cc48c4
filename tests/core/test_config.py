"""The configuration is refused when it cannot be right, with the name of what is wrong; and never changes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from kms_core import ConfigurationError, CoreConfig, KeyConfig

KEY = KeyConfig(alias="alias/general")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param({"account_id": "12345"}, "account_id", id="short account"),
        pytest.param({"regions": ()}, "regions", id="no region"),
        pytest.param({"regions": ("us-east-1", "us-east-1")}, "regions", id="a region twice"),
        pytest.param({"regions": ("us-east-1", "mars")}, "regions", id="no AWS region"),
        pytest.param({"home_region": "eu-central-1"}, "home_region", id="home elsewhere"),
        pytest.param({"region_preference": ("eu-central-1",)}, "region_preference", id="unknown preference"),
        pytest.param({"endpoints": {"eu-central-1": "https://x"}}, "endpoints", id="unknown endpoint"),
        pytest.param({"keys": {}}, "keys", id="no purpose"),
        pytest.param({"keys": {"Général": KEY}}, "purpose", id="a purpose that is no word"),
        pytest.param({"deadline_seconds": 0.0}, "deadline_seconds", id="no time"),
        pytest.param({"deadline_seconds": float("nan")}, "deadline_seconds", id="no number"),
        pytest.param({"read_timeout_seconds": 90_000.0}, "read_timeout_seconds", id="more than a day"),
        pytest.param({"max_retries": -1}, "max_retries", id="negative"),
        pytest.param({"max_encryptions_per_key": 0}, "max_encryptions_per_key", id="zero uses"),
        pytest.param({"frame_length": 2**31}, "frame_length", id="frame too long for the SDKs"),
    ],
)
def test_a_wrong_value_is_refused_by_name(config: CoreConfig, change: dict[str, Any], named: str) -> None:
    """It is a ValueError too, as callers expect of a value."""
    with pytest.raises(ConfigurationError, match=named) as refused:
        dataclasses.replace(config, **change)
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize("alias", ["general", "alias/", "alias/a b", "arn:aws:kms:us-east-1:123456789012:alias/x"])
def test_an_alias_is_a_name_and_not_an_arn(alias: str) -> None:
    """Each region resolves it for itself."""
    with pytest.raises(ConfigurationError, match="alias"):
        KeyConfig(alias=alias)


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
