"""docker-compose.yml without an engine: its schema, and that what it names exists and agrees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kms_local.serve import ServeSettings
from kms_watchdog.config import Settings, load

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The mounted configuration, with a certificate file where the local AWS would have put one."""
    text = (ROOT / "deploy/compose/watchdog.toml").read_text(encoding="utf-8")
    (tmp_path / "ca.pem").touch()
    config = tmp_path / "watchdog.toml"
    config.write_text(text.replace('"/aws/ca.pem"', '"ca.pem"'), encoding="utf-8")
    return load(config)


def test_it_follows_the_compose_specification() -> None:
    """Keys and values are those of the published schema."""
    checker = Path(sys.executable).with_name("check-jsonschema")
    command = [str(checker), "--builtin-schema", "vendor.compose-spec", str(ROOT / "docker-compose.yml")]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_it_has_all_parts() -> None:
    """The daemon, a local AWS, a real Toxiproxy, Prometheus and Grafana; images of others are pinned."""
    images = {name: service["image"] for name, service in SERVICES.items()}

    assert {"aws", "toxiproxy", "watchdog", "drill", "prometheus", "grafana"} <= images.keys()
    assert images["toxiproxy"] == "ghcr.io/shopify/toxiproxy:2.12.0"
    assert all(":" in image and not image.endswith(":latest") for image in images.values())


def test_what_it_names_exists() -> None:
    """Services that are waited for, folders and files that are mounted, volumes that are declared."""
    for service in SERVICES.values():
        assert service.get("depends_on", {}).keys() <= SERVICES.keys()
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
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
        assert {endpoint.cloudwatch, endpoint.sns, endpoint.sts} == {
            f"https://127.0.0.1:{serve.port(3 + 2 * position)}"
        }


def test_prometheus_scrapes_what_is_published_and_grafana_reads_prometheus(settings: Settings) -> None:
    """One port, one data source, one folder of dashboards."""
    folder = ROOT / "dashboards/provisioning"
    scrape = yaml.safe_load((folder / "prometheus.yml").read_text())["scrape_configs"][0]["static_configs"][0]
    source = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"][0]
    provider = yaml.safe_load((folder / "dashboards/kms-watchdog.yml").read_text())["providers"][0]
    mounted = [mount.split(":")[1] for mount in SERVICES["grafana"]["volumes"]]

    assert scrape["targets"] == [f"127.0.0.1:{settings.http.address[1]}"]
    assert source["url"] == "http://127.0.0.1:9090"
    assert provider["options"]["path"] in mounted
