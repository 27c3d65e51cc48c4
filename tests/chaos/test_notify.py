"""People are told that a drill begins, ends, is aborted; who cannot be told neither delays nor changes it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner
from guard_kit import settings_of
from http_subscriber import Subscriber, subscriber
from waiting import wait_until

from kms_chaos import notify
from kms_chaos.cli import cli
from kms_chaos.drill import find
from kms_chaos.journal_writer import JournalWriteError
from kms_chaos.news import News, Phase
from kms_chaos.notify import Notifier, Telling
from kms_chaos.run import Run, plan
from kms_core import SystemClock
from kms_core.testing import ManualClock
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import folders
from kms_watchdog.drills.verdict import Judgement, Verdict
from kms_watchdog.receivers import MAX_SUBJECT, UndeliveredError, Webhook

CLOCK = SystemClock()
GENEROUS_SECONDS = 20.0
NEWS = News(
    phase=Phase.STARTED,
    estate="production",
    drill="region-blackhole",
    run_id="20261125T100000Z-region-blackhole",
    slot="failover/2026-11",
    regions=("us-east-1",),
    started_by="arn:aws:iam::123456789012:role/Drills",
    reason="monthly",
    host="here",
)


@dataclass
class Ear:
    """A receiver that remembers, and fails or hangs as it is told."""

    where: str = "ear"
    heard: list[News] = field(default_factory=list)
    fails: Exception | None = None
    stuck: threading.Event | None = None

    def send(self, news: News) -> None:
        if self.stuck is not None:
            assert self.stuck.wait(GENEROUS_SECONDS)
        if self.fails is not None:
            raise self.fails
        self.heard.append(news)


@dataclass
class Notes:
    """What was said of failures."""

    said: list[tuple[str, str, str]] = field(default_factory=list)

    def __call__(self, where: str, news: News, why: str) -> None:
        self.said.append((where, str(news.phase), why))


def test_the_one_document_says_what_who_and_where() -> None:
    """These members, and no others: receivers parse them."""
    ended = replace(NEWS, phase=Phase.ENDED, verdict="HELD", report="/state/drills/r/report.html")

    assert json.loads(ended.text) == {
        "schema": 1,
        "phase": "ended",
        "estate": "production",
        "drill": "region-blackhole",
        "run_id": "20261125T100000Z-region-blackhole",
        "slot": "failover/2026-11",
        "regions": ["us-east-1"],
        "started_by": "arn:aws:iam::123456789012:role/Drills",
        "reason": "monthly",
        "host": "here",
        "verdict": "HELD",
        "interrupted": "",
        "report": "/state/drills/r/report.html",
    }


@pytest.mark.parametrize(
    ("news", "subject"),
    [
        pytest.param(NEWS, "Drill started: region-blackhole on us-east-1 (production)", id="started"),
        pytest.param(
            replace(NEWS, phase=Phase.ABORTED, verdict="INCONCLUSIVE"),
            "Drill aborted: INCONCLUSIVE: region-blackhole on us-east-1 (production)",
            id="aborted",
        ),
        pytest.param(replace(NEWS, regions=()), "Drill started: region-blackhole (production)", id="regions untold"),
        pytest.param(
            replace(NEWS, drill="münch\nen\t"), "Drill started: m?nch en  on us-east-1 (production)", id="odd"
        ),
        pytest.param(replace(NEWS, drill="x" * 200), f"Drill started: {'x' * 85}", id="long"),
    ],
)
def test_the_subject_is_one_that_sns_takes(news: News, subject: str) -> None:
    """ASCII, no control characters, at most 100 of them: else SNS refuses the whole message."""
    assert news.subject == subject
    assert len(news.subject) <= MAX_SUBJECT
    assert news.subject.isascii()
    assert news.subject.isprintable()


def test_all_are_told_all_in_order() -> None:
    """The end waits for them."""
    ears = [Ear("a"), Ear("b")]
    notifier = Notifier(ears, notes := Notes(), CLOCK)

    notifier.tell(NEWS)
    notifier.tell(replace(NEWS, phase=Phase.ENDED))
    notifier.finish(GENEROUS_SECONDS)

    assert [[news.phase for news in ear.heard] for ear in ears] == [["started", "ended"]] * 2
    assert notes.said == []


def test_one_that_hangs_holds_up_nobody() -> None:
    """Neither who tells, nor the other receivers, nor the end for longer than its time; and that it hangs is said."""
    hangs, well = Ear("hangs", stuck=threading.Event()), Ear("well")
    notifier = Notifier([hangs, well], notes := Notes(), CLOCK)

    notifier.tell(NEWS)
    wait_until(lambda: not notifier._posts[1].untold, says="the other was told")
    notifier.finish(0.0)

    assert well.heard == [NEWS]
    assert notes.said == [("hangs", "started", "not within 0 s of the end")]
    assert hangs.stuck is not None
    hangs.stuck.set()


def test_the_end_is_one_deadline_for_all() -> None:
    """Not one for each: the clock has run out after the first that hangs."""
    clock, stuck = ManualClock(), threading.Event()
    given: list[float] = []

    notifier = Notifier([Ear("a", stuck=stuck), Ear("b", stuck=stuck)], Notes(), clock)
    for post in notifier._posts:

        def end(seconds: float, whole: Callable[[float], None] = post.end) -> None:
            given.append(seconds)
            clock.advance(4.0)
            whole(0.0)

        post.end = end  # type: ignore[method-assign]
    notifier.tell(NEWS)
    notifier.finish(5.0)

    assert given == [5.0, 1.0]
    stuck.set()


@pytest.mark.parametrize(
    ("error", "why"),
    [
        pytest.param(UndeliveredError("NotFound"), "NotFound", id="refused"),
        pytest.param(ZeroDivisionError("https://secret"), "crashed: ZeroDivisionError", id="crashed"),
    ],
)
def test_what_fails_is_said(error: Exception, why: str) -> None:
    """A crash by its class alone: its text may hold an address. The next message is tried all the same."""
    notifier = Notifier([Ear(fails=error)], notes := Notes(), CLOCK)

    notifier.tell(NEWS)
    notifier.tell(replace(NEWS, phase=Phase.ENDED))
    notifier.finish(GENEROUS_SECONDS)

    assert notes.said == [("ear", "started", why), ("ear", "ended", why)]


def test_what_waits_is_bounded() -> None:
    """Four; what is more is said, not kept. The end comes all the same."""
    ear = Ear(stuck=threading.Event())
    notifier = Notifier([ear], notes := Notes(), CLOCK)

    for _ in range(7):  # one is being told, or is about to be
        notifier.tell(NEWS)

    assert {why for _, _, why in notes.said} == {"4 others wait"}
    assert 2 <= len(notes.said) <= 3
    assert ear.stuck is not None
    ear.stuck.set()
    notifier.finish(GENEROUS_SECONDS)
    assert len(ear.heard) + len(notes.said) == 7
    assert not notifier._posts[0]._thread.is_alive()


def test_nothing_is_said_after_the_end() -> None:
    """The journal is closed by then."""
    ear = Ear(stuck=threading.Event(), fails=UndeliveredError("late"))
    notifier = Notifier([ear], notes := Notes(), CLOCK)
    notifier.tell(NEWS)
    notifier.finish(0.0)
    said = list(notes.said)

    assert ear.stuck is not None
    ear.stuck.set()
    wait_until(lambda: not notifier._posts[0]._thread.is_alive(), says="the late one has failed")
    notifier.finish(0.0)

    assert notes.said == said


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return plan(settings_of(tmp_path), find("region-blackhole"), region=None, clock=CLOCK, slot="failover/2026-11")


def judgement(run: Run) -> Judgement:
    return Judgement(
        run_id=run.run_id,
        drill=run.drill.name,
        region=run.target,
        verdict=Verdict.INCONCLUSIVE,
        claims=(),
        figures={},
        journal_head="",
    )


def telling(run: Run) -> tuple[Telling, Ear]:
    notifier = Notifier([ear := Ear()], Notes(), CLOCK)
    return Telling(run, notifier, started_by="arn:aws:iam::123456789012:role/D", reason="why not"), ear


@pytest.mark.parametrize(
    ("stopped_by", "phase"), [pytest.param("", "ended", id="ended"), pytest.param("SIGTERM", "aborted", id="aborted")]
)
def test_an_end_is_told_with_what_came_of_it(run: Run, stopped_by: str, phase: str) -> None:
    """Aborted when something cut it short; the report's path only when there is one."""
    told, ear = telling(run)

    told.started()
    told.ended(judgement(run), stopped_by)
    told.crashed(OSError())  # one end, not two

    started, ended = ear.heard
    assert (started.phase, started.regions, started.slot) == ("started", ("us-east-1",), "failover/2026-11")
    assert (ended.phase, ended.verdict, ended.interrupted, ended.report) == (phase, "INCONCLUSIVE", stopped_by, "")


def test_what_a_trainee_has_to_find_is_not_told_before_the_end(run: Run) -> None:
    """Neither drill nor region; afterwards everybody may know."""
    told, ear = telling(replace(run, alias="training", run_id="20261125T100000Z-training"))

    told.started()
    told.ended(judgement(run), "")

    started, ended = ear.heard
    assert (started.drill, started.regions) == ("training", ())
    assert not {"blackhole", "us-east-1"} & set(started.text.replace("-", " ").split())
    assert "blackhole" not in started.text
    assert (ended.drill, ended.regions) == ("region-blackhole", ("us-east-1",))


@pytest.mark.parametrize("raised", [OSError, KeyboardInterrupt])
def test_a_drill_that_crashes_is_told_as_aborted(
    run: Run, monkeypatch: pytest.MonkeyPatch, raised: type[BaseException]
) -> None:
    """And the crash goes on."""
    ear = Ear()
    monkeypatch.setattr(notify, "receivers_of", lambda *_: (ear,))

    with pytest.raises(raised), notify.notifying(run, lambda *_, **__: None, started_by="x", reason=""):
        raise raised

    assert [(n.phase, n.interrupted) for n in ear.heard] == [("started", ""), ("aborted", raised.__name__)]


@pytest.mark.parametrize("broken", [False, True], ids=["journal well", "journal broken"])
def test_a_failure_is_in_the_journal(run: Run, monkeypatch: pytest.MonkeyPatch, *, broken: bool) -> None:
    """With where and why; and a journal that is broken too is not this one's business."""
    monkeypatch.setattr(notify, "receivers_of", lambda *_: (Ear(where="webhook", fails=UndeliveredError("no")),))
    recorded: list[tuple[str, dict[str, Any]]] = []

    def record(event: str, **fields: Any) -> None:
        recorded.append((event, fields))
        if broken:
            raise JournalWriteError

    with notify.notifying(run, record, started_by="x", reason="") as told:
        told.ended(judgement(run), "")

    fields = [{"to": "webhook", "phase": phase, "error": "no"} for phase in ("started", "ended")]
    assert recorded == [("notify-failed", one) for one in fields]


class Answering(BaseHTTPRequestHandler):
    """Answers every POST as its server was told."""

    def do_POST(self) -> None:
        self.server.taken.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def answering(status: int) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.status, server.taken = status, []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/T0/SECRET", server.taken  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@pytest.mark.slow
def test_a_webhook_gets_the_document() -> None:
    """By POST, as JSON."""
    with answering(204) as (url, taken):
        Webhook(url).send(NEWS)

    assert [(path, json.loads(body)) for path, body in taken] == [("/T0/SECRET", NEWS.to_json())]


@pytest.mark.slow
@pytest.mark.parametrize("status", [302, 307, 404, 500])
def test_an_answer_that_is_no_success_is_none(status: int) -> None:
    """A redirection least of all: followed, it would be a GET without the document. The address is not told."""
    with answering(status) as (url, taken), pytest.raises(UndeliveredError) as caught:
        Webhook(url).send(NEWS)

    assert str(caught.value) == f"it answered {status}"
    assert caught.value.__cause__ is None
    assert len(taken) == 1


def test_a_webhook_that_is_not_there_keeps_its_secret() -> None:
    """Only what kind of failure it was."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/SECRET"

        with pytest.raises(UndeliveredError, match=r"^no answer: ConnectionRefusedError$"):
            Webhook(url).send(NEWS)
    assert "SECRET" not in repr(Webhook(url))


def topic(local_aws: Any, name: str, endpoint: Subscriber) -> str:
    """Create a topic that delivers to `endpoint`; return its ARN."""
    sns = boto3.session.Session(**local_aws.endpoints["credentials"]).client(
        "sns",
        region_name="us-west-2",
        endpoint_url=local_aws.regions["us-west-2"]["sns"],
        verify=str(local_aws.endpoints["ca_bundle"]),
    )
    arn = str(sns.create_topic(Name=name)["TopicArn"])
    sns.subscribe(TopicArn=arn, Protocol="http", Endpoint=endpoint.url)
    sns.close()
    return arn


def with_notify(config: Path, text: str) -> Path:
    with config.open("a", encoding="utf-8") as file:
        file.write(f"\n[drills.notify]\n{text}\n")
    return config


def documents(endpoint: Subscriber) -> list[dict[str, Any]]:
    return [json.loads(one["Message"]) for one in endpoint.messages() if one["Type"] == "Notification"]


@pytest.mark.slow
@pytest.mark.usefixtures("daemon_lives")
def test_a_drill_tells_by_sns_and_a_dead_webhook_changes_nothing(
    local_aws: Any,
    make_config: Callable[..., Path],
    short_drill: Path,
    free_port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Start before the fault, end with verdict and report; the failure in the journal, its address nowhere."""
    for name, value in local_aws.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOOK", f"http://127.0.0.1:{free_port}/T0P/SECRET")
    with subscriber() as endpoint:
        arn = topic(local_aws, "drill-news", endpoint)
        config = with_notify(make_config(), f'sns_topic_arns = ["{arn}"]\nwebhook_url = "${{HOOK}}"')
        result = CliRunner().invoke(cli, ["run", str(short_drill), "--config", str(config), "--json"])
        wait_until(lambda: len(documents(endpoint)) == 2, says="both messages came")

    (where,) = folders(config.parent / "state")
    records = journal.read(where.journal).records
    first = next(message for message in endpoint.messages() if message["Type"] == "Notification")
    started, ended = documents(endpoint)
    assert result.exit_code == 3, result.output  # as without: no alarm was looked at
    assert (started["phase"], started["verdict"], started["regions"]) == ("started", None, ["us-east-1"])
    assert (ended["phase"], ended["verdict"], ended["run_id"]) == ("ended", "INCONCLUSIVE", where.run_id)
    assert ended["report"] == str(where.report)
    assert ended["started_by"].startswith("arn:aws")
    assert first["Subject"].startswith("Drill started")
    failed = [r for r in records if r.event == "notify-failed"]
    assert [(r.fields["to"], r.fields["phase"]) for r in failed] == [("webhook", "started"), ("webhook", "ended")]
    assert records[-1].event == "closed"
    written = b"".join(path.read_bytes() for path in where.path.iterdir() if path.is_file())
    assert b"SECRET" not in written
    assert "SECRET" not in result.output
    began = next(r.at_utc for r in records if r.event == "fault-injected")
    assert first["Timestamp"] < f"{began:%Y-%m-%dT%H:%M:%S}"


@pytest.mark.slow
@pytest.mark.usefixtures("daemon_lives")
def test_a_drill_that_died_is_told_by_whoever_heals_it(
    local_aws: Any, make_config: Callable[..., Path], short_drill: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot do so itself."""
    for name, value in local_aws.environment.items():
        monkeypatch.setenv(name, value)
    with subscriber() as endpoint:
        arn = topic(local_aws, "drill-deaths", endpoint)
        config = with_notify(make_config(), f'sns_topic_arns = ["{arn}"]')
        state = config.parent / "state"
        drill = subprocess.Popen(
            [sys.executable, "-m", "kms_chaos", "run", str(short_drill), "--config", str(config)],
            env=local_aws.environment,
            stdout=subprocess.DEVNULL,
        )

        def injected() -> bool:
            return any(r.event == "fault-injected" for f in folders(state) for r in journal.read(f.journal).records)

        try:
            wait_until(injected, says="the fault is on", seconds=60)
        finally:
            drill.kill()
            drill.wait()
        healed = CliRunner().invoke(cli, ["heal", "--config", str(config)])
        wait_until(lambda: len(documents(endpoint)) == 2, says="both messages came")

    assert healed.exit_code == 0, healed.output
    _, told = documents(endpoint)
    assert (told["phase"], told["drill"], told["regions"]) == ("aborted", "short", ["us-east-1"])
    assert told["interrupted"] == "its process died; what it left was undone"
