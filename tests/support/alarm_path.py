"""The whole way of an alarm on the local AWS: what is planted, who is told of it, and the page's own commands.

A local AWS with a provisioned estate, a daemon that publishes to CloudWatch every 10 s, a second daemon that may be
harmed, Prometheus and Alertmanager with the shipped rules and routes (times shortened), CloudWatch's alarms as
`kms-alarms apply` puts them, and a subscriber of their topics. A situation is planted, each of its alarms must be told
of in each system that has it, its pages are followed command by command, and each alarm must be told to be over.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import tomllib
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import pytest
from alarm_path_interposed import Interposed, interposed, papers
from alarm_path_pages import FIX, OVER, Ran, Shell, first, named
from alerting import Alerting, Told, alerting
from http_subscriber import Subscriber, subscriber
from otlp_collector import Collector, collecting
from ports import free

from kms_alarms.parts import Alarm, NoneBecause
from kms_alarms.prometheus import alert_name
from kms_alarms.table import alarm
from kms_core import SystemClock
from kms_local.admin_client import ask
from kms_local.demo.configuration import DemoFolder, credentials, read_endpoints
from kms_local.demo.roles import hand_over_roles
from kms_local.demo.stage import Stage
from kms_watchdog.config import Settings, load
from kms_watchdog.results import Mode

ROOT = Path(__file__).parents[2]
CLOCK = SystemClock()
SCALE = 1 / 4
"""Every time in Prometheus's rules: a minute is fifteen seconds."""
SCRAPE_SECONDS = 5
"""So long a daemon that has much to do may take for its answer: a third of what is shipped."""
LONGEST_SECONDS = 60.0
"""No time in Prometheus's rules is longer here: an alarm that waits for a week is seen to fire too."""
PATIENCE = 900.0
AGAIN_SECONDS = 5.0
LOOK_SECONDS = 0.25
DIFFERS = ("diff ", "kms-alarms plan", "kms-chaos plan", "kms-watchdog provision plan")
"""Commands of a fix that only look, and end with 1 or 4 when they have found what is to be mended."""
REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
MORE = """
[canaries.headroom]
window_seconds = 20

[core]
data_key_ttl_seconds = 10
stale_if_unavailable = true
stale_max_age_seconds = 60
breaker_open_seconds = 1

[overrides]
file = {overrides}

[drills.slots.monthly]
drill = "region-blackhole"
day = {day}
at = "00:00"
"""
"""What the local configuration has not: short times, so that all is seen soon, and a place for people's orders."""


def wait_for(what: Callable[[], object], *, says: str, seconds: float = PATIENCE, every: float = LOOK_SECONDS) -> None:
    """Wait for a condition, looking rarely: a dozen threads wait here at a time."""
    never, until = threading.Event(), CLOCK.monotonic() + seconds
    while not what():
        assert CLOCK.monotonic() < until, f"not within {seconds:.0f} s: {says}"
        CLOCK.wait(never, every)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fires:
    """An alarm that a situation must make fire, in each system that has it."""

    row: str
    labels: Mapping[str, str] = field(default_factory=dict)
    """Some of the labels of Prometheus's alert."""
    member: tuple[str, ...] = ()
    """The end of the CloudWatch alarm's name."""
    system: str = ""
    """`prometheus` or `cloudwatch`: it fires in that one alone here."""
    silence: bool = False
    """Whether it fires always, and its end is what tells."""
    told: bool = True
    """False: the shipped routes keep it quiet because of a graver one; Prometheus shows it all the same."""
    clears: bool = True
    """False for what a later situation needs, or what ends after days."""

    @property
    def alarm(self) -> Alarm:
        """The row."""
        return alarm(self.row)

    @property
    def in_prometheus(self) -> bool:
        """Whether Prometheus has it."""
        return self.system != "cloudwatch" and not isinstance(self.alarm.prometheus, NoneBecause)

    @property
    def in_cloudwatch(self) -> bool:
        """Whether CloudWatch has it."""
        return self.system != "prometheus" and not isinstance(self.alarm.cloudwatch, NoneBecause)


Put = Callable[["Stand"], Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """How a runbook is followed in a situation."""

    name: str
    put: Put = lambda _: {}
    """What its reader puts in the place of what is printed."""
    shows: tuple[str | None, ...]
    """What each of its first three commands must say, as a pattern; None: it is not run, or cannot be run here."""
    fix: tuple[str | Callable[[Stand], None], ...] = ()
    """How the printed commands begin that mend it, in order; and what is done between them that is no command."""
    over: tuple[str, ...] = ()
    """How those begin that say that it is over: each must end with exit code 0."""
    answer: str = "y"
    """What is typed when a command asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """One trouble: planted, told, looked up, mended, over."""

    name: str
    fires: tuple[Fires, ...]
    plant: Callable[[Stand], None]
    pages: tuple[Page, ...] = ()
    prepare: Callable[[Stand], None] = lambda _: None
    """What must have happened before; no alarm of the situation may fire after it."""
    by_hand: Callable[[Stand], None] = lambda _: None
    """What the pages say is to be done before their commands, and is no command itself."""
    mend: Callable[[Stand], None] = lambda _: None
    """Mends what no page mends: a region comes back by itself. Must do no harm where all is well."""
    second: bool = False
    """Whether it befalls the second daemon, and the pages are read on its machine."""


@dataclass
class Watchdog:
    """A daemon, and what its machine has."""

    config: Path
    state: Path
    url: str
    environment: dict[str, str]
    program: tuple[str, ...] = (sys.executable, "-m", "kms_watchdog")
    process: subprocess.Popen[bytes] | None = None

    @property
    def instance(self) -> str:
        """What Prometheus calls it."""
        return self.url.removeprefix("http://")

    @property
    def log(self) -> Path:
        """What it says."""
        return self.config.with_suffix(".log")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = subprocess.Popen(
            [*self.program, "run", "--config", str(self.config)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,  # its log has room where its state folder has none
        )
        threading.Thread(target=self._keep_log, args=(self.process,), daemon=True).start()
        wait_for(self.answers, says=f"{self.config} listens", seconds=180)

    def _keep_log(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with self.log.open("ab") as log, process.stderr:
            for line in process.stderr:
                log.write(line)
                log.flush()

    def answers(self) -> bool:
        """Whether it does."""
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text(encoding="utf-8")[-2000:]
        try:
            with urllib.request.urlopen(f"{self.url}/livez", timeout=5):  # noqa: S310 - ours, on 127.0.0.1
                return True
        except OSError:
            return False

    def end(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal, and wait for its end."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(120)
            self.process = None

    def signal(self, number: int) -> None:
        """Send it a signal that it survives."""
        assert self.process is not None
        self.process.send_signal(number)


@dataclass
class Stand:
    """All of it, running."""

    folder: DemoFolder
    settings: Settings
    first: Watchdog
    second: Watchdog
    alerts: Alerting
    notified: Subscriber
    kms_doors: Mapping[str, Interposed]
    """By region, before its KMS: the estate's configuration leads through them."""
    bench_doors: Mapping[str, Interposed]
    """By region, before its CloudWatch and SNS: the second daemon's alone."""
    collector: Collector
    switch: Switch
    toxiproxy: subprocess.Popen[bytes]
    shells: Mapping[bool, Shell]
    """Where pages are read: on the second daemon's machine, or on the first one's."""
    key_ids: Mapping[str, str] = field(default_factory=dict)
    """The keys' ids, by purpose."""
    kept: dict[str, str] = field(default_factory=dict)
    """What situations put aside, to put it back."""
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    """What situations have started, by name: drills."""

    @property
    def endpoints(self) -> dict[str, Any]:
        """The local AWS's own."""
        return read_endpoints(self.folder)

    def client(self, service: str, region: str) -> Any:
        """Return an administrator's client, past everybody who is interposed."""
        document = self.endpoints
        return boto3.session.Session().client(
            service,
            region_name=region,
            endpoint_url=document["regions"][region][service],
            verify=document["ca_bundle"],
            **document["credentials"],
        )

    def key_id(self, purpose: str) -> str:
        """Return the id of a purpose's key."""
        return self.key_ids[purpose]

    def fault(self, **members: Any) -> int:
        """Have the local AWS misbehave; return the fault's number."""
        return int(ask(self.folder.aws, "POST", "/faults", members)["id"])

    def no_faults(self, **members: Any) -> None:
        """End those faults that have these members."""
        for fault in ask(self.folder.aws, "GET", "/faults")["faults"]:
            if members.items() <= fault.items():
                ask(self.folder.aws, "DELETE", f"/faults/{fault['id']}")

    def scraped(self, daemon: Watchdog, *, times: int) -> bool:
        """Whether Prometheus has looked at a daemon so often in the last seconds."""
        question = quote(f'sum_over_time(up{{instance="{daemon.instance}"}}[{(times + 1) * SCRAPE_SECONDS}s])')
        with urllib.request.urlopen(f"{self.alerts.prometheus}/api/v1/query?query={question}", timeout=30) as answer:  # noqa: S310 - ours
            found = json.load(answer)["data"]["result"]
        return bool(found) and float(found[0]["value"][1]) >= times

    # -- who was told -------------------------------------------------------------------------------------------------

    def mark(self) -> Mark:
        """Return how much was told so far."""
        return Mark(len(self.alerts.told.told), len(self.notified.bodies))

    def active(self, fires: Fires) -> list[dict[str, str]]:
        """Return the labels of the alerts of that kind that Prometheus has firing now."""
        with urllib.request.urlopen(f"{self.alerts.prometheus}/api/v1/alerts", timeout=30) as answer:  # noqa: S310 - ours
            alerts = json.load(answer)["data"]["alerts"]
        return [one["labels"] for one in alerts if one["state"] == "firing" and _is_meant(fires, one["labels"])]

    def told(self, fires: Fires, status: str, since: Mark) -> list[Told]:
        """Return what Alertmanager's receivers were told of it since then."""
        return [one for one in self._told(fires, since) if one.status == status]

    def _told(self, fires: Fires, since: Mark) -> list[Told]:
        told = tuple(self.alerts.told.told)[since.alerts :]
        return [one for one in told if one.receiver != "drills" and _is_meant(fires, one.labels)]

    def notifications(self, fires: Fires, state: str, since: Mark) -> set[str]:
        """Return the regions whose topics told that the CloudWatch alarm came into that state since then."""
        return {region for region, new in self._told_by_topics(fires, since) if new == state}

    def in_alarm(self, fires: Fires) -> bool:
        """Whether some region's topic told last that the CloudWatch alarm came into ALARM."""
        return "ALARM" in dict(self._told_by_topics(fires, Mark(0, 0))).values()

    def _told_by_topics(self, fires: Fires, since: Mark) -> Iterator[tuple[str, str]]:
        name = self.cloudwatch_name(fires)
        for body in tuple(self.notified.bodies)[since.notifications :]:
            envelope = json.loads(body)
            if envelope.get("Type") == "Notification":
                message = json.loads(envelope["Message"])
                if message.get("AlarmName") == name:
                    yield envelope["TopicArn"].split(":")[3], message["NewStateValue"]

    def cloudwatch_name(self, fires: Fires) -> str:
        """Return what CloudWatch calls the live alarm."""
        return "-".join((self.settings.cloudwatch.alarm_prefix, fires.row, *fires.member))

    def fired(self, fires: Fires, since: Mark) -> bool:
        """Whether everybody who should know knows."""
        return not self.missing(fires, since)

    def missing(self, fires: Fires, since: Mark) -> str:
        """Return what is still missing, in words."""
        if fires.silence:
            return f"the silence of {fires.row}" if self.active(fires) else ""
        if fires.in_prometheus and not (self.told(fires, "firing", since) if fires.told else self.active(fires)):
            return f"Prometheus's {alert_name(fires.alarm, Mode.LIVE)} {dict(fires.labels)}"
        if fires.in_cloudwatch:
            silent = set(self.settings.publish_regions) - self.notifications(fires, "ALARM", since)
            if silent:
                return f"CloudWatch's {self.cloudwatch_name(fires)} in {sorted(silent)}"
        return ""

    def still(self, fires: Fires, since: Mark) -> str:
        """Return who was told last since then that it fires, in words: some alarms end before their trouble does."""
        if fires.silence:
            return "" if self.active(fires) and self.told(fires, "firing", since) else f"{fires.row} is silent"
        if fires.in_prometheus:
            last = {frozenset(one.labels.items()): one.status for one in self._told(fires, since)}
            if fires.told and set(last.values()) != {"resolved"}:
                return f"nobody was told that Prometheus's {fires.row} is over"
            if self.active(fires):
                return f"Prometheus's {fires.row} {dict(fires.labels)}"
        if fires.in_cloudwatch:
            last_states = dict(self._told_by_topics(fires, since))
            loud = [region for region in self.settings.publish_regions if last_states.get(region) != "OK"]
            if loud:
                return f"CloudWatch's {self.cloudwatch_name(fires)} in {loud}"
        return ""


@dataclass(frozen=True, slots=True)
class Mark:
    """So much had been told."""

    alerts: int
    notifications: int


def _is_meant(fires: Fires, labels: Mapping[str, str]) -> bool:
    """Whether an alert is it; those that are summed up over daemons have no instance."""
    wanted = {name: value for name, value in fires.labels.items() if name in labels or name != "instance"}
    return labels["alertname"] == alert_name(fires.alarm, Mode.LIVE) and wanted.items() <= labels.items()


# -- following a page -----------------------------------------------------------------------------------------------


def play(stand: Stand, situation: Situation) -> None:
    """See a situation through; raise at the first thing that is not as it should be, mended all the same."""
    instance = stand.second.instance if situation.second else stand.first.instance
    fires = tuple(_of(one, instance) for one in situation.fires)
    situation.prepare(stand)
    for one in fires:
        wait_for(
            lambda of=one: bool(stand.active(of)) is of.silence and not stand.in_alarm(of),
            says=f"{situation.name}: {one.row} is as it should be before",
        )
    shell, since = stand.shells[situation.second].sitting(situation.name), stand.mark()
    begun = CLOCK.monotonic()
    try:
        situation.plant(stand)
        for one in fires:
            wait_for(
                lambda of=one: stand.fired(of, since),
                says=f"{situation.name}: {one.row} fires",
            )
            print(
                f"{situation.name}: {one.row} fired {CLOCK.monotonic() - begun:.0f} s after it was planted", flush=True
            )
        for page in situation.pages:
            _look_up(stand, shell, page)
            print(
                f"{situation.name}: {page.name} looked up {CLOCK.monotonic() - begun:.0f} s after it was planted",
                flush=True,
            )
        mended = stand.mark()
        situation.by_hand(stand)
        for page in situation.pages:
            _do(stand, shell, page)
    finally:
        situation.mend(stand)
    for page in situation.pages:
        _see_it_over(stand, shell, page)
    for one in fires:
        if one.clears:
            told = mended if one.silence else since
            wait_for(lambda of=one, told=told: not stand.still(of, told), says=f"{situation.name}: {one.row} clears")
    print(f"{situation.name}: over {CLOCK.monotonic() - begun:.0f} s after it was planted", flush=True)


def _of(fires: Fires, instance: str) -> Fires:
    """Return it for one daemon, where the rule's series are one daemon's."""
    return replace(
        fires, labels={"instance": instance, **fires.labels} if "instance" not in fires.labels else fires.labels
    )


def _look_up(stand: Stand, shell: Shell, page: Page) -> None:
    commands = first(page.name)
    assert len(commands) == len(page.shows), f"{page.name} has {len(commands)} first commands: {commands}"
    for command, shows in zip(commands, page.shows, strict=True):
        if shows is not None:
            _until(stand, shell, page, command, lambda ran, pattern=shows: _says(ran, pattern), seconds=180)


def _do(stand: Stand, shell: Shell, page: Page) -> None:
    for step in page.fix:
        if not isinstance(step, str):
            step(stand)
            continue
        ran = shell.run(named(page.name, FIX, step), page.put(stand), page.answer)
        assert ran.exit_code in ((0, 1, 4) if step.startswith(DIFFERS) else (0,)), f"{page.name}:\n{ran}"


def _see_it_over(stand: Stand, shell: Shell, page: Page) -> None:
    for beginning in page.over:
        _until(stand, shell, page, named(page.name, OVER, beginning), lambda ran: ran.exit_code == 0, seconds=PATIENCE)


def _until(
    stand: Stand, shell: Shell, page: Page, command: str, good: Callable[[Ran], object], *, seconds: float
) -> None:
    """Run a command again until it says what it should: history and metrics are a moment behind."""
    last: list[Ran] = []

    def runs() -> object:
        last[:] = [shell.run(command, page.put(stand), page.answer)]
        return good(last[0])

    try:
        wait_for(runs, says=command, seconds=seconds, every=AGAIN_SECONDS)
    except AssertionError as e:
        raise AssertionError(f"{page.name}:\n{last[0] if last else command}") from e


def _says(ran: Ran, pattern: str) -> re.Match[str] | None:
    return re.search(pattern, ran.said)


def play_all(stand: Stand, situations: Sequence[Situation]) -> None:
    """See situations through that are planted at the same time."""
    with ThreadPoolExecutor(len(situations)) as threads:
        playing = [threads.submit(play, stand, one) for one in situations]
        wrong = [error for one in playing if (error := one.exception()) is not None]
    if wrong:
        raise BaseExceptionGroup(f"{len(wrong)} of {len(situations)} situations", wrong)


# -- putting it up --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def put_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A stand for the waves of one file."""
    with stand(tmp_path_factory.mktemp("alarm-paths")) as made:
        yield made


@contextmanager
def stand(parent: Path) -> Iterator[Stand]:
    """Start all of it."""
    cli = aws_cli()
    folder = DemoFolder.create(parent, CLOCK.now_utc())
    with ExitStack() as stack:
        stage = stack.enter_context(Stage(folder, CLOCK))
        stage.start_aws()
        endpoints = read_endpoints(folder)
        environment = {**_clean(os.environ), **credentials(endpoints)}
        certificates = papers(folder.path, CLOCK.now_utc().timestamp())
        bundle, true_ca = folder.path / "trusted.pem", Path(endpoints["ca_bundle"])
        bundle.write_bytes(true_ca.read_bytes() + certificates.authorities)
        doors = {
            (region, service): stack.enter_context(interposed(urls[service], true_ca, certificates))
            for region, urls in endpoints["regions"].items()
            for service in ("kms", "cloudwatch")
        }
        collector, dead_man = stack.enter_context(collecting()), stack.enter_context(switch())
        toxiproxy, toxiproxy_url = stack.enter_context(_toxiproxy())
        first, second = _configure(folder, environment, doors, bundle, toxiproxy_url)
        _lead_out(second, collector, dead_man)
        for command in (
            ("kms_watchdog", "provision", "apply", "--yes", "--steps", "keys,aliases,rotation"),
            ("kms_alarms", "apply", "--yes"),
            ("kms_alarms", "render", "--into", str(folder.alarms)),
        ):
            _run(environment, first.config, *command)
        shutil.copytree(folder.alarms, second.config.parent / "alarms")
        hand_over_roles(folder)
        notified = stack.enter_context(subscriber())
        _run(environment, first.config, "kms_alarms", "subscribe", notified.url)
        state = ask(folder.aws, "GET", "/state")["regions"]["us-east-1"]["aliases"]
        settings = load(first.config)
        for daemon in (first, second):
            stack.callback(daemon.end)
            daemon.start()
        alerts = stack.enter_context(
            alerting(
                settings,
                first.url,
                second.url,
                folder=folder.path / "alerting",
                scale=SCALE,
                at_most_seconds=LONGEST_SECONDS,
                scrape_seconds=SCRAPE_SECONDS,
            )
        )
        made = Stand(
            folder=folder,
            settings=settings,
            first=first,
            second=second,
            alerts=alerts,
            notified=notified,
            kms_doors={region: door for (region, service), door in doors.items() if service == "kms"},
            bench_doors={region: door for (region, service), door in doors.items() if service == "cloudwatch"},
            collector=collector,
            switch=dead_man,
            toxiproxy=toxiproxy,
            shells={second.config == one.config: _shell(folder, one, cli, bundle) for one in (first, second)},
            key_ids={purpose: state[key.alias] for purpose, key in settings.keys.items()},
        )
        for daemon in (first, second):  # a count that has grown before the first scrape is not seen to grow
            wait_for(lambda of=daemon: made.scraped(of, times=3), says=f"Prometheus knows {daemon.instance}")
        yield made


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without anybody's AWS, and without our own variables."""
    return {name: value for name, value in environment.items() if not name.startswith(("AWS_", "KMS_"))}


def _run(environment: Mapping[str, str], config: Path, module: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments, "--config", str(config)],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{module} {' '.join(arguments)}:\n{done.stdout}{done.stderr}"


def _configure(
    folder: DemoFolder,
    environment: Mapping[str, str],
    doors: Mapping[tuple[str, str], Interposed],
    bundle: Path,
    toxiproxy_url: str,
) -> tuple[Watchdog, Watchdog]:
    """Write the estate's configuration, and the second daemon's: the same estate, all else its own."""
    text = folder.configuration.read_text(encoding="utf-8")
    ports = [free(), free()]
    text = re.sub(r"^ca_bundle = .*$", f"ca_bundle = {json.dumps(str(bundle))}", text, flags=re.MULTILINE)
    for (region, service), door in doors.items():
        if service == "kms":
            text = _with_endpoint(text, region, ("kms",), door.url)
    text = text.replace(
        "interval_seconds = 5.0\ndeadline_seconds = 4.0", "interval_seconds = 6.0\ndeadline_seconds = 5.5"
    )
    text = re.sub(r"^toxiproxy_url = .*$", f'toxiproxy_url = "{toxiproxy_url}"', text, flags=re.MULTILINE)
    text = text.replace('"127.0.0.1:0"', f'"127.0.0.1:{ports[0]}"')
    text += MORE.format(
        overrides=json.dumps(str(folder.path / "overrides.json")),
        day=min(28, (CLOCK.now_utc() + timedelta(days=14)).day),  # so far away that no daemon begins it here
    )
    folder.configuration.write_text(text, encoding="utf-8")
    bench = folder.path / "second"
    bench.mkdir()
    own = text.replace(f'"127.0.0.1:{ports[0]}"', f'"127.0.0.1:{ports[1]}"')
    own = own.replace(json.dumps(str(folder.state)), json.dumps(str(bench / "state")))
    own = own.replace(json.dumps(str(folder.path / "overrides.json")), json.dumps(str(bench / "overrides.json")))
    own = own.replace(json.dumps(str(folder.alarms)), json.dumps(str(bench / "alarms")))
    own = own.replace("[cloudwatch]\n", '[cloudwatch]\nnamespace = "Bench/KMS"\n')
    own = own.replace("[canaries]\n", '[canaries]\nkinds = ["round_trip", "alarm_path", "clock_offset"]\n')
    for (region, service), door in doors.items():
        if service == "cloudwatch":
            own = _with_endpoint(own, region, ("cloudwatch",), door.url)
    (bench / "watchdog.toml").write_text(own, encoding="utf-8")
    return (
        Watchdog(folder.configuration, folder.state, f"http://127.0.0.1:{ports[0]}", dict(environment)),
        Watchdog(
            bench / "watchdog.toml",
            bench / "state",
            f"http://127.0.0.1:{ports[1]}",
            dict(environment),
            (sys.executable, str(Path(__file__).with_name("held_watchdog.py"))),
        ),
    )


@contextmanager
def _toxiproxy() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run a Toxiproxy of our own, which may be held."""
    port = free()
    command = [sys.executable, "-m", "kms_local", "toxiproxy", "-host", "127.0.0.1", "-port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(30)


def _lead_out(daemon: Watchdog, collector: Collector, dead_man: Switch) -> None:
    """Give a daemon a collector of OpenTelemetry and a dead man's switch."""
    with daemon.config.open("a", encoding="utf-8") as file:
        file.write(f'\n[otel]\nenabled = true\nendpoint = "{collector.url}"\n')
        file.write("interval_seconds = 3\ntimeout_seconds = 2\n")
        file.write(f'\n[health]\ndeadman_url = "{dead_man.url}"\n')


@dataclass
class Switch:
    """A dead man's switch."""

    url: str
    status: int = 200


@contextmanager
def switch() -> Iterator[Switch]:
    """Run one on a free port."""
    found = Switch("")

    class Takes(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(found.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Takes) as server:
        found.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def _with_endpoint(text: str, region: str, services: Sequence[str], url: str) -> str:
    before, head, after = text.partition(f"[endpoints.{region}]\n")
    own, gap, rest = after.partition("\n\n")
    for service in services:
        own = re.sub(rf"^{service} = .*$", f'{service} = "{url}"', own, flags=re.MULTILINE)
    return before + head + own + gap + rest


def _shell(folder: DemoFolder, daemon: Watchdog, cli: Path, bundle: Path) -> Shell:
    """Return where a page is read: on that daemon's machine, in a folder of its own."""
    seat = daemon.config.parent / "reader"
    (seat / "bin").mkdir(parents=True)
    shim = seat / "bin" / "aws"
    shim.write_text(_shim(daemon.config, cli, bundle), encoding="utf-8")
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
    search = os.pathsep.join((str(seat / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {**daemon.environment, "PATH": search, "KMS_WATCHDOG_CONFIG": str(daemon.config)}
    environment["KMS_WATCHDOG_HEALTHCHECK_URL"] = f"{daemon.url}/livez"
    toxiproxy = str(tomllib.loads(daemon.config.read_text(encoding="utf-8"))["drills"]["toxiproxy_url"])
    return Shell(
        folder=seat,
        environment=environment,
        installation={
            "http://127.0.0.1:9464": daemon.url,
            "http://127.0.0.1:8474": toxiproxy,
            "/var/lib/kms-watchdog": str(daemon.state),
            "alarms/cloudwatch": str(folder.alarms),
        },
    )


_SHIM = """#!/bin/sh
# The real AWS CLI; only where a service answers, and whom to trust, is said to it here.
service=$1 region=us-east-1 before=
for word in "$@"; do [ "$before" = --region ] && region=$word; before=$word; done
case $service:$region in
{cases}
esac
exec {cli} "$@"
"""


def _shim(config: Path, cli: Path, bundle: Path) -> str:
    endpoints = tomllib.loads(config.read_text(encoding="utf-8"))["endpoints"]
    # CloudTrail answers where CloudWatch does, and has no address of its own in a configuration.
    where = {
        f"{service}:{region}": urls["cloudwatch" if service == "cloudtrail" else service]
        for region, urls in endpoints.items()
        for service in (*urls, "cloudtrail")
    }
    # IAM is global, and needs no --region; with an endpoint of one's own the CLI wants to know what to sign for.
    signed = {"iam:us-east-1": " AWS_DEFAULT_REGION=us-east-1"}
    cases = "\n".join(
        f"{named}) export AWS_ENDPOINT_URL={url}{signed.get(named, '')} ;;" for named, url in where.items()
    )
    return _SHIM.format(cases=cases, cli=f"env AWS_CA_BUNDLE={bundle} AWS_PAGER= {cli}")


def aws_cli() -> Path:
    """Return the AWS CLI; skip where `make interop` has not put one up, but not in CI."""
    own = ROOT / ".state" / "interop" / "awscli" / "bin" / "aws"
    found = own if own.is_file() else Path(shutil.which("aws") or "/nowhere")
    if not found.is_file():
        assert os.environ.get("CI") != "true", "CI puts up .state/interop/awscli"
        pytest.skip("no AWS CLI: make .state/interop/awscli/.made puts one up")
    return found
