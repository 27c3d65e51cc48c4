"""`kms-local configuration` and `kms-local roles`: what leads from a running server to a watchdog by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kms_local.configuration_command import command as configuration
from kms_local.roles_command import command as roles
from kms_local.testing import LocalAws, start_local_aws
from kms_watchdog.config import load
from kms_watchdog.estate.role_policies import Rendering, account_details


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server of two regions, the first of which is not the usual one, and no Toxiproxy."""
    directory = tmp_path_factory.mktemp("by-hand")
    with start_local_aws(directory, flags=("--regions", "eu-west-1,us-west-2", "--no-toxiproxy")) as made:
        yield made


@pytest.fixture
def config(server: LocalAws, tmp_path: Path) -> Path:
    told = CliRunner().invoke(configuration, ["--dir", str(server.directory)])
    assert told.exit_code == 0
    path = tmp_path / "watchdog.toml"
    path.write_text(told.stdout, encoding="utf-8")
    return path


def test_the_configuration_leads_to_the_server(server: LocalAws, config: Path) -> None:
    """An ordinary file: the server's regions, its first one the primary; state and alarms beside the file."""
    settings = load(config)

    assert settings.estate.regions == ("eu-west-1", "us-west-2")
    assert settings.estate.primary_region == "eu-west-1"
    assert settings.endpoints["us-west-2"].kms == server.endpoints["regions"]["us-west-2"]["kms"]
    assert settings.state.dir == config.parent / "state"
    assert settings.canaries.alarm_path.definitions == config.parent / "alarms"
    assert settings.canaries.cold_connection.certificate_days == 1


def test_roles_are_handed_over(server: LocalAws, config: Path) -> None:
    """From standard input or a file; each is named, and has credentials from then on."""
    details = account_details(
        Rendering(settings=load(config), key_ids=dict.fromkeys(("general", "pii", "payment"), "k"))
    )
    file = config.with_name("roles.json")
    file.write_text(json.dumps(details), encoding="utf-8")

    by_file = CliRunner().invoke(roles, ["--dir", str(server.directory), str(file)])
    by_pipe = CliRunner().invoke(roles, ["--dir", str(server.directory)], input=file.read_text())

    names = ["ParkerFlightServiceRole", "ParkerFlightPaymentRole", "KmsWatchdogRole", "KmsDrillRole"]
    assert (by_file.exit_code, by_file.stdout.splitlines()) == (0, names)
    assert (by_pipe.exit_code, by_pipe.stdout.splitlines()) == (0, names)
    assert "[KmsDrillRole]" in (server.directory / "credentials").read_text()


@pytest.mark.parametrize(
    ("told", "code", "says"),
    [
        pytest.param("", 2, "not JSON", id="nothing"),
        pytest.param("{", 2, "not JSON", id="half"),
        pytest.param('{"RoleDetailList": [{"RoleName": 1}]}', 1, "kms-local roles: ", id="no-role"),
    ],
)
def test_what_is_no_list_of_roles_is_told(server: LocalAws, told: str, code: int, says: str) -> None:
    """One line; a failed `provision policies` in front of the pipe leaves nothing to read."""
    done = CliRunner().invoke(roles, ["--dir", str(server.directory)], input=told)

    assert (done.exit_code, len(done.stderr.splitlines())) == (code, 1)
    assert says in done.stderr


def test_without_a_server_both_are_2(tmp_path: Path) -> None:
    """And say where they looked."""
    for command in (configuration, roles):
        done = CliRunner().invoke(command, ["--dir", str(tmp_path)], input="{}")

        assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
        assert f"no server runs in {tmp_path}" in done.stderr
