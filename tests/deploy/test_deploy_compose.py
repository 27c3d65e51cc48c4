"""docker-compose.yml as docker compose itself reads it: profiles, order, health, and commands that our CLIs take."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from typing import Any

import click
import pytest
from deploy_kit import ROOT, checker

from kms_watchdog.config import load
from kms_watchdog.deploying import container

OURS = "kms-watchdog:local"
PROFILES = {"local": ("local", "drill"), "real": ("real", "drill-on-aws")}
GROUPS = {
    "kms-watchdog": "kms_watchdog.cli:command",
    "kms-chaos": "kms_chaos.cli:cli",
    "kms-alarms": "kms_alarms.cli:cli",
}
GROUPS |= {"kms-local": "kms_local.__main__:group"}


@cache
def services(*profiles: str) -> dict[str, Any]:
    """Return the services of some profiles as docker compose resolves them; of none, what .env says."""
    command = [checker("docker-compose"), "--project-directory", str(ROOT), "--file", str(ROOT / "docker-compose.yml")]
    for profile in profiles:
        command += ["--profile", profile]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COMPOSE_", "AWS_"))}
    done = subprocess.run(
        [*command, "config", "--format", "json"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["services"]
    return found


def every_service() -> dict[str, Any]:
    return services("local", "drill", "real", "drill-on-aws")


def ours() -> dict[str, Any]:
    return {name: one for name, one in every_service().items() if one["image"] == OURS}


def test_without_a_profile_the_local_estate_starts() -> None:
    """The watchdog, a local AWS, Toxiproxy and whoever scrapes, pushes, tells and draws: nothing of the real AWS."""
    found = services()

    assert found.keys() == {
        "alarms",
        "alertmanager",
        "aws",
        "grafana",
        "network",
        "pager",
        "prometheus",
        "provision",
        "pushgateway",
        "roles",
        "toxiproxy",
        "watchdog",
    }


def test_over_the_real_aws_nothing_local_starts() -> None:
    """No local AWS, nobody who provisions, and no credentials but the shell's."""
    found = services("real")

    assert found.keys() == {
        "alertmanager",
        "grafana",
        "network",
        "prometheus",
        "pushgateway",
        "toxiproxy",
        "watchdog-on-aws",
    }
    environment = found["watchdog-on-aws"]["environment"]
    assert {name for name, value in environment.items() if value is None} == {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
    }
    assert "AWS_SHARED_CREDENTIALS_FILE" not in environment


def test_variables_of_the_real_one_are_the_configurations() -> None:
    """Each is known: a misspelt one would keep the watchdog from starting."""
    given = {name: value for name, value in every_service()["watchdog-on-aws"]["environment"].items() if value}

    found = load(ROOT / "daemon/watchdog.example.toml", environ=given)

    assert str(found.state.dir) == container.STATE_FOLDER
    assert found.http.address[1] == 9464
    assert found.prometheus.push_url is not None


@pytest.mark.parametrize("profile", PROFILES)
def test_toxiproxy_shares_the_watchdogs_network(profile: str) -> None:
    """Routes refuse targets off loopback, and its API lets anybody in."""
    found = services(*PROFILES[profile])

    assert {one["network_mode"] for name, one in found.items() if name != "network"} == {"service:network"}
    assert found["toxiproxy"]["command"] == list(container.TOXIPROXY)
    assert found["toxiproxy"]["image"].startswith("ghcr.io/shopify/toxiproxy:")
    published = {port["published"] for port in found["network"]["ports"]}
    assert "8474" not in published
    assert {port["host_ip"] for port in found["network"]["ports"]} == {"127.0.0.1"}


@pytest.mark.parametrize("profile", PROFILES)
def test_nothing_waits_for_what_cannot_become_healthy(profile: str) -> None:
    """Each that is waited for has a check; the watchdog waits for no Toxiproxy, and drills for both."""
    found = services(*PROFILES[profile])
    watchdog, drill = ("watchdog", "drill") if profile == "local" else ("watchdog-on-aws", "drill-on-aws")
    for name, service in found.items():
        for awaited, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert found[awaited]["healthcheck"]["test"][0] == "CMD", f"{name} waits for {awaited}"

    assert "toxiproxy" not in found[watchdog]["depends_on"]
    assert {found[drill]["depends_on"][one]["condition"] for one in (watchdog, "toxiproxy")} == {"service_healthy"}


def test_every_container_is_confined() -> None:
    """Read-only root, no capability, no way to more; PID 1 reaps and passes signals on."""
    for name, service in every_service().items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["init"], name
        assert "user" not in service, name  # the images' own, none of which is root


def test_a_stop_leaves_time_to_restore() -> None:
    """Docker's ten seconds would kill a drill that restores."""
    settings = load(ROOT / "daemon/watchdog.example.toml", environ={})
    for name in ("watchdog", "drill", "watchdog-on-aws", "drill-on-aws"):
        assert every_service()[name]["stop_grace_period"] == f"{container.stop_seconds(settings)}s", name


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield every command in the file, with its service: those in scripts and in health checks too."""
    for name, service in ours().items():
        entry = [*service["entrypoint"], *(service.get("command") or ())]
        line = shlex.split(entry[2]) if entry[0] == "sh" else entry
        for stop, words in groupby(line, lambda word: word in {";", "|", "&&"}):
            if not stop:
                yield name, list(words)
        yield name, service.get("healthcheck", {}).get("test", ["CMD", "test"])[1:]


def test_every_command_is_one_that_we_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed by the command itself, with all its words; nothing is run."""
    monkeypatch.setenv("KMS_WATCHDOG_CONFIG", str(ROOT / "daemon/watchdog.example.toml"))
    parsed = []
    for name, (program, *arguments) in commands():
        if program not in {"sleep", "test"}:
            module, _, attribute = GROUPS[program].partition(":")
            parse(getattr(importlib.import_module(module), attribute), arguments)
            parsed.append(name)

    assert set(parsed) == ours().keys() - {"network"}


def parse(command: click.Command, arguments: list[str]) -> None:
    """Let the command that `arguments` call parse them.

    Raises:
        click.UsageError: it does not take them.
    """
    context = click.Context(command)
    while isinstance(command, click.Group):
        found = command.get_command(context, arguments[0])
        assert found is not None, arguments
        command, arguments = found, arguments[1:]
    command.make_context(command.name, list(arguments), parent=context)


def test_the_watchdog_answers_where_it_is_asked() -> None:
    """Ports published, asked, scraped, and listened on are one."""
    text = (ROOT / "deploy/compose/watchdog.toml").read_text(encoding="utf-8")
    asked = every_service()["watchdog"]["healthcheck"]["test"][-1]

    assert 'listen = "0.0.0.0:9464"' in text
    assert asked == "http://127.0.0.1:9464/readyz"
    assert {(port["published"], port["target"]) for port in every_service()["network"]["ports"]} == {
        (str(port), port) for port in (3000, 9090, 9091, 9093, 9464)
    }


def test_what_must_last_is_in_a_named_volume() -> None:
    """State, metrics, silences, what was pushed: `down` and `up` go on."""
    kept = {
        (name, mount["source"], mount["target"])
        for name, service in every_service().items()
        for mount in service.get("volumes", ())
        if mount["type"] == "volume"
    }

    assert {
        ("watchdog", "state", "/state"),
        ("aws", "aws", "/aws"),
        ("watchdog-on-aws", "state-on-aws", container.STATE_FOLDER),
        ("prometheus", "prometheus", "/prometheus"),
        ("pushgateway", "pushgateway", "/pushgateway"),
        ("alertmanager", "alertmanager", "/alertmanager"),
        ("grafana", "grafana", "/var/lib/grafana"),
    } <= kept
    drills = {kind for name, kind, _ in kept if name == "drill"}
    assert drills == {"aws", "state"}  # the daemon's, which follows and heals them
