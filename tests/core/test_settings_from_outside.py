"""The environment and the TOML file mean what the setup guide says; a test a row."""

from __future__ import annotations

import re
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
    pytest.param(
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "/var/run/token",
        "web_identity_token_file",
        "/var/run/token",
        id="AWS_WEB_IDENTITY_TOKEN_FILE",
    ),
    pytest.param("KMS_REGIONS", "us-west-2, us-east-1", "regions", ("us-west-2", "us-east-1"), id="KMS_REGIONS"),
    pytest.param("KMS_REGION_PREFERENCE", "eu-west-1", "region_preference", ("eu-west-1",), id="KMS_REGION_PREFERENCE"),
    pytest.param("KMS_PRIMARY_REGION", "us-east-1", "primary_region", "us-east-1", id="KMS_PRIMARY_REGION"),
    pytest.param("KMS_DATA_KEY_TTL_MS", "60000", "data_key_ttl_seconds", 60.0, id="KMS_DATA_KEY_TTL_MS"),
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
    pytest.param("KMS_HEDGING", "true", "hedging", True, id="KMS_HEDGING"),
    pytest.param("KMS_STALE_IF_UNAVAILABLE", "1", "stale_if_unavailable", True, id="KMS_STALE_IF_UNAVAILABLE"),
    pytest.param(
        "KMS_FAILOVER_ON_ACCESS_DENIED", "true", "failover_on_access_denied", True, id="KMS_FAILOVER_ON_ACCESS_DENIED"
    ),
    pytest.param("KMS_EDK_ARN", "primary", "edk_arn", "primary", id="KMS_EDK_ARN"),
    pytest.param("KMS_VERIFY_ACCOUNT", "false", "verify_account", False, id="KMS_VERIFY_ACCOUNT"),
    pytest.param("KMS_CA_BUNDLE", "/etc/ca.pem", "ca_bundle", "/etc/ca.pem", id="KMS_CA_BUNDLE"),
]

BESIDE = {"AWS_WEB_IDENTITY_TOKEN_FILE": {"AWS_ROLE_ARN": ROLE}, "KMS_EDK_ARN": {"KMS_PRIMARY_REGION": "us-east-1"}}
"""What a variable needs beside it."""


@pytest.mark.parametrize(("variable", "text", "field", "value"), ROWS)
def test_a_variable_sets_its_field(variable: str, text: str, field: str, value: Any) -> None:
    """And in that unit."""
    assert getattr(CoreConfig.from_env(GIVEN | BESIDE.get(variable, {}) | {variable: text}), field) == value


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
        pytest.param({"KMS_KEY_ID_LEDGER": "mrk-" + "0" * 32}, "KMS_KEY_ALIAS_LEDGER", id="a key without an alias"),
        pytest.param(
            {"KMS_DATA_KEY_TTL_MS": "0"},
            "KMS_DATA_KEY_TTL_MS: data_key_ttl_seconds must be above 0 and at most a day, not 0.0",
            id="out of range",
        ),
        pytest.param({"AWS_ACCOUNT_ID": "12"}, "AWS_ACCOUNT_ID: account_id must be", id="short account"),
        pytest.param({"AWS_REGION": "mars"}, "AWS_REGION: home_region must be", id="no AWS region"),
        pytest.param(
            {"AWS_REGION": "", "AWS_DEFAULT_REGION": "mars"},
            "AWS_DEFAULT_REGION: home_region must be",
            id="in its place",
        ),
        pytest.param({"AWS_ROLE_ARN": "ServiceRole"}, "AWS_ROLE_ARN: role_arn must be", id="a role's name"),
        pytest.param({"KMS_REGIONS": ","}, "KMS_REGIONS: regions must name at least one", id="no regions"),
        pytest.param(
            {"KMS_REGION_PREFERENCE": "ap-south-1"},
            "KMS_REGION_PREFERENCE: region_preference names",
            id="unknown region",
        ),
        pytest.param({"KMS_EDK_ARN": "both"}, "KMS_EDK_ARN: edk_arn must be response or primary", id="no such ARN"),
        pytest.param({"KMS_EDK_ARN": "primary"}, "KMS_EDK_ARN: edk_arn must not be primary", id="no primary"),
        pytest.param(
            {"KMS_KEY_ALIAS_PII": "pii"},
            "KMS_KEY_ALIAS_PII: keys.pii.alias must be alias/NAME of letters, digits and /_-, not 'pii'",
            id="no alias",
        ),
        pytest.param({"KMS_KEY_ID_PII": "mrk-1"}, "KMS_KEY_ID_PII: keys.pii.key_id must be mrk-", id="no key id"),
        pytest.param({"NODE_ENV": "my own"}, "NODE_ENV: keys.general.alias must be", id="no end of an alias"),
        pytest.param(
            {"KMS_KEY_ALIAS_PII": "alias/x", "KMS_KEY_ALIAS_PAYMENT": "alias/x"},
            "KMS_KEY_ALIAS_PAYMENT: keys.payment.alias is the same alias as that of pii",
            id="one alias twice",
        ),
        pytest.param({"KMS_KEY_ALIAS_": "alias/x"}, "KMS_KEY_ALIAS_: keys. is no purpose", id="no purpose"),
        pytest.param({"KMS_PURPOSES": "PII"}, "KMS_PURPOSES: keys.PII is no purpose", id="no word"),
        pytest.param({"KMS_PURPOSES": "a b"}, "KMS_PURPOSES: keys.a b.alias must be", id="no comma"),
        pytest.param({"KMS_PURPOSES": ","}, "KMS_PURPOSES: keys must name at least one purpose", id="no purposes"),
        pytest.param(
            {"KMS_PURPOSES": "general", "KMS_KEY_ALIAS_PII": "alias/pii"},
            "KMS_KEY_ALIAS_PII is set, but KMS_PURPOSES does not list pii",
            id="a key of a purpose that is not listed",
        ),
    ],
)
def test_what_cannot_be_used_is_named(changes: dict[str, str], named: str) -> None:
    """As it is called outside, and at once, not at the first call."""
    with pytest.raises(ConfigurationError) as refused:
        CoreConfig.from_env(GIVEN | changes)
    assert str(refused.value).startswith(named)


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


def test_a_service_lists_the_purposes_it_may_use() -> None:
    """It need not be allowed the others' keys; one that is new has its alias as the others have."""
    listed = {"KMS_PURPOSES": "pii, ledger", "NODE_ENV": "staging", "KMS_KEY_ALIAS_PII": "alias/mine"}

    config = CoreConfig.from_env(GIVEN | listed)

    aliases = {purpose: key.alias for purpose, key in config.keys.items()}
    assert aliases == {"pii": "alias/mine", "ledger": "alias/parker-flight-ledger-staging"}


def test_a_role_with_a_token_file_is_assumed_with_it() -> None:
    """As on EKS; the core asks STS itself, in whichever region answers."""
    config = CoreConfig.from_env(GIVEN | {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token"})

    assert (config.role_arn, config.web_identity_token_file) == (ROLE, "/var/run/token")


def test_a_token_file_without_a_role_says_nothing() -> None:
    """Other programs in the container may have it for themselves."""
    config = CoreConfig.from_env(GIVEN | {"AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token"})

    assert config.web_identity_token_file is None


def test_the_process_may_run_where_no_keys_are() -> None:
    """`AWS_REGION` is set by the platform."""
    config = CoreConfig.from_env(GIVEN | {"AWS_REGION": "us-east-2"})

    assert config.home_region == "us-east-2"
    assert config.region_order == ("us-east-1", "us-west-2", "eu-west-1")


def test_the_product_s_own_file_is_read() -> None:
    """The example that the daemon reads."""
    config = CoreConfig.from_toml(ROOT / "daemon" / "watchdog.example.toml")

    assert config.account_id == "123456789012"
    assert config.home_region == "us-east-1"
    assert set(config.keys) == {"general", "pii", "payment"}
    assert config.keys["payment"].strict_key_state
    assert config.verify_account, "as from the environment"


def test_keys_of_other_commands_are_theirs(tmp_path: Path) -> None:
    """Every line of the example is taken, those that it shows as comments too."""
    example = (ROOT / "daemon" / "watchdog.example.toml").read_text()
    file = tmp_path / "watchdog.toml"
    file.write_text(re.sub(r"^# (\[|\w+ = )", r"\1", example, flags=re.MULTILINE))

    config = CoreConfig.from_toml(file)

    assert "drill_role = " in file.read_text()
    assert config.keys["payment"].key_id is not None
    assert config.endpoints.keys() == {"us-east-1"}


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
        pytest.param(
            ESTATE + "max_retrys = 2", "core.max_retrys: unknown key; did you mean core.max_retries?", id="misspelt"
        ),
        pytest.param(ESTATE + "colour = 2", "core.colour: unknown key", id="unknown"),
        pytest.param(
            ESTATE + "account_id = 'x'", "core.account_id: unknown key; did you mean estate.account_id?", id="elsewhere"
        ),
        pytest.param(ESTATE + "max_retries = 'two'", "core.max_retries must be a whole number, not 'two'", id="text"),
        pytest.param(
            ESTATE + "dataKeyTTL = 'two'", "core.dataKeyTTL: data_key_ttl_seconds must be a number", id="guide's text"
        ),
        pytest.param(ESTATE + "dataKeyTTL = 0", "core.dataKeyTTL: data_key_ttl_seconds must be above 0", id="guide's"),
        pytest.param(ESTATE + "dataKeyTTL = 1\ndata_key_ttl_seconds = 1", "core.data_key_ttl_seconds: ", id="twice"),
        pytest.param(
            ESTATE + "web_identity_token_file = 'x'", "core.web_identity_token_file needs role_arn", id="role"
        ),
        pytest.param(ESTATE + "role_arn = 'x'", "core.role_arn must be arn:aws:iam", id="no ARN"),
        pytest.param(ESTATE + "verify_account = 'no'", "core.verify_account must be true or false", id="no switch"),
        pytest.param("[keys.pii]\nalias = 'alias/pii'", "[estate] is missing", id="no estate"),
        pytest.param("estate = 3", "estate must be a table, not 3", id="estate no table"),
        pytest.param("[estate]\nregions = ['us-east-1']", "estate.account_id is missing", id="no account"),
        pytest.param("[estate", "not valid TOML", id="no TOML"),
        pytest.param(ESTATE.replace("[core]", "[[core]]"), "core must be a table, not [{}]", id="list of tables"),
        pytest.param(
            ESTATE.replace("endpoints.us-east-1]", "[endpoints]]"), "endpoints must be a table", id="list of endpoints"
        ),
        pytest.param(
            "endpoints.us-east-1 = 'x'" + ESTATE.replace("endpoints.us-east-1", "endpoints.us-west-2"),
            "endpoints.us-east-1 must be a table, not 'x'",
            id="an endpoint of no service",
        ),
        pytest.param(ESTATE.replace("kms =", "kmss ="), "endpoints.us-east-1.kmss: unknown key", id="service misspelt"),
        pytest.param(
            ESTATE.replace("https://127.0.0.1:5001", "localhost:3"),
            "endpoints.us-east-1.kms must be https://HOST",
            id="no URL",
        ),
        pytest.param(
            ESTATE.replace('"https://127.0.0.1:5002"', "3"),
            "endpoints.us-east-1.sts must be https://HOST",
            id="no text",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(tmp_path: Path, text: str, named: str) -> None:
    """By the path of what is wrong, after the file's."""
    file = tmp_path / "watchdog.toml"
    file.write_text(text)

    with pytest.raises(ConfigurationError) as refused:
        CoreConfig.from_toml(file)
    assert str(refused.value).startswith(f"{file}: {named}")


@pytest.mark.parametrize(
    ("line", "instead", "named"),
    [
        pytest.param(
            'ca_bundle = "ca.pem"',
            f"role_arn = '{ROLE}'",
            "estate.role_arn: unknown key; did you mean core.role_arn?",
            id="what belongs under [core]",
        ),
        pytest.param(
            "home_region =", "home_regoin =", "estate.home_regoin: unknown key; did you mean estate.home_region?",
            id="misspelt",
        ),
        pytest.param(
            'regions = ["us-east-1", "us-west-2"]', "regions = 1", "estate.regions must be a sequence", id="regions"
        ),
        pytest.param(
            'regions = ["us-east-1", "us-west-2"]\nhome_region = "us-west-2"', "regions = 'us-east-1'",
            "estate.regions must be a sequence of strings, not 'us-east-1'", id="regions as text",
        ),
        pytest.param('"us-west-2"\nca', "''\nca", "estate.home_region must be named as AWS does", id="home"),
        pytest.param('"123456789012"', "123456789012", "estate.account_id must be a string, not 1234", id="account"),
        pytest.param('ca_bundle = "ca.pem"', "ca_bundle = 3", "estate.ca_bundle must be a string, not 3", id="file"),
        pytest.param('"ca.pem"', "'~nobody-has-this-name/x'", "'~nobody-has-this-name/x' names no folder", id="folder"),
        pytest.param("[keys.pii]", "[[keys.pii]]", "keys.pii must be a table", id="a list of keys"),
        pytest.param("[keys.pii]", "[keys]\npii = 'x'\n[keys.b]", "keys.pii must be a table, not 'x'", id="no table"),
        pytest.param("[keys.pii]", "[kes.pii]", "[keys] is missing", id="no keys"),
        pytest.param('alias = "alias/pii"', "", "keys.pii.alias is missing", id="a key without an alias"),
        pytest.param('"alias/pii"', "'pii'", "keys.pii.alias must be alias/NAME", id="no alias"),
        pytest.param('"alias/pii"', "3", "keys.pii.alias must be a string, not 3", id="an alias that is a number"),
        pytest.param(
            "used_by", "strict_key_state = 0\nused_by", "keys.pii.strict_key_state must be true or false, not 0",
            id="a number for a switch",
        ),
        pytest.param(
            "used_by", "strict_key_state = 'false'\nused_by", "keys.pii.strict_key_state must be true or false",
            id="a text for a switch",
        ),
        pytest.param(
            "used_by", "strict_key_sate = true\nused_by",
            "keys.pii.strict_key_sate: unknown key; did you mean keys.pii.strict_key_state?", id="a misspelt switch",
        ),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_used_is_refused_with_its_path(
    tmp_path: Path, line: str, instead: str, named: str
) -> None:
    """In the tables that other commands share, too."""
    file = tmp_path / "watchdog.toml"
    file.write_text(ESTATE.replace(line, instead, 1))

    with pytest.raises(ConfigurationError) as refused:
        CoreConfig.from_toml(file)
    assert str(refused.value).startswith(f"{file}: {named}")


def test_the_file_says_whose_credentials(tmp_path: Path) -> None:
    """A role, a token's file from the file's folder, and whether STS is asked: by default it is."""
    file = tmp_path / "watchdog.toml"
    file.write_text(ESTATE)
    assert CoreConfig.from_toml(file).verify_account

    file.write_text(ESTATE + f"role_arn = '{ROLE}'\nweb_identity_token_file = 'token'\nverify_account = false\n")
    config = CoreConfig.from_toml(file)

    assert (config.role_arn, config.verify_account) == (ROLE, False)
    assert config.web_identity_token_file == str(tmp_path / "token")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the system's own word for why."""
    with pytest.raises(ConfigurationError, match=r"absent\.toml"):
        CoreConfig.from_toml(tmp_path / "absent.toml")
