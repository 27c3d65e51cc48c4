"""The game day's processes: the demo's, the application, its load, Prometheus, Alertmanager; a region by proxies."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from kms_chaos.faults.bounded_http import ToxiproxyError
from kms_chaos.faults.toxics import Toxic
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_chaos.faults.undo import lift
from kms_core.clock import Clock
from kms_local import leash
from kms_local.demo.configuration import DemoFolder, configuration, read_endpoints
from kms_local.demo.stage import READY_SECONDS, Stage, StageError
from kms_local.game_day import alerting
from kms_watchdog.config import Settings, load
from kms_watchdog.drills.undo import ProxyUndo

T = TypeVar("T")

_LOOK_SECONDS = 0.05
_LOAD_END_SECONDS = 120.0
_BLACK_HOLE = tuple(
    Toxic(name=f"game-day-{stream}", type="timeout", stream=stream, attributes={"timeout": 0})
    for stream in ("upstream", "downstream")
)
"""What the drill region-blackhole does: whatever goes in is dropped, in both directions."""
_COLD = {"KMS_DATA_KEY_TTL_MS": "1"}
"""Has each of the application's requests ask KMS: a cache would hide what is to be seen."""


class GameStage(Stage):
    """Everything that a game day starts. The region that will be lost is reached through Toxiproxy from the start."""

    def __init__(self, folder: DemoFolder, clock: Clock, *, source: Path, region: str) -> None:
        super().__init__(folder, clock)
        self.region = region
        self._source = source
        self._proxies: tuple[ProxyUndo, ...] = ()
        self._load: leash.Leashed | None = None

    @property
    def settings(self) -> Settings:
        """The daemon's configuration, as the daemon reads it."""
        return load(self._folder.configuration)

    @property
    def environment(self) -> Mapping[str, str]:
        """What every process here is started with: the local AWS's credentials, and none of this machine's."""
        return dict(self._environment)

    @property
    def endpoints(self) -> Path:
        """The addresses that application and watchdog are given."""
        return self._folder.path / "endpoints.json"

    @property
    def overrides(self) -> Path:
        """Where `kms-watchdog evacuate` writes, and both read."""
        return self._folder.path / "overrides.json"

    def ordered_at_utc(self) -> datetime:
        """Return when the orders were last written: what follows counts from then, not from the command's end."""
        return datetime.fromtimestamp(self.overrides.stat().st_mtime, UTC)

    def start_aws(self) -> None:
        """Start the local AWS, and lay the way to the region through Toxiproxy, for all its services.

        Raises:
            StageError: something does not start, or there is no such region.
        """
        super().start_aws()
        document = read_endpoints(self._folder)
        if self.region not in document["regions"]:
            raise StageError(f"{self.region} is not one of {', '.join(document['regions'])}")
        try:
            self._divert(document)
        except ToxiproxyError as e:
            raise self._failed("aws", f"does not lay the way through Toxiproxy: {e}") from e
        self.endpoints.write_text(json.dumps(document, indent=1), encoding="utf-8")
        text = configuration(document, self._folder)
        self._folder.configuration.write_text(
            f"{text}\n[overrides]\nfile = {json.dumps(str(self.overrides))}\n", encoding="utf-8"
        )

    def _divert(self, document: dict[str, Any]) -> None:
        """Give each of the region's addresses a proxy, and put that one into `document`."""
        self._toxiproxy = self._stack.enter_context(Toxiproxy(document["toxiproxy"]["url"]))
        services: dict[str, str] = document["regions"][self.region]
        by_address: dict[str, ProxyUndo] = {}
        for service, url in services.items():
            upstream = urlsplit(url).netloc
            if upstream not in by_address:
                name = f"game-day.{self.region}.{service}"
                made = self._toxiproxy.create(name, upstream=upstream)
                by_address[upstream] = ProxyUndo(
                    name=name,
                    region=self.region,
                    listen=made.listen,
                    upstream=upstream,
                    made_by_drill=False,  # it stays: without it the region is lost to everybody
                    toxics=tuple(toxic.name for toxic in _BLACK_HOLE),
                )
            services[service] = f"https://{by_address[upstream].listen}"
        self._proxies = tuple(by_address.values())

    def lose(self) -> None:
        """Lose the region: from now on nothing that is sent there arrives, and nothing comes back.

        Raises:
            StageError: Toxiproxy does not do it.
        """
        try:
            for proxy in self._proxies:
                for toxic in _BLACK_HOLE:
                    self._toxiproxy.add(proxy.name, toxic)
        except ToxiproxyError as e:
            raise self._failed("aws", f"does not lose {self.region}: {e}") from e

    def give_back(self) -> None:
        """Give the region back, read back from Toxiproxy; twice is harmless.

        Raises:
            StageError: it is still lost.
        """
        try:
            for proxy in self._proxies:
                lift(self._toxiproxy, proxy)
        except ToxiproxyError as e:
            raise self._failed("aws", f"does not give {self.region} back: {e}") from e

    def start_application(self) -> str:
        """Start the example application, whose own region is the one that will be lost; return where it listens."""
        environment = _COLD | {
            "AWS_ACCOUNT_ID": str(read_endpoints(self._folder)["account_id"]),
            "AWS_REGION": self.region,
            "KMS_REGIONS": ",".join(self.settings.estate.regions),
            "KMS_ENDPOINTS_FILE": str(self.endpoints),
            "KMS_OVERRIDES_FILE": str(self.overrides),
            "READINESS_SECONDS": "5",
            "PORT": "0",
            "TZ": "UTC",  # its log's times are read back
        }
        process = self._start("application", "parker_flight_api", "serve", **self._with_examples(environment))
        line = self._said("application", process, "listening on ")
        return line.partition("listening on ")[2].split()[0]

    def start_load(self, url: str, *, rate: float, seconds: float) -> None:
        """Put a load on the application, whose every answer is checked."""
        arguments = ("--url", url, "--rate", f"{rate:g}", "--seconds", f"{seconds:g}", "--open-all")
        trace = ("--trace", str(self._folder.path / "requests.ndjson"))
        self._load = self._start(
            "load", "parker_flight_api.load", *arguments, *trace, **self._with_examples({"PYTHONUNBUFFERED": "1"})
        )

    def end_load(self) -> dict[str, Any]:
        """End the load, which opens all that it sealed once more; return its report.

        Raises:
            StageError: it has none.
        """
        if self._load is None:
            raise StageError("no load was started")
        self._load.terminate(_LOAD_END_SECONDS)
        text = self._folder.log("load").read_text(encoding="utf-8")
        try:
            report: dict[str, Any] = json.loads(text)
        except ValueError as e:
            raise self._failed("load", "left no report") from e
        return report

    def load_is_alive(self) -> None:
        """Do nothing.

        Raises:
            StageError: the load has ended by itself.
        """
        if self._load is None or self._load.returncode is not None:
            raise self._failed("load", "has ended")

    def start_alerting(self, found: alerting.Programs, daemon_url: str, pager_url: str, *, scale: float) -> int:
        """Start Alertmanager and Prometheus; return Prometheus's port."""
        folder = self._folder.path / "alerting"
        folder.mkdir()
        shipped = (self._source / "alarms" / "prometheus" / "alertmanager.example.yml").read_text(encoding="utf-8")
        (folder / "alertmanager.yml").write_text(alerting.routes(shipped, pager_url, scale=scale), encoding="utf-8")
        (folder / "rules.yml").write_text(alerting.rules(self.settings, scale=scale), encoding="utf-8")
        to_alertmanager = self._listening(
            "alertmanager",
            found.alertmanager,
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alertmanager'}",
            "--web.listen-address=127.0.0.1:0",
            "--cluster.listen-address=",
        )
        (folder / "prometheus.yml").write_text(
            alerting.scrapes(daemon_url, to_alertmanager, scale=scale), encoding="utf-8"
        )
        return self._listening(
            "prometheus",
            found.prometheus,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            "--web.listen-address=127.0.0.1:0",
        )

    def start_alarm_log(self, prometheus_port: int | None) -> None:
        """Start what writes down the alarms' states."""
        port = () if prometheus_port is None else (str(prometheus_port),)
        path = str(self._folder.path / "alarms.ndjson")
        watching = ("kms_local.game_day.watching", str(self._folder.configuration), self.region, path)
        self._start("alarm-log", *watching, *port)

    def _listening(self, name: str, *argv: str) -> int:
        process = self._program(name, *argv)
        return self._until(lambda: alerting.port_of(self._folder.log(name)), process, name)

    def _said(self, name: str, process: leash.Leashed, words: str) -> str:
        """Wait until a process has said something, and return that line."""

        def line() -> str | None:
            lines = self._folder.log(name).read_text(encoding="utf-8", errors="replace").splitlines()
            return next((one for one in lines if words in one), None)

        return self._until(line, process, name)

    def _until(self, look: Callable[[], T | None], process: leash.Leashed, name: str) -> T:
        deadline, never = self._clock.monotonic() + READY_SECONDS, threading.Event()
        while (found := look()) is None:
            if process.returncode is not None:
                raise self._failed(name, f"ended with exit code {process.returncode}")
            if self._clock.monotonic() > deadline:
                raise self._failed(name, f"was not ready after {READY_SECONDS:.0f} s")
            self._clock.wait(never, _LOOK_SECONDS)
        return found

    def _with_examples(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return `environment` with the example application on the module path."""
        given = self._environment.get("PYTHONPATH", "")
        path = ":".join(part for part in (str(self._source / "examples"), given) if part)
        return {**environment, "PYTHONPATH": path}

    def runbook(self, page: str) -> str:
        """Return a page of the runbooks."""
        return (self._source / "alarms" / "runbooks" / page).read_text(encoding="utf-8")

    @property
    def reader(self) -> dict[str, str]:
        """What a runbook's reader has in the environment: our commands on the path, and the region's addresses."""
        document = json.loads(self.endpoints.read_text(encoding="utf-8"))
        addresses = {
            f"AWS_ENDPOINT_URL_{service.upper()}": url for service, url in document["regions"][self.region].items()
        }
        path = f"{Path(sys.executable).parent}:{self._environment.get('PATH', '')}"
        return {**self._environment, **addresses, "AWS_CA_BUNDLE": document["ca_bundle"], "PATH": path}
