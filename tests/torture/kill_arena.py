"""A local AWS, a Toxiproxy and a daemon, each a process that is killed and started again where it was."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from daemon_kit import KEYS_ALONE, LocalCloud
from kill_ledger import Metric
from killed_drills import LOOKS, MORE, make_alarms, write_drills
from ports import free
from running_daemon import Running
from waiting import wait_until
from whole_processes import MARK, marked

from kms_core.clock import SystemClock
from kms_watchdog.sinks.datum import Datum

CLOCK = SystemClock()
SECONDS = 240.0
"""More than anything here takes on a slow machine."""
_STRANGERS = (
    ("POST", "/proxies", {"name": "theirs", "upstream": "127.0.0.1:9", "enabled": True}),
    ("POST", "/proxies/theirs/toxics", {"name": "slow", "type": "latency", "attributes": {"latency": 5, "jitter": 0}}),
)
"""Somebody else's proxy with a toxic of his own: no healer may touch it."""
_Series = tuple[str, str, tuple[tuple[str, str], ...]]
_PERIOD_SECONDS = 10
"""`[cloudwatch] period_seconds` of the configurations that `LocalCloud` writes."""
_QUERIES = 200
"""Of one request for data; CloudWatch takes 500."""
_IMPATIENT = Config(connect_timeout=1, read_timeout=30, retries={"total_max_attempts": 1})


@dataclass(kw_only=True)
class Service:
    """A program that somebody starts again when it dies, as a platform would."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[str] | None = None
    started: float = 0.0
    """On the monotonic clock."""

    def start(self) -> None:
        """Start it."""
        self.started = CLOCK.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.arguments],
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
            )

    def signal(self, number: int) -> bool:
        """Send a signal; return whether it lived to get it."""
        if self.process is None or self.process.poll() is not None:
            return False
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            return self.process.wait(SECONDS) == -signal.SIGKILL
        return True

    @property
    def processor_seconds(self) -> float:
        """How much processor time it has taken so far."""
        assert self.process is not None
        after_name = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def ended(self) -> bool:
        """Whether there is nobody."""
        return self.process is None or self.process.poll() is not None


@dataclass(kw_only=True)
class Acknowledged:
    """Writes to the local AWS, one after the other, and the last that it answered: what `--keep-state` must keep."""

    client: Any
    topic: str
    last: int = 0
    refused: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Write until told to stop; a server that is away is asked again."""
        number = 0
        while not CLOCK.wait(self._stop, 0.1):
            number += 1
            try:
                self.client.set_topic_attributes(
                    TopicArn=self.topic, AttributeName="DisplayName", AttributeValue=str(number)
                )
            except (BotoCoreError, ClientError):
                self.refused += 1
            else:
                self.last = number

    def stop(self) -> None:
        """Let `run` end."""
        self._stop.set()

    def kept(self) -> int:
        """Return the last write that the server knows of."""
        return int(self.client.get_topic_attributes(TopicArn=self.topic)["Attributes"].get("DisplayName") or 0)


@dataclass(kw_only=True)
class Arena:
    """All of it, in one folder."""

    folder: Path
    cloud: LocalCloud
    config: Path
    drills: Mapping[str, Path]
    services: Mapping[str, Service]
    """daemon, toxiproxy, aws."""
    toxiproxy: str
    writes: Acknowledged
    environment: Mapping[str, str]
    strangers: Mapping[str, Any] = field(default_factory=dict)
    _cloudwatch: dict[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        """The daemon's and the drills' state folder."""
        return self.config.parent / "state"

    @property
    def daemon(self) -> Running:
        """The daemon as it answers."""
        service = self.services["daemon"]
        assert service.process is not None
        return Running(service.process, self.config.parent, service.log, service.started)

    def start_drill(self, fault: str, run_id: str) -> Service:
        """Start a drill."""
        drill = Service(
            arguments=(
                "kms_chaos", "run", str(self.drills[fault]), "--run-id", run_id, "--arm", "--config", str(self.config),
            ),
            environment=self.environment,
            log=self.folder / "drills.log",
        )  # fmt: skip
        drill.start()
        return drill

    def recovered(self, name: str) -> bool:
        """Whether a service that was started does again what it is for."""
        try:
            return {"daemon": self.dispatches, "toxiproxy": self._toxiproxy_answers, "aws": self._aws_answers}[name]()
        except (OSError, ValueError, BotoCoreError, ClientError):
            return False

    def dispatches(self) -> bool:
        """Whether the daemon, this one, is alive and has looked."""
        return self.tells_of_itself() and self.daemon.get("/livez")[0] == 200 and self.live_looks() > 0

    def tells_of_itself(self) -> bool:
        """Whether `http.json` names this daemon, and not one before."""
        try:
            told = json.loads((self.state / "http.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return bool(told["pid"] == self.daemon.process.pid)

    def live_looks(self) -> int:
        """Return how many looks this daemon tells of."""
        return int(self.daemon.value("canary_runs_total", mode="live"))

    def is_well(self) -> bool:
        """Whether the daemon calls all well, as a drill's guards will ask."""
        return self.recovered("daemon") and self.daemon.get("/health")[0] == 200

    def proxies(self) -> dict[str, Any]:
        """Return what Toxiproxy has."""
        found: dict[str, Any] = self._ask("GET", "/proxies")
        return found

    def invite_strangers(self) -> None:
        """Make the proxies that others have; who owns them makes them again when Toxiproxy begins with nothing."""
        for method, path, body in _STRANGERS:
            self._ask(method, path, {"listen": f"127.0.0.1:{free()}", **body} if path == "/proxies" else body)
        self.strangers = {name: proxy for name, proxy in self.proxies().items() if name == "theirs"}

    def delivered(self, metrics: frozenset[Metric]) -> set[Metric]:
        """Return those of the metrics that CloudWatch has got."""
        found: set[Metric] = set()
        for region in {region for region, _ in metrics}:
            datums = {body: Datum.from_json(body) for of, body in metrics if of == region}
            counts = self._counts(region, tuple(datums.values()))
            found |= {
                (region, body)
                for body, datum in datums.items()
                if counts.get((_series(datum), datum.period_start), 0) >= sum(datum.counts)
            }
        return found

    def _counts(self, region: str, datums: Sequence[Datum]) -> dict[tuple[_Series, int], float]:
        """Return how many values CloudWatch has of each series of `datums`, by period."""
        client = self._cloudwatch.setdefault(region, self.cloud.client("cloudwatch", region, config=_IMPATIENT))
        series = sorted({_series(datum) for datum in datums})
        counts: dict[tuple[_Series, int], float] = {}
        for at in range(0, len(series), _QUERIES):
            part = series[at : at + _QUERIES]
            answer = client.get_metric_data(
                StartTime=min(datum.period_start for datum in datums),
                EndTime=max(datum.period_start for datum in datums) + _PERIOD_SECONDS,
                MetricDataQueries=[_query(number, one) for number, one in enumerate(part)],
            )
            for one, result in zip(part, answer["MetricDataResults"], strict=True):
                for when, count in zip(result["Timestamps"], result["Values"], strict=True):
                    counts[one, int(when.timestamp())] = count
        return counts

    def _toxiproxy_answers(self) -> bool:
        return self.proxies() is not None

    def _aws_answers(self) -> bool:
        return self.writes.kept() >= 0

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.toxiproxy}{path}", data, {"Content-Type": "application/json"})  # noqa: S310 - our own
        request.method = method
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own
            return json.loads(answer.read())


def _series(datum: Datum) -> _Series:
    return datum.namespace, datum.name, datum.dimensions


def _query(number: int, series: _Series) -> dict[str, Any]:
    namespace, name, dimensions = series
    metric = {
        "Namespace": namespace,
        "MetricName": name,
        "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions],
    }
    return {"Id": f"m{number}", "MetricStat": {"Metric": metric, "Period": _PERIOD_SECONDS, "Stat": "SampleCount"}}


@contextmanager
def arena(folder: Path) -> Iterator[Arena]:
    """Build it in `folder`, with keys and one alarm; at the end nobody is left, not even a healer."""
    mark, port = uuid.uuid4().hex, free()
    environment = {**os.environ, MARK: mark}
    with ExitStack() as stack:
        begun: dict[str, Service] = {}
        stack.callback(lambda: [one.process.wait() for one in begun.values() if one.process is not None])
        stack.callback(_end_all, mark)
        aws = Service(
            arguments=(
                "kms_local", "serve", "--dir", str(folder / "aws"), "--keep-state", "--no-toxiproxy",
                "--creating-seconds", "0", "--first-port", str(_eight_free()),
            ),
            environment=environment,
            log=folder / "aws.log",
        )  # fmt: skip
        cloud, config = _first_start(aws, folder)
        with config.open("a", encoding="utf-8") as more:
            more.write(f'[drills]\ntoxiproxy_url = "http://127.0.0.1:{port}"\ncheck_seconds = 0.5\n')
        sns = cloud.client("sns", config=_IMPATIENT)
        environment = {**cloud.environment, MARK: mark}
        begun |= {
            "aws": aws,
            "toxiproxy": Service(
                arguments=("kms_local", "toxiproxy", "-host", "127.0.0.1", "-port", str(port)),
                environment=environment,
                log=folder / "toxiproxy.log",
            ),
            "daemon": Service(
                arguments=("kms_watchdog", "run", "--config", str(config)),
                environment=environment,
                log=folder / "daemon.log",
            ),
        }
        made = Arena(
            folder=folder,
            cloud=cloud,
            config=config,
            drills=write_drills(folder),
            services=begun,
            toxiproxy=f"http://127.0.0.1:{port}",
            writes=Acknowledged(client=sns, topic=sns.create_topic(Name="torture")["TopicArn"]),
            environment=environment,
        )
        begun["toxiproxy"].start()
        wait_until(lambda: made.recovered("toxiproxy"), says="Toxiproxy answers", seconds=SECONDS)
        made.invite_strangers()
        begun["daemon"].start()
        wait_until(made.is_well, says="the daemon calls all well", seconds=SECONDS)
        writing = threading.Thread(target=made.writes.run, name="acknowledged-writes", daemon=True)
        writing.start()
        stack.callback(writing.join, SECONDS)
        stack.callback(made.writes.stop)
        yield made


def _first_start(aws: Service, folder: Path) -> tuple[LocalCloud, Path]:
    """Start the local AWS, make keys and the alarm; return it, and a configuration that leads there."""
    folder.mkdir(parents=True, exist_ok=True)
    ready = folder / "aws" / "endpoints.json"
    aws.start()
    wait_until(lambda: ready.exists() or aws.ended, says="kms-local serves", seconds=SECONDS)
    assert aws.process is not None
    assert not aws.ended, aws.log.read_text()
    cloud = LocalCloud(folder / "aws", json.loads(ready.read_text()), aws.process)  # type: ignore[arg-type] # text or bytes
    config = cloud.config(folder / "watchdog", MORE, prefix="torture", interval_seconds=2.0, kinds=LOOKS)
    done = cloud.run("provision", "apply", "--yes", *KEYS_ALONE, config=config)
    assert done.returncode == 0, done.stdout + done.stderr
    make_alarms(cloud, config)
    return cloud, config


def _eight_free() -> int:
    """Return the first of eight ports that follow each other and are free: the admin's and those of three regions."""
    while True:
        first = free()
        with suppress(OSError), ExitStack() as stack:
            for port in range(first, first + 8):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first


def _end_all(mark: str) -> None:
    """Kill all that carry our mark, those that stand still too, and wait until they are gone."""

    def none_left() -> bool:
        for pid in marked(mark):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not marked(mark)

    wait_until(none_left, says="all processes of the torture end", seconds=SECONDS)
