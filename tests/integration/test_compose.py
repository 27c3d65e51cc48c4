"""docker-compose.yml without an engine: its schema, that what it names exists and agrees, and that it turns green."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from alerting import binary
from waiting import wait_until

from kms_local.serve_settings import ServeSettings
from kms_watchdog.config import Settings, load

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The mounted configuration, without the certificates that the local AWS would have made."""
    text = (ROOT / "deploy/compose/watchdog.toml").read_text(encoding="utf-8")
    config = tmp_path / "watchdog.toml"
    config.write_text(text.replace('ca_bundle = "/aws/ca.pem"', "").replace('"/state', '"state'), encoding="utf-8")
    return load(config)


def test_it_follows_the_compose_specification() -> None:
    """Keys and values are those of the published schema."""
    checker = Path(sys.executable).with_name("check-jsonschema")
    command = [str(checker), "--builtin-schema", "vendor.compose-spec", str(ROOT / "docker-compose.yml")]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_it_has_all_parts() -> None:
    """The daemon, a local AWS, a real Toxiproxy, Prometheus, Alertmanager and Grafana; images of others are pinned."""
    images = {name: service["image"] for name, service in SERVICES.items()}

    assert {"aws", "toxiproxy", "watchdog", "drill", "prometheus", "alertmanager", "grafana"} <= images.keys()
    assert images["toxiproxy"] == "ghcr.io/shopify/toxiproxy:2.12.0"
    assert all(":" in image and not image.endswith(":latest") for image in images.values())


def test_what_it_names_exists() -> None:
    """Services that are waited for, folders and files that are mounted, volumes that are declared."""
    for service in SERVICES.values():
        assert service.get("depends_on", {}).keys() <= SERVICES.keys()
        for mount in service.get("volumes", []):
            source = mount.rsplit(":", 2 if mount.endswith(":ro") else 1)[0]
            if not source.startswith("${"):  # what the user names
                assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], mount


def test_ports_are_published_on_this_machine_only() -> None:
    """Status page and metrics have no authentication of their own."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_configuration_names_the_ports_that_the_local_aws_takes(settings: Settings) -> None:
    """Admin, Toxiproxy, then KMS and the others of each region, in order."""
    entrypoint = SERVICES["aws"]["entrypoint"]
    first = int(entrypoint[entrypoint.index("--first-port") + 1])
    serve = ServeSettings(directory=Path("/aws"), first_port=first)

    for position, region in enumerate(serve.regions):
        endpoint = settings.endpoints[region]
        assert endpoint.kms == f"https://127.0.0.1:{serve.port(2 + 2 * position)}"
        assert {endpoint.cloudwatch, endpoint.sns, endpoint.sts, endpoint.iam} == {
            f"https://127.0.0.1:{serve.port(3 + 2 * position)}"
        }


def test_prometheus_scrapes_what_is_published_and_grafana_reads_prometheus(settings: Settings) -> None:
    """One port, one data source, one folder of dashboards."""
    folder = ROOT / "dashboards/provisioning"
    prometheus = yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text())
    scrape, pushed = (job["static_configs"][0] for job in prometheus["scrape_configs"])
    source = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"][0]
    provider = yaml.safe_load((folder / "dashboards/kms-watchdog.yml").read_text())["providers"][0]
    mounted = [mount.split(":")[1] for mount in SERVICES["grafana"]["volumes"]]

    assert scrape["targets"] == [f"127.0.0.1:{settings.http.address[1]}"]
    assert settings.prometheus.push_url is not None
    assert [f"http://{one}" for one in pushed["targets"]] == [settings.prometheus.push_url.get_secret_value()]
    assert source["url"] == "http://127.0.0.1:9090"
    assert provider["options"]["path"] in mounted


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """A folder as the root of a container in which everything of ours is mounted."""
    for service in SERVICES.values():
        for source, target, *_ in (mount.split(":") for mount in service.get("volumes", [])):
            if source.startswith("."):
                place = tmp_path / target.lstrip("/")
                place.parent.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if (ROOT / source).is_dir() else shutil.copy)(ROOT / source, place)
    return tmp_path


def test_prometheus_takes_its_configuration_with_the_rules(mounted: Path) -> None:
    """All shipped rules, from where they are mounted, and alerts go where Alertmanager listens."""
    file = mounted / "etc/prometheus/prometheus.yml"
    command = [binary("promtool"), "check", "config", str(file)]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stderr
    assert re.search(r"SUCCESS: \d+ rules found", done.stdout)
    [alertmanagers] = yaml.safe_load(file.read_text(encoding="utf-8"))["alerting"]["alertmanagers"]
    assert alertmanagers["static_configs"] == [{"targets": ["127.0.0.1:9093"]}]  # its default
    assert "127.0.0.1:9093:9093" in SERVICES["network"]["ports"]


def test_alertmanager_tells_the_pager(mounted: Path) -> None:
    """The example becomes a configuration that Alertmanager takes, and every receiver is the service `pager`."""
    amtool = binary("amtool")
    script = SERVICES["alertmanager"]["entrypoint"][-1].partition(" && ")[0]
    script = re.sub(r" /(etc|tmp)/", rf" {mounted}/\1/", script)
    (mounted / "tmp").mkdir()
    pager = SERVICES["pager"]["entrypoint"]

    subprocess.run(["/bin/sh", "-c", script], check=True, timeout=20)

    made = mounted / "tmp/alertmanager.yml"
    command = [amtool, "check-config", str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    receivers = yaml.safe_load(made.read_text(encoding="utf-8"))["receivers"]
    urls = {hook["url"] for receiver in receivers for hook in receiver["webhook_configs"]}
    assert len(urls) == len(receivers)
    assert {url.rpartition("/")[0] for url in urls} == {f"http://127.0.0.1:{pager[pager.index('--port') + 1]}"}


class Machine:
    """Runs the services' own commands as processes of this machine, with folders and ports of a test."""

    def __init__(self, folder: Path, first_port: int) -> None:
        self.folder, self.first_port = folder, first_port
        for volume in ("aws", "state"):
            (folder / volume).mkdir()
        text = (ROOT / "deploy/compose/watchdog.toml").read_text(encoding="utf-8")
        (folder / "watchdog.toml").write_text(self.here(text), encoding="utf-8")

    def here(self, text: str) -> str:
        """Return `text` with the folders and the ports (14000 and on, 9464) that things have here."""
        text = re.sub(r"(?<![\w.])/(aws|state)\b", rf"{self.folder}/\1", text)
        text = re.sub(r"\b14(\d{3})\b", lambda found: str(self.first_port + int(found[1])), text)
        return text.replace("0.0.0.0:9464", f"127.0.0.1:{self.first_port + 99}")

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start a service."""
        given = {key: self.here(value) for key, value in SERVICES[name]["environment"].items()}
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")} | given
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        environment["KMS_WATCHDOG_CONFIG"] = str(self.folder / "watchdog.toml")
        command = [self.here(word) for word in SERVICES[name]["entrypoint"]]
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Run a service until the end of the block."""
        process = self.start(name)
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)

    def healthy(self) -> bool:
        """Whether the watchdog says so."""
        connection = http.client.HTTPConnection("127.0.0.1", self.first_port + 99, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()


def hundred_free_ports() -> int:
    """Return where a stretch of ports begins in which nobody listens."""
    for first in range(21_000, 30_000, 200):
        with ExitStack() as taken:
            try:
                for port in (*range(first, first + 8), first + 99, first + 100):
                    taken.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return first
    raise AssertionError("no ports are free")


@pytest.mark.slow
@pytest.mark.alone
def test_its_services_lead_to_a_green_page(tmp_path: Path) -> None:
    """Started as they depend on each other, policies enforced, until every default canary is well."""
    machine = Machine(tmp_path, hundred_free_ports())
    once = [
        name
        for service in SERVICES.values()
        for name, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    ]
    assert set(once) == {"provision", "roles", "alarms"}

    with machine.running("aws"):
        wait_until((tmp_path / "aws/endpoints.json").exists, says="the local AWS serves")
        with machine.running("pager"):
            codes = [machine.start(name).wait(120) for name in ("provision", "roles", "alarms")]
            with machine.running("watchdog"):
                wait_until(machine.healthy, says="the watchdog is healthy", seconds=90)

    assert codes == [0, 0, 0]
