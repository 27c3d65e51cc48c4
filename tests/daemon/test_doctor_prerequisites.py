"""`doctor --prerequisites`: what this machine needs, and the variables that mislead."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from daemon_kit import LocalCloud
from ports import nobody

from kms_core.testing import ManualClock
from kms_watchdog.cli import command
from kms_watchdog.config import Settings, load
from kms_watchdog.doctor import prerequisites
from kms_watchdog.doctor.checks import Check, Verdict, bad, good, note, outcome, unknown
from kms_watchdog.doctor.diagnosis import Outcome
from kms_watchdog.doctor.environment import misleading
from kms_watchdog.doctor.prerequisites import aws_cli, extras, python_version, state_folder


def told(environ: Mapping[str, str], settings: Settings, *, there: bool = True) -> dict[str, Verdict]:
    return {check.id: check.verdict for check in misleading(environ, settings, lambda _path: there)}


@pytest.mark.parametrize(
    ("environ", "name", "verdict"),
    [
        ({"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/ParkerFlightServiceRole"}, "AWS_ROLE_ARN", "bad"),
        ({"AWS_ROLE_ARN": "arn", "AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}, "environment", "good"),
        ({"AWS_REGION": "us-west-2"}, "AWS_REGION", "note"),
        ({"AWS_REGION": "us-east-1"}, "environment", "good"),
        ({"AWS_ACCOUNT_ID": "210987654321"}, "AWS_ACCOUNT_ID", "bad"),
        ({"AWS_ACCOUNT_ID": "123456789012"}, "environment", "good"),
        ({"AWS_ENDPOINT_URL": "https://x"}, "AWS_ENDPOINT_URL", "bad"),
        ({"AWS_ENDPOINT_URL_KMS": "https://x"}, "AWS_ENDPOINT_URL_KMS", "bad"),
        ({"AWS_ENDPOINT_URL": "https://x", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, "environment", "good"),
        ({"AWS_STS_REGIONAL_ENDPOINTS": "legacy"}, "AWS_STS_REGIONAL_ENDPOINTS", "bad"),
        ({"HTTPS_PROXY": "http://me:secret@proxy:3128"}, "HTTPS_PROXY", "note"),
        ({"AWS_PROFILE": "x", "AWS_ACCESS_KEY_ID": "AKIA"}, "AWS_PROFILE", "note"),
        ({"NODE_ENV": "production"}, "environment", "good"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else str(value),
)
def test_a_variable_that_misleads(settings: Settings, environ: dict[str, str], name: str, verdict: str) -> None:
    """The setup guide's own among them; one good line if there is none."""
    assert told(environ, settings) == {name: Verdict(verdict)}


def test_a_proxys_password_is_not_shown(settings: Settings) -> None:
    """Nor its user."""
    [check] = misleading({"HTTPS_PROXY": "http://me:secret@proxy:3128"}, settings, lambda _path: True)

    assert check.said == "calls to AWS go through proxy, but for what NO_PROXY names"


def test_certificates_that_are_not_there(settings: Settings) -> None:
    """A path that leads nowhere; one that is there is well."""
    environ = {"AWS_CA_BUNDLE": "/nowhere.pem"}

    assert told(environ, settings, there=False) == {"AWS_CA_BUNDLE": Verdict.BAD}
    assert told(environ, settings) == {"environment": Verdict.GOOD}


def test_an_address_for_all_regions_matters_only_where_none_is_configured(write_config: Callable[..., Path]) -> None:
    """The configuration's own come first."""
    regions = ("us-east-1", "us-west-2", "eu-west-1")
    whole = load(write_config("".join(f'[endpoints.{region}]\nkms = "https://x"\n' for region in regions)))

    assert told({"AWS_ENDPOINT_URL": "https://x"}, whole) == {"environment": Verdict.GOOD}


def test_the_least_python_is_the_packages_own() -> None:
    """Not a number of its own."""
    wanted = importlib.metadata.metadata("kms-watchdog")["Requires-Python"]

    assert wanted == ">=3.11"
    assert python_version((3, 11)).verdict is Verdict.GOOD
    assert (python_version((3, 10)).verdict, python_version((4, 0)).verdict) == (Verdict.BAD, Verdict.GOOD)


def test_an_extra_is_needed_when_the_configuration_says_so(write_config: Callable[..., Path]) -> None:
    """Missing and needed is bad, missing and not needed is a note."""

    def is_installed(name: str) -> bool:
        return "opentelemetry" not in name

    plain, exporting = load(write_config()), load(write_config("[otel]\nenabled = true\n"))

    verdicts = [{check.id: check.verdict for check in extras(one, is_installed)} for one in (plain, exporting)]
    assert [one["extra otel"] for one in verdicts] == [Verdict.NOTE, Verdict.BAD]
    assert {one["extra daemon"] for one in verdicts} == {one["extra drills"] for one in verdicts} == {Verdict.GOOD}


def test_the_state_folder_is_looked_at_and_not_made(tmp_path: Path) -> None:
    """There, to be made, on a full disk, or where a file stands in the way."""
    folder, later = tmp_path / "state", tmp_path / "a" / "b"
    folder.mkdir()
    (tmp_path / "file").write_text("")

    [there], [to_be_made] = list(state_folder(folder)), list(state_folder(later))
    [in_the_way] = state_folder(tmp_path / "file" / "state")
    [full] = state_folder(folder, least_room_bytes=2**60)

    assert (there.verdict, to_be_made.verdict) == (Verdict.GOOD, Verdict.NOTE)
    assert (in_the_way.verdict, full.verdict) == (Verdict.BAD, Verdict.BAD)
    assert full.said.endswith("MiB free")
    assert not later.parent.exists()


def script(folder: Path, text: str) -> None:
    path = folder / "aws"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("text", "verdict", "says"),
    [
        ("echo aws-cli/2.15.0 Python/3.11", Verdict.GOOD, "aws-cli/2.15.0"),
        ("echo aws-cli/1.45.11 Python/3.11", Verdict.NOTE, "those of version 2"),
        ("exit 1", Verdict.NOTE, "those of version 2"),
        (None, Verdict.NOTE, "not found"),
    ],
)
def test_the_aws_cli_is_optional(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, verdict: Verdict, says: str
) -> None:
    """Never bad: the watchdog does not use it."""
    if text is not None:
        script(tmp_path, text)
    monkeypatch.setenv("PATH", str(tmp_path))

    check = aws_cli()

    assert check.verdict is verdict
    assert says in check.said


def test_what_all_checks_mean_together() -> None:
    """One bad one is 1, else one that could not look is 3; notes are nothing wrong."""
    well, strange = [good("a", ""), note("b", "")], unknown("c", "")

    assert outcome(well) is Outcome.NOTHING_WRONG
    assert outcome([*well, strange]) is Outcome.COULD_NOT_TELL
    assert outcome([*well, strange, bad("d", "", "")]) is Outcome.CAUSE_FOUND


def run(config: Path, *words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    found = CliRunner().invoke(command, ["doctor", "--prerequisites", "--json", *words, "--config", str(config)])
    return found.exit_code, {check["id"]: check for check in json.loads(found.stdout)["checks"]}


def test_a_bad_configuration_hides_nothing_else(tmp_path: Path) -> None:
    """Its line is told, and what needs none is checked."""
    (tmp_path / "bad.toml").write_text("[estat]\n")

    code, checks = run(tmp_path / "bad.toml")

    assert code == 1
    assert checks["configuration"]["verdict"] == "bad"
    assert "unknown key" in checks["configuration"]["said"]
    assert checks["python"]["verdict"] == "good"


@pytest.mark.slow
def test_everything_is_reached(cloud_here: LocalCloud, tmp_path: Path) -> None:
    """Credentials of the account, five services where they are needed, the clock; in order."""
    code, checks = run(cloud_here.config(tmp_path, prefix="doctor-prerequisites"))

    verdicts = {name: check["verdict"] for name, check in checks.items()}
    services = {
        f"{service} {region}" for service in ("kms", "sts") for region in ("us-east-1", "us-west-2", "eu-west-1")
    }
    services |= {f"{service} {region}" for service in ("cloudwatch", "sns") for region in ("us-east-1", "us-west-2")}
    assert code == 0
    assert {name for name in verdicts if " " in name} >= services | {"iam us-east-1", "state folder"}
    assert {verdicts[name] for name in services | {"iam us-east-1", "credentials", "clock"}} == {"good"}
    assert checks["credentials"]["said"] == "account 123456789012, no role"


@pytest.mark.slow
def test_what_is_not_reached_is_bad(cloud_here: LocalCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SNS in one region, and credentials of another account."""
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/ParkerFlightServiceRole")
    monkeypatch.delenv("AWS_WEB_IDENTITY_TOKEN_FILE", raising=False)
    config = cloud_here.config(tmp_path, prefix="doctor-unreached")
    gone = f"https://127.0.0.1:{nobody()}"
    text = config.read_text().replace("123456789012", "210987654321")
    sns = cloud_here.endpoints["regions"]["us-west-2"]["sns"]
    config.write_text(text.replace(f'sns = "{sns}"', f'sns = "{gone}"'))

    code, checks = run(config)

    assert code == 1
    assert {name for name, check in checks.items() if check["verdict"] == "bad"} == {
        "AWS_ROLE_ARN",
        "credentials",
        "sns us-west-2",
    }
    assert checks["credentials"]["said"] == "they are of account 123456789012, not 210987654321"


def test_without_an_answer_the_clock_is_not_known(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown, and not well."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    regions = ("us-east-1", "us-west-2", "eu-west-1")
    gone = f"https://127.0.0.1:{nobody()}"
    lines = [f'[endpoints.{region}]\nkms = "{gone}"\niam = "{gone}"\n' for region in regions]
    settings = load(write_config("".join(lines) + "[cloudwatch]\nenabled = false\n"))

    checks: list[Check] = list(prerequisites._Reach(settings, ManualClock(), 30.0).checks())

    verdicts = {check.id: check.verdict for check in checks}
    assert verdicts["clock"] is Verdict.UNKNOWN
    assert {verdicts[f"kms {region}"] for region in regions} == {Verdict.BAD}
    assert verdicts["credentials"] is Verdict.NOTE
