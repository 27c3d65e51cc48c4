"""Where a configuration's values come from: file, estates, `${NAME}`, the guide's variables, and ours; none is lost."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from daemon_kit import BASE
from jsonschema import Draft202012Validator

from kms_core.config import SETTINGS
from kms_watchdog.commands import check_config, dump_config
from kms_watchdog.config import SHAPE, ConfigError, Settings, fingerprint, json_schema, load, load_document
from kms_watchdog.configuring.effective import MASK, as_json, as_toml, effective

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "daemon" / "watchdog.schema.json"
SKIPPED = {".venv", ".git", ".state", "build", "dist"}

TWO = """
[estate]
regions = ["us-east-1", "us-west-2", "eu-west-1"]
primary_region = "us-east-1"

[keys.general]
alias = "alias/general"

[canaries]
interval_seconds = 60

[estates.production.estate]
account_id = "111111111111"
[estates.production.state]
dir = "production"

[estates.staging.estate]
account_id = "222222222222"
home_region = "eu-west-1"
[estates.staging.keys.general]
alias = "alias/general-staging"
[estates.staging.canaries]
interval_seconds = 300
[estates.staging.state]
dir = "staging"
"""


def refusal(path: Path, environ: Mapping[str, str] | None = None, estate: str | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, estate, environ=environ or {})
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_a_text_takes_variables(write_config: Callable[..., Path]) -> None:
    """Whole or in part, in lists too; `$${` is `${` itself."""
    path = write_config(
        '[keys.pii]\nalias = "alias/${STAGE}-pii"\ndescription = "costs $${MUCH}"\nused_by = ["${ROLE}", "Other"]\n'
    )

    key = load(path, environ={"STAGE": "prod", "ROLE": "App"}).keys["pii"]

    assert (key.alias, key.description, key.used_by) == ("alias/prod-pii", "costs ${MUCH}", ("App", "Other"))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param('listen = "${WHERE}"', "http.listen: the variable WHERE is not set", id="not-set"),
        pytest.param('listen = "${9}"', "http.listen: ${ begins no ${NAME}; $${ stands for ${ itself", id="no-name"),
        pytest.param('listen = "a${"', "http.listen: ${ begins no ${NAME}; $${ stands for ${ itself", id="not-ended"),
    ],
)
def test_a_variable_that_cannot_be_taken_is_named(write_config: Callable[..., Path], line: str, says: str) -> None:
    """File, key and variable; a default would be a guess."""
    path = write_config(f"[http]\n{line}\n")

    assert refusal(path) == f"{path}: {says}"


def test_what_a_variable_says_is_checked_as_what_the_file_says(write_config: Callable[..., Path]) -> None:
    """No way around the rules."""
    path = write_config('[http]\nlisten = "${WHERE}"\n')

    said = refusal(path, {"WHERE": "everywhere"})

    assert said == f"{path}: http.listen: should be HOST:PORT, such as 127.0.0.1:9464, not 'everywhere'"


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        pytest.param("HTTP__LISTEN", "127.0.0.1:1", "http.listen", "127.0.0.1:1", id="text"),
        pytest.param("HTTP__LISTEN", '"127.0.0.1:1"', "http.listen", "127.0.0.1:1", id="quoted"),
        pytest.param("ESTATE__ACCOUNT_ID", "999999999999", "estate.account_id", "999999999999", id="digits-are-text"),
        pytest.param("CORE__MAX_RETRIES", "2", "core.max_retries", 2, id="whole"),
        pytest.param("CORE__HEDGING", "true", "core.hedging", True, id="switch"),
        pytest.param("CANARIES__GOLDEN__INTERVAL_SECONDS", "90.5", "canaries.golden.interval_seconds", 90.5, id="deep"),
        pytest.param("CLOUDWATCH__REGIONS", '["eu-west-1"]', "cloudwatch.regions", ["eu-west-1"], id="list"),
        pytest.param("ENDPOINTS__US_EAST_1__KMS", "https://x", "endpoints.us-east-1.kms", "https://x", id="region"),
        pytest.param("KEYS__PII__ALIAS", "alias/pii", "keys.pii.alias", "alias/pii", id="new-table"),
        pytest.param("LOG", '{level = "debug"}', "log.level", "debug", id="table"),
        pytest.param("CLOUDWATCH__PERIOD_SECONDS", "10", "cloudwatch.period_seconds", 10, id="choice-of-numbers"),
    ],
)  # fmt: skip
def test_ours_override_the_file(
    write_config: Callable[..., Path], variable: str, text: str, key: str, value: object
) -> None:
    """A TOML value where one belongs, else the text itself."""
    name = f"KMS_WATCHDOG__{variable}"
    loaded = load_document(write_config('[http]\nlisten = "127.0.0.1:9"\n'), environ={name: text})

    values: object = loaded.settings.model_dump(mode="json")
    for part in key.split("."):
        assert isinstance(values, dict)
        values = values[part]
    assert values == value
    assert str(loaded.document.origin(tuple(key.split(".")))) == f"environment: {name}"


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        pytest.param("KMS_WATCHDOG__HTPP__LISTEN", "unknown key; did you mean KMS_WATCHDOG__HTTP?", id="section"),
        pytest.param(
            "KMS_WATCHDOG__HTTP__LISEN", "unknown key; did you mean KMS_WATCHDOG__HTTP__LISTEN?", id="in-a-section"
        ),
        pytest.param(
            "KMS_WATCHDOG_HTTP__LISTEN",
            "unknown variable; did you mean KMS_WATCHDOG__HTTP__LISTEN?",
            id="one-underscore",
        ),
        pytest.param(
            "KMS_WATCHDG__HTTP__LISTEN", "unknown variable; did you mean KMS_WATCHDOG__HTTP__LISTEN?", id="root"
        ),
        pytest.param(
            "KMS_WATCHDOG_PROMETHEUS__ENABLED",
            "unknown variable; did you mean KMS_WATCHDOG__PROMETHEUS__ENABLED?",
            id="one-underscore-and-long",
        ),
        pytest.param("KMS_WATCHDOG__HTTP__LISTEN__X", "unknown key: http.listen has none below it", id="too-deep"),
    ],
)
def test_a_misspelt_variable_is_refused(write_config: Callable[..., Path], variable: str, hint: str) -> None:
    """At the root too: libraries take it for somebody else's, and the default for what was meant (scale.md §5.5)."""
    assert refusal(write_config(), {variable: "127.0.0.1:1"}) == f"{variable}: {hint}"


def test_a_variable_is_not_expanded_again(write_config: Callable[..., Path]) -> None:
    """What a shell has passed on is meant as it is."""
    environ = {"KMS_WATCHDOG__KEYS__GENERAL__DESCRIPTION": "${HOME} of ${"}

    assert load(write_config(), environ=environ).keys["general"].description == "${HOME} of ${"


def test_variables_of_others_are_nobodys_business(write_config: Callable[..., Path]) -> None:
    """Not even when they have two underscores."""
    environ = {"FOO__BAR": "1", "__CF_USER": "x", "KMS_WATCHDOG_CONFIG": "x", "KMS_WATCHDOG_TEST_RUN": "y"}

    assert load(write_config(), environ=environ) == load(write_config(), environ={})


def test_a_bad_value_of_a_variable_names_the_variable(write_config: Callable[..., Path]) -> None:
    """Not the file, in which it is not."""
    said = refusal(write_config(), {"KMS_WATCHDOG__HTTP__LISTEN": "everywhere"})

    assert said.startswith("KMS_WATCHDOG__HTTP__LISTEN: http.listen: should be HOST:PORT")


def test_a_secret_is_not_in_the_refusal(write_config: Callable[..., Path]) -> None:
    """Nobody reads in a log what was nearly the token."""
    said = refusal(write_config(), {"KMS_WATCHDOG__HTTP__TOKEN": "hunter2"})

    assert "http.token" in said
    assert "hunter2" not in said


def test_the_guides_variables_count_as_in_the_application(write_config: Callable[..., Path]) -> None:
    """The same names, the same units (milliseconds!), over the file's."""
    path = write_config("[core]\nmax_retries = 1\n")

    settings = load(
        path, environ={"KMS_DATA_KEY_TTL_MS": "60000", "KMS_MAX_RETRIES": "3", "KMS_KEY_ALIAS_PII": "alias/p"}
    )

    assert (settings.core.data_key_ttl_seconds, settings.core.max_retries) == (60.0, 3)
    assert settings.keys["pii"].alias == "alias/p"


def test_ours_win_over_the_guides(write_config: Callable[..., Path]) -> None:
    """File, then guide, then ours."""
    environ = {"KMS_MAX_RETRIES": "3", "KMS_WATCHDOG__CORE__MAX_RETRIES": "4"}

    assert load(write_config("[core]\nmax_retries = 1\n"), environ=environ).core.max_retries == 4


def test_every_variable_of_the_application_has_a_place_here(write_config: Callable[..., Path]) -> None:
    """A setting more in the core's table needs no word here."""
    places = {s.field for s in SETTINGS}

    known = {
        *Settings.model_fields["estate"].annotation.model_fields,
        *Settings.model_fields["core"].annotation.model_fields,
    }  # type: ignore[union-attr] # models both

    assert places <= known


def test_a_guides_variable_that_cannot_be_read_is_named(write_config: Callable[..., Path]) -> None:
    """With what it should be."""
    assert refusal(write_config(), {"KMS_MAX_RETRIES": "many"}) == "KMS_MAX_RETRIES must be a whole number, not 'many'"


def test_an_account_is_never_changed_by_the_way(write_config: Callable[..., Path]) -> None:
    """AWS_ACCOUNT_ID is set on many machines for other purposes: what contradicts the file is refused."""
    path = write_config()

    assert load(path, environ={"AWS_ACCOUNT_ID": "123456789012"}).estate.account_id == "123456789012"
    assert "estate.account_id is '123456789012', but AWS_ACCOUNT_ID is '999999999999'" in refusal(
        path, {"AWS_ACCOUNT_ID": "999999999999"}
    )


def test_an_account_that_the_file_leaves_out_is_the_environments(write_config: Callable[..., Path]) -> None:
    """As the setup guide gives it."""
    path = write_config(base=BASE.replace('account_id = "123456789012"\n', ""))

    assert load(path, environ={"AWS_ACCOUNT_ID": "999999999999"}).estate.account_id == "999999999999"
    assert "estate.account_id: missing" in refusal(path)


@pytest.mark.parametrize(
    ("environ", "home"),
    [
        pytest.param({}, "us-east-1", id="none"),
        pytest.param({"AWS_REGION": "eu-west-1"}, "eu-west-1", id="one-of-ours"),
        pytest.param({"AWS_DEFAULT_REGION": "us-west-2"}, "us-west-2", id="boto3s-other-name"),
        pytest.param({"AWS_REGION": "ap-south-1"}, "us-east-1", id="elsewhere"),
        pytest.param(
            {"AWS_REGION": "eu-west-1", "KMS_WATCHDOG__ESTATE__HOME_REGION": "us-west-2"}, "us-west-2", id="ours-wins"
        ),
    ],
)
def test_home_is_where_the_process_runs(write_config: Callable[..., Path], environ: dict[str, str], home: str) -> None:
    """One file for a watchdog in each region; a region that the estate does not have says nothing."""
    assert load(write_config(), environ=environ).home_region == home


def test_paths_of_variables_count_from_where_one_stands(
    write_config: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a shell; those of the file from its folder."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    settings = load(write_config(), environ={"KMS_WATCHDOG__STATE__DIR": "here"})

    assert settings.state.dir == tmp_path / "elsewhere" / "here"


@pytest.mark.parametrize(
    ("estate", "account", "alias", "interval"),
    [("production", "111111111111", "alias/general", 60), ("staging", "222222222222", "alias/general-staging", 300)],
)
def test_an_estate_is_its_tables_over_the_shared_ones(
    write_config: Callable[..., Path], estate: str, account: str, alias: str, interval: float
) -> None:
    """Each key by itself; its name is the table's."""
    settings = load(write_config(base=TWO), estate, environ={})

    assert (settings.estate.name, settings.estate.account_id) == (estate, account)
    assert (settings.keys["general"].alias, settings.canaries.interval_seconds) == (alias, interval)


def test_an_estate_is_chosen_by_a_variable_too(write_config: Callable[..., Path]) -> None:
    """For whoever cannot change the command line; what is on it wins."""
    path, environ = write_config(base=TWO), {"KMS_WATCHDOG_ESTATE": "staging"}

    assert load(path, environ=environ).estate.name == "staging"
    assert load(path, "production", environ=environ).estate.name == "production"


def test_the_only_estate_is_chosen_by_itself(write_config: Callable[..., Path]) -> None:
    """Nobody has to say the obvious."""
    alone = TWO[: TWO.index("[estates.staging.estate]")]

    assert load(write_config(base=alone), environ={}).estate.name == "production"


@pytest.mark.parametrize(
    ("more", "estate", "says"),
    [
        pytest.param("", None, "holds several estates: choose one by --estate, of production, staging", id="none"),
        pytest.param("", "stagging", "estates.stagging: no such estate; did you mean staging?", id="misspelt"),
        pytest.param("", "x", "estates.x: no such estate; there are production, staging", id="unknown"),
        pytest.param(
            "[estates.staging.http]\nlisen = 'x'\n",
            "staging",
            "estates.staging.http.lisen: unknown key; did you mean listen?",
            id="key-in-an-estate",
        ),
        pytest.param("[estates.staging.htpp]\n", "staging", "htpp: unknown key; did you mean http?", id="section"),
        pytest.param("[estates.'a b'.http]\n", "staging", "estates.a b: a name is 1 to 40 of a-z, 0-9 and -", id="x"),
        pytest.param(
            "[estates.third.state]\ndir = 'staging'\n",
            "staging",
            "estates.third.state.dir: the same folder as that of staging: staging",
            id="one-folder-for-two",
        ),
        pytest.param(
            "[estates.third.state]\ndir = './x/../staging/'\n",
            "staging",
            "estates.third.state.dir: the same folder as that of staging: ./x/../staging/",
            id="one-folder-by-two-names",
        ),
    ],
)  # fmt: skip
def test_estates_are_refused_by_name(
    write_config: Callable[..., Path], more: str, estate: str | None, says: str
) -> None:
    """Where it stands in the file."""
    path = write_config(more, base=TWO)

    assert refusal(path, estate=estate) == f"{path}: {says}"


@pytest.mark.parametrize(
    ("base", "says"),
    [
        pytest.param("estates = 3\n", "estates: tables are expected here", id="no-tables"),
        pytest.param("[estates]\nproduction = 3\n", "estates.production: a table is expected here", id="no-table"),
        pytest.param("http = 3\n[estates.a.http]\nlisten = 'x'\n", "http must be a table", id="value-below-a-table"),
    ],
)
def test_shapes_that_are_none_are_refused(write_config: Callable[..., Path], base: str, says: str) -> None:
    """One line, no traceback."""
    assert says in refusal(write_config(base=base))


def test_an_unset_variable_of_another_estate_does_not_matter(write_config: Callable[..., Path]) -> None:
    """Staging has no business with production's secrets; nor does what is overridden."""
    path = write_config('[estates.production.http]\nlisten = "${PRODUCTION}"\n', base=TWO)

    assert load(path, "staging", environ={}).http.listen == "127.0.0.1:9464"
    overridden = load(path, "production", environ={"KMS_WATCHDOG__HTTP__LISTEN": "127.0.0.1:1"})
    assert overridden.http.listen == "127.0.0.1:1"


def test_the_fingerprint_is_of_what_is_in_effect(write_config: Callable[..., Path]) -> None:
    """Comments do not count, a variable does, a secret's own value does not."""
    path = write_config()
    plain, other = load(path, environ={}), load(path, environ={"KMS_WATCHDOG__LOG__LEVEL": "debug"})
    secrets = [load(path, environ={"KMS_WATCHDOG__HTTP__TOKEN": letter * 20}) for letter in "ab"]

    assert fingerprint(plain) == fingerprint(load(write_config("# more"), environ={})) != fingerprint(other)
    assert fingerprint(secrets[0]) == fingerprint(secrets[1]) != fingerprint(plain)


SECRETS = {
    "KMS_WATCHDOG__HTTP__TOKEN": "the-token-nobody-shall-see",
    "KMS_WATCHDOG__HEALTH__DEADMAN_URL": "https://hc.example/the-secret-path",
    "KMS_WATCHDOG__PROMETHEUS__PUSH_URL": "http://user:the-password@127.0.0.1:9091",
    "KMS_WATCHDOG__OTEL__HEADERS": '{authorization = "the-api-key"}',
}


def test_what_is_in_effect_has_its_origins_and_no_secret(write_config: Callable[..., Path]) -> None:
    """As JSON: the default, the file, the variable, and the guide's name for what it means; secrets are masked."""
    path = write_config(
        "[core]\ndataKeyTTL = 60000\n[http]\nlisten = '127.0.0.1:${PORT}'\n"
        "[endpoints.us-east-1]\nkms = 'https://me:the-password@vpce.example'\n"
    )
    loaded = load_document(path, environ={**SECRETS, "PORT": "5", "KMS_WATCHDOG__LOG__LEVEL": "debug"})
    also = {("core", "data_key_ttl_seconds"): (("core", "dataKeyTTL"),)}

    values = loaded.settings.model_dump(mode="json")
    document = as_json(effective(values, loaded.document, SHAPE, also_called=also), loaded.document)

    found = {each["key"]: (each["value"], each["origin"]) for each in document["values"]}
    assert found["http.listen"] == ("127.0.0.1:5", "file: http.listen with ${PORT}")
    assert found["log.level"] == ("debug", "environment: KMS_WATCHDOG__LOG__LEVEL")
    assert found["core.data_key_ttl_seconds"] == (60.0, "file: core.dataKeyTTL")
    assert found["core.max_retries"] == (5, "default")
    assert found["endpoints.us-east-1.kms"][0] == f"https://{MASK}@vpce.example"
    assert found["http.token"] == (MASK, "environment: KMS_WATCHDOG__HTTP__TOKEN")
    assert not re.search(r"nobody-shall-see|secret-path|the-password|the-api-key", json.dumps(document))


def test_a_secret_is_masked_whoever_forgot_to(write_config: Callable[..., Path]) -> None:
    """By the schema's word for it, whatever the values come as."""
    document = load_document(write_config(), environ={}).document

    (token,) = effective({"http": {"token": "the-token"}}, document, SHAPE, also_called={})

    assert token.value == MASK


def test_the_dump_is_toml_that_means_the_same(write_config: Callable[..., Path]) -> None:
    """Every value of it, read again, is the one in effect."""
    loaded = load_document(write_config("[endpoints.us-east-1]\nkms = 'https://x'\n"), environ={})
    values = loaded.settings.model_dump(mode="json")

    text = "\n".join(as_toml(effective(values, loaded.document, SHAPE, also_called={})))

    (again := write_config(base=text, name="again.toml")).resolve()
    assert load(again, environ={}) == loaded.settings


def run(command: click.Command, *arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(command, arguments, env=environ)


def test_dump_config_prints_no_secret_anywhere(write_config: Callable[..., Path]) -> None:
    """The command as a person runs it, on stdout and stderr, as TOML and as JSON."""
    variables = {**SECRETS, "KMS_WATCHDOG_CONFIG": str(write_config())}

    printed = [run(dump_config.command, *options, **variables) for options in ((), ("--json",))]

    assert [one.exit_code for one in printed] == [0, 0]
    assert "# environment: KMS_WATCHDOG__HTTP__TOKEN" in printed[0].output
    assert not re.search(
        r"nobody-shall-see|secret-path|the-password|the-api-key", printed[0].output + printed[1].output
    )


def test_check_config_checks_every_estate_when_none_is_chosen(write_config: Callable[..., Path]) -> None:
    """A file is good when all of it is."""
    path = write_config(base=TWO)

    both = run(check_config.command, "--config", str(path))
    one = run(check_config.command, "--config", str(path), "--estate", "staging")
    write_config("[estates.staging.http]\nlisen = 'x'\n", base=TWO)
    bad = run(check_config.command, "--config", str(path))

    assert re.findall(r", estate (\w+): good", both.output) == ["production", "staging"]
    assert re.findall(r", estate (\w+): good", one.output) == ["staging"]
    assert bad.exit_code == 2
    assert bad.output.splitlines()[-1].endswith("estates.staging.http.lisen: unknown key; did you mean listen?")


def test_the_published_schema_is_the_programs() -> None:
    """What editors complete is what the program takes.

    After a change: `kms-watchdog dump-config --schema > daemon/watchdog.schema.json`.
    """
    assert json.loads(SCHEMA.read_text()) == json_schema()


def configurations() -> list[Path]:
    """Every TOML file of the repository that is a configuration."""
    found = [path for path in ROOT.rglob("*.toml") if not SKIPPED & set(path.relative_to(ROOT).parts)]
    return [path for path in found if {"estate", "estates"} & tomllib.loads(path.read_text()).keys()]


def snippets() -> list[tuple[str, str]]:
    """Every whole configuration in the repository's prose."""
    texts = [path for path in ROOT.rglob("*.md") if not SKIPPED & set(path.relative_to(ROOT).parts)]
    blocks = [
        (path, block) for path in texts for block in re.findall(r"```toml\n(.*?)```", path.read_text(), re.DOTALL)
    ]
    return [
        (str(path.relative_to(ROOT)), block) for path, block in blocks if re.search(r"^\[estate", block, re.MULTILINE)
    ]


def test_every_example_is_loaded(tmp_path: Path) -> None:
    """What users copy is good: files, and whole configurations in prose; by the schema too."""
    validator = Draft202012Validator(json_schema())
    checked = []
    for path in configurations():
        tables = tomllib.loads(path.read_text())
        (tmp_path / "x.toml").write_text(path.read_text().replace('ca_bundle = "/aws/ca.pem"', ""))
        for estate in tables.get("estates", {None: None}):
            load(tmp_path / "x.toml", estate, environ={})
            checked.append(path.name)
        assert list(validator.iter_errors(tables)) == []
    for _, block in snippets():
        (tmp_path / "y.toml").write_text(block)
        for estate in tomllib.loads(block).get("estates", {None: None}):
            load(tmp_path / "y.toml", estate, environ={})
        assert list(validator.iter_errors(tomllib.loads(block))) == []

    assert {"watchdog.example.toml", "watchdog.toml"} <= set(checked)


@pytest.mark.parametrize(
    ("document", "good"),
    [
        pytest.param(BASE, True, id="base"),
        pytest.param(TWO, True, id="estates"),
        pytest.param(BASE + "[http]\nlisten = '${WHERE}'\n", True, id="variable"),
        pytest.param(BASE + "[core]\ndataKeyTTL = 1\n", True, id="guides-name"),
        pytest.param(BASE + "[http]\nlisten = 'everywhere'\n", False, id="pattern"),
        pytest.param(BASE + "[http]\nlisen = 'x'\n", False, id="unknown-key"),
        pytest.param(BASE.replace('account_id = "123456789012"\n', ""), False, id="missing"),
        pytest.param(TWO + "[estates.staging.http]\nlisen = 'x'\n", False, id="unknown-key-in-an-estate"),
    ],
)
def test_the_schema_tells_good_from_bad(document: str, good: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """As the program does, as far as a schema can."""
    assert Draft202012Validator(json_schema()).is_valid(tomllib.loads(document)) is good
