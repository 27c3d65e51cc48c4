"""The environment and the TOML file mean what the setup guide says; a test a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kms_core import ConfigurationError, CoreConfig
from kms_core._settings import SETTINGS

GIVEN = {"AWS_ACCOUNT_ID": "123456789012", "AWS_REGION": "us-west-2"}
ROLE = "arn:aws:iam::123456789012:role/ParkerFlightServiceRole"
ROOT = Path(__file__).parents[2]

ROWS = [
    pytest.param("AWS_ACCOUNT_ID", "210987654321", "account_id", "210987654321", id="AWS_ACCOUNT_ID"),
    pytest.param("AWS_REGION", "eu-west-1", "home_region", "eu-west-1", id="AWS_REGION"),
    pytest.param("AWS_ROLE_ARN", ROLE, "role_arn", ROLE, id="AWS_ROLE_ARN"),
    pytest.param("KMS_REGIONS", "us-west-2, us-east-1", "regions", ("us-west-2", "us-east-1"), id="KMS_REGIONS"),
    pytest.param("KMS_REGION_PREFERENCE", "eu-west-1", "region_preference", ("eu-west-1",), id="KMS_REGION_PREFERENCE"),
    pytest.param("KMS_DATA_KEY_TTL_MS", "300000", "data_key_ttl_seconds", 300.0, id="KMS_DATA_KEY_TTL_MS"),
    pytest.param("KMS_MAX_ENCRYPTIONS_PER_KEY", "10", "max_encryptions_per_key", 10, id="KMS_MAX_ENCRYPTIONS_PER_KEY"),
    pytest.param(
        "KMS_CIRCUIT_BREAKER_THRESHOLD", "4", "circuit_breaker_threshold", 4, id="KMS_CIRCUIT_BREAKER_THRESHOLD"
    ),
    pytest.param("KMS_MAX_RETRIES", "2", "max_retries", 2, id="KMS_MAX_RETRIES"),
    pytest.param("KMS_DEADLINE_SECONDS", "4.5", "deadline_seconds", 4.5, id="KMS_DEADLINE_SECONDS"),
    pytest.param("KMS_CONNECT_TIMEOUT_SECONDS", "2", "connect_timeout_seconds", 2.0, id="KMS_CONNECT_TIMEOUT_SECONDS"),
    pytest.param("KMS_READ_TIMEOUT_SECONDS", "3", "read_timeout_seconds", 3.0, id="KMS_READ_TIMEOUT_SECONDS"),
    pytest.param("KMS_ATTEMPT_TIMEOUT_SECONDS", "4", "attempt_timeout_seconds", 4.0, id="KMS_ATTEMPT_TIMEOUT_SECONDS"),
    pytest.param("KMS_BREAKER_OPEN_SECONDS", "7", "breaker_open_seconds", 7.0, id="KMS_BREAKER_OPEN_SECONDS"),
    pytest.param("KMS_SLOW_CALL_SECONDS", "0.5", "slow_call_seconds", 0.5, id="KMS_SLOW_CALL_SECONDS"),
    pytest.param("KMS_VERIFY_ACCOUNT", "false", "verify_account", False, id="KMS_VERIFY_ACCOUNT"),
    pytest.param("KMS_CA_BUNDLE", "/etc/ca.pem", "ca_bundle", "/etc/ca.pem", id="KMS_CA_BUNDLE"),
]


@pytest.mark.parametrize(("variable", "text", "field", "value"), ROWS)
def test_a_variable_sets_its_field(variable: str, text: str, field: str, value: Any) -> None:
    """And in that unit."""
    assert getattr(CoreConfig.from_env(GIVEN | {variable: text}), field) == value


def test_no_row_is_untested() -> None:
    """The table and the tests above name the same variables."""
    assert {setting.variable for setting in SETTINGS} == {row.id for row in ROWS}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        pytest.param({"AWS_ACCOUNT_ID": ""}, "AWS_ACCOUNT_ID", id="no account"),
        pytest.param({"AWS_REGION": ""}, "AWS_REGION", id="no region"),
        pytest.param({"KMS_MAX_RETRIES": "many"}, "KMS_MAX_RETRIES", id="no number"),
        pytest.param({"KMS_DATA_KEY_TTL_MS": "nan"}, "KMS_DATA_KEY_TTL_MS", id="not a number"),
        pytest.param({"KMS_VERIFY_ACCOUNT": "perhaps"}, "KMS_VERIFY_ACCOUNT", id="no switch"),
        pytest.param({"AWS_ROLE_ARN": "ParkerFlightServiceRole"}, "role_arn", id="a role's name"),
        pytest.param({"AWS_REGION": "ap-south-1"}, "home_region", id="a region without the keys"),
        pytest.param({"KMS_KEY_ID_LEDGER": "mrk-" + "0" * 32}, "KMS_KEY_ALIAS_LEDGER", id="a key without an alias"),
    ],
)
def test_what_cannot_be_used_is_named(changes: dict[str, str], named: str) -> None:
    """At once, not at the first call."""
    with pytest.raises(ConfigurationError, match=named):
        CoreConfig.from_env(GIVEN | changes)


def test_the_guides_environment_is_enough() -> None:
    """Its variables give its estate, with its defaults; where the process runs is not where the primaries are."""
    config = CoreConfig.from_env(GIVEN | {"NODE_ENV": "production"})

    assert config.regions == ("us-east-1", "us-west-2", "eu-west-1")
    assert config.region_order[0] == config.home_region == "us-west-2"
    assert {name: key.alias for name, key in config.keys.items()} == {
        purpose: f"alias/parker-flight-{purpose}-production" for purpose in ("general", "pii", "payment")
    }
    assert (config.data_key_ttl_seconds, config.max_encryptions_per_key) == (300.0, 1000)
    assert (config.circuit_breaker_threshold, config.max_retries) == (3, 5)
    assert config.verify_account


@pytest.mark.parametrize("variable", ["NODE_ENV", "ENVIRONMENT"])
def test_the_environment_is_the_aliases_suffix(variable: str) -> None:
    """So that staging never touches production's keys."""
    config = CoreConfig.from_env(GIVEN | {variable: "staging"})

    assert config.keys["pii"].alias == "alias/parker-flight-pii-staging"


def test_a_purposes_own_alias_and_key_id_win() -> None:
    """And a purpose may be added."""
    key_id = "mrk-" + "a" * 32
    added = {"KMS_KEY_ALIAS_PII": "alias/mine", "KMS_KEY_ID_PII": key_id, "KMS_KEY_ALIAS_LEDGER": "alias/ledger"}

    config = CoreConfig.from_env(GIVEN | added)

    assert (config.keys["pii"].alias, config.keys["pii"].key_id) == ("alias/mine", key_id)
    assert config.keys["ledger"].alias == "alias/ledger"


def test_a_role_with_a_token_file_is_left_to_boto3() -> None:
    """It assumes the role by the token itself; assuming it again would be refused."""
    given = GIVEN | {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token"}

    assert CoreConfig.from_env(given).role_arn is None


def test_the_product_s_own_file_is_read() -> None:
    """The example that the daemon reads."""
    config = CoreConfig.from_toml(ROOT / "daemon" / "watchdog.example.toml")

    assert config.account_id == "123456789012"
    assert config.home_region == "us-east-1"
    assert set(config.keys) == {"general", "pii", "payment"}
    assert config.keys["payment"].strict_key_state


ESTATE = """
[estate]
account_id = "123456789012"
regions = ["us-east-1", "us-west-2"]
home_region = "us-west-2"
ca_bundle = "ca.pem"
[keys.pii]
alias = "alias/pii"
used_by = ["SomeRole"]
[endpoints.us-east-1]
kms = "https://127.0.0.1:5001"
sts = "https://127.0.0.1:5002"
cloudwatch = "https://127.0.0.1:5003"
[core]
"""


def test_the_files_tables_become_fields(tmp_path: Path) -> None:
    """Endpoints by service, paths from the file's folder, the guide's names beside our own."""
    file = tmp_path / "watchdog.toml"
    file.write_text(
        ESTATE + "dataKeyTTL = 60000\nmax_retries = 2\nregion_preference = ['us-east-1']\nframe_length = 4096\n"
    )

    config = CoreConfig.from_toml(file)

    assert config.home_region == "us-west-2"
    assert config.endpoints == {"us-east-1": "https://127.0.0.1:5001"}
    assert config.sts_endpoints == {"us-east-1": "https://127.0.0.1:5002"}
    assert config.ca_bundle == str(tmp_path / "ca.pem")
    assert (config.data_key_ttl_seconds, config.max_retries) == (60.0, 2)
    assert config.region_preference == ("us-east-1",)
    assert config.frame_length == 4096, "any other field of the core's may stand there too"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param(ESTATE + "max_retrys = 2", "did you mean max_retries", id="misspelt"),
        pytest.param(ESTATE + "max_retries = 'two'", "max_retries", id="a text for a number"),
        pytest.param(ESTATE + "role_arn = 'x'", "unknown key", id="what belongs elsewhere"),
        pytest.param(ESTATE + "dataKeyTTL = 1000\ndata_key_ttl_seconds = 1", "twice", id="given twice"),
        pytest.param("[keys.pii]\nalias = 'alias/pii'", "estate", id="no estate"),
        pytest.param(ESTATE.replace('alias = "alias/pii"', ""), "alias", id="a key without an alias"),
        pytest.param("[estate", "TOML", id="no TOML"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(tmp_path: Path, text: str, named: str) -> None:
    """By the name of what is wrong."""
    file = tmp_path / "watchdog.toml"
    file.write_text(text)

    with pytest.raises(ConfigurationError, match=named):
        CoreConfig.from_toml(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the system's own word for why."""
    with pytest.raises(ConfigurationError, match=r"absent\.toml"):
        CoreConfig.from_toml(tmp_path / "absent.toml")
