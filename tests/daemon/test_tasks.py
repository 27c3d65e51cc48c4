"""The regular tasks: what shows that each was done, when it is due, and that nothing is lost of what people sign."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result
from daemon_kit import REGIONS, START, JournalFile, result
from http_subscriber import Subscriber, subscriber
from ports import nobody
from readiness_kit import define_alarm, prove_alarm
from rich.console import Console

from kms_core import SystemClock
from kms_core.testing import ManualClock
from kms_watchdog import alarm_proofs, metrics
from kms_watchdog.cli import command
from kms_watchdog.commands import tasks
from kms_watchdog.config import Settings, load
from kms_watchdog.drills.follow import Follower
from kms_watchdog.readiness.sign_offs import SignOff, SignOffs
from kms_watchdog.readiness.task_evidence import all_proven, drills_held, shown
from kms_watchdog.readiness.task_watch import TaskWatch
from kms_watchdog.readiness.tasks import (
    ALARM_PROOF,
    AUDIT,
    BY_ID,
    DIGEST,
    DRILL,
    IAM_REVIEW,
    TASKS,
    TaskState,
    standings,
)
from kms_watchdog.sinks.history import HistorySink
from kms_watchdog.sinks.prometheus import Exposition
from kms_watchdog.sinks.sink import AlarmMoved
from kms_watchdog.state_folder import StateError

DAY = timedelta(days=1)
NOW = START + 400 * DAY


def signed(subject: str, days_ago: float, by: str = "Ada") -> SignOff:
    return SignOff(subject=subject, at_utc=NOW - days_ago * DAY, by=by, note="looked")


# -- deciding -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("done_days_ago", "since_days_ago", "state", "due_in_days"),
    [
        pytest.param(None, None, TaskState.OVERDUE, None, id="never, and nobody knows since when"),
        pytest.param(None, 3, TaskState.DUE, 5, id="never, and there is time"),
        pytest.param(None, 8, TaskState.OVERDUE, 0, id="never, and the time is over"),
        pytest.param(3, 300, TaskState.DONE, 5, id="done in time"),
        pytest.param(8, 300, TaskState.OVERDUE, 0, id="done too long ago"),
    ],
)
def test_a_task_is_due_so_long_after_it_was_last_done(
    done_days_ago: float | None, since_days_ago: float | None, state: TaskState, due_in_days: float | None
) -> None:
    """Or, when it never was, after somebody first looked; silence is never that it was done."""
    done = [signed(DIGEST, done_days_ago)] if done_days_ago is not None else []
    since = {DIGEST: NOW - since_days_ago * DAY} if since_days_ago is not None else {}

    [found] = standings(done, since, NOW, [BY_ID[DIGEST]])

    assert found.state is state
    assert found.due_utc == (None if due_in_days is None else NOW + due_in_days * DAY)


def test_the_newest_word_counts() -> None:
    """Whatever the order, and of its own task alone."""
    done = [signed(AUDIT, 5, "Bea"), signed(AUDIT, 50, "Ada"), signed(IAM_REVIEW, 1, "Cyd")]

    last = {each.task.id: each.last for each in standings(done, {}, NOW)}

    assert last[AUDIT] == done[0]
    assert (last[DRILL], last[IAM_REVIEW]) == (None, done[2])


def test_the_guides_turns_are_kept() -> None:
    """Weekly, twice monthly, quarterly, annually: a turn, and some days to do it in."""
    turns = {task.id: task.at_most.days for task in TASKS}

    assert turns == {DIGEST: 7 + 1, DRILL: 31 + 4, ALARM_PROOF: 31 + 4, IAM_REVIEW: 92 + 8, AUDIT: 366 + 14}


def test_all_alarms_are_proven_when_the_last_of_them_is() -> None:
    """As long ago as the one for which it is longest; not at all while one never was, or none is known."""
    moved = {"a": AlarmMoved(fired_at=START.timestamp()), "b": AlarmMoved(fired_at=NOW.timestamp())}

    [found] = all_proven(moved, {"a": {"us-east-1"}, "b": {"us-east-1"}})

    assert (found.subject, found.at_utc, found.note) == (ALARM_PROOF, START, "all 2 alarms")
    assert list(all_proven(moved, {**moved, "c": ()})) == []
    assert list(all_proven(moved, {})) == []


@pytest.mark.parametrize(
    ("told", "restored", "proven"),
    [
        pytest.param(True, True, True, id="went-well"),
        pytest.param(False, True, False, id="nobody-was-told"),
        pytest.param(True, False, False, id="not-put-back"),
    ],
)
def test_the_newest_proof_counts(
    write_config: Callable[..., Path], tmp_path: Path, *, told: bool, restored: bool, proven: bool
) -> None:
    """In one region of two it failed after an earlier one had gone well: the task is not done by the earlier one."""
    settings = load(write_config(define_alarm(tmp_path / "alarms", REGIONS[:2])))
    prove_alarm(settings.state.dir, REGIONS[:2])
    prove_alarm(settings.state.dir, REGIONS[:1], run_id="2-alarm-proof", told=told, restored=restored)

    found = shown(settings, (), alarm_proofs.all_proofs(settings.state.dir))

    assert [one.subject for one in found] == ([ALARM_PROOF] if proven else [])


def ended(drill: JournalFile, verdict: str, *, at: float = 300.0) -> None:
    drill.begin(at=at - 300)
    drill.append("verdict", at=at, verdict=verdict)
    drill.append("closed", at=at, by="drill", verdict=verdict)


def test_a_drill_that_held_shows_itself(settings: Settings, new_drill: Callable[..., JournalFile]) -> None:
    """By its closed journal; one that broke, one that could not tell and one that was edited do not."""
    for run_id, verdict in (("1-held", "HELD"), ("2-broke", "BROKE"), ("3-unclear", "INCONCLUSIVE")):
        ended(new_drill(run_id), verdict)
    ended(edited := new_drill("4-edited"), "BROKE")
    edited.folder.journal.write_bytes(edited.folder.journal.read_bytes().replace(b"BROKE", b"HELD"))
    follower = Follower(settings.state.dir)
    follower.restore()

    [found] = drills_held(follower.runs())

    assert (found.by, found.at_utc) == ("1-held", START + timedelta(seconds=300))


# -- what people sign ---------------------------------------------------------------------------------------------

Run = Callable[..., Result]


@pytest.fixture
def config(write_config: Callable[..., Path]) -> Path:
    return write_config()


@pytest.fixture
def run(config: Path) -> Run:
    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(command, ["tasks", *arguments, "--config", str(config)])

    return invoke


def test_what_was_signed_is_listed(run: Run, config: Path) -> None:
    """With who, when and the note; the others were never done, so the list ends with 1."""
    acked = run("ack", IAM_REVIEW, "--by", "Ada  L.", "--note", "no change,\nCHG-1")
    listed, told = run("list"), run("list", "--json")

    by_id = {task["id"]: task for task in json.loads(told.stdout)["tasks"]}
    assert (acked.exit_code, acked.stdout.startswith(f"{IAM_REVIEW}: done ")) == (0, True)
    assert (listed.exit_code, told.exit_code) == (1, 1)
    assert [line.split("\t")[0] for line in listed.stdout.splitlines()].count("overdue") == 4
    assert (by_id[IAM_REVIEW]["state"], by_id[IAM_REVIEW]["by"]) == ("done", "Ada L.")
    assert by_id[IAM_REVIEW]["note"] == "no change, CHG-1"
    assert (by_id[DRILL]["state"], by_id[DRILL]["last_done_utc"], by_id[DRILL]["due_utc"]) == ("overdue", None, None)
    assert json.loads((config.parent / "state" / "sign-offs.json").read_text())["schema"] == 1


def test_brackets_in_a_note_are_shown_on_a_terminal(run: Run, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever signs writes what they like; and what is to be done names tables of the configuration."""
    run("ack", AUDIT, "--by", "[bold]Ada", "--note", "done, see [/runs/12]")

    tasks.show(tasks.read(load(config)), Console(force_terminal=True, width=200))

    told = capsys.readouterr().out
    assert "[bold]Ada" in told
    assert "done, see [/runs/12]" in told
    assert "or a slot in [drills.slots]: a drill that HELD" in told


def test_when_all_is_done_the_list_ends_with_0(
    write_config: Callable[..., Path], tmp_path: Path, new_drill: Callable[..., JournalFile]
) -> None:
    """People's word for three, files for two."""
    config = write_config(define_alarm(tmp_path / "alarms", REGIONS[:2]))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(command, ["tasks", *arguments, "--config", str(config)])

    for task in (DIGEST, IAM_REVIEW, AUDIT):
        run("ack", task, "--by", "Ada", "--note", "done")
    ended(new_drill(), "HELD", at=(SystemClock().now_utc() - START).total_seconds())
    before = run("list")
    prove_alarm(tmp_path / "state", REGIONS[:2])

    after = run("list")

    assert [line.split("\t")[0] for line in before.stdout.splitlines()] == ["done", "done", "overdue", "done", "done"]
    assert [line.split("\t")[0] for line in after.stdout.splitlines()] == ["done"] * 5
    assert (before.exit_code, after.exit_code) == (1, 0)


@pytest.mark.parametrize("task", [DRILL, ALARM_PROOF])
def test_nobodys_word_is_taken_for_what_files_show(run: Run, config: Path, task: str) -> None:
    """Refused: 4, and nothing is written."""
    told = run("ack", task, "--by", "Ada", "--note", "it was fine")

    assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (4, "", 1)
    assert not (config.parent / "state").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((AUDIT, "--by", "Ada"), id="no-note"),
        pytest.param((AUDIT, "--by", " ", "--note", "x"), id="nobody"),
        pytest.param((AUDIT, "--by", "A" * 501, "--note", "x"), id="too-long"),
        pytest.param((AUDIT, "--by", "A\x1b[31m", "--note", "x"), id="escapes"),
        pytest.param(("tidy-up", "--by", "Ada", "--note", "x"), id="no-such-task"),
    ],
)
def test_a_signature_that_says_nothing_is_2(run: Run, arguments: tuple[str, ...]) -> None:
    """Usage."""
    assert run("ack", *arguments).exit_code == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("{", "not JSON", id="torn"),
        pytest.param("[]", "no document of ours", id="a-list"),
        pytest.param('{"schema": 2, "signed": []}', "schema 2, this version reads 1", id="newer"),
        pytest.param('{"schema": true}', "no document of ours", id="no-number"),
        pytest.param('{"schema": 1, "signed": [{"subject": "x"}]}', "not as it was written", id="a-member-missing"),
        pytest.param('{"schema": 1, "signed": 5}', "not as it was written", id="no-list"),
        pytest.param('{"schema": 1, "since_utc": {"x": "2026-01-01"}}', "not as it was written", id="no-zone"),
    ],
)
@pytest.mark.parametrize("arguments", [("list",), ("ack", AUDIT, "--by", "Ada", "--note", "x")], ids=["list", "ack"])
def test_a_file_that_cannot_be_read_is_not_written_over(
    run: Run, config: Path, text: str, said: str, arguments: tuple[str, ...]
) -> None:
    """Could not tell: 3, in one line; whoever knows what happened to it moves it away."""
    path = config.parent / "state" / "sign-offs.json"
    path.parent.mkdir()
    path.write_text(text)

    told = run(*arguments)

    assert (told.exit_code, told.stderr.count("\n")) == (3, 1)
    assert said in told.stderr
    assert path.read_text() == text


_SIGN_MANY = """
import sys
from pathlib import Path
from kms_core import SystemClock
from kms_watchdog.readiness.sign_offs import SignOffs
offs = SignOffs(Path(sys.argv[1]), SystemClock())
for number in range(20):
    offs.look_after([f"{sys.argv[2]}-{number}"])
    offs.sign("annual-audit", by=sys.argv[2], note=str(number))
"""


def test_two_processes_lose_nothing_of_each_other(tmp_path: Path) -> None:
    """Each signs twenty times while the other does."""
    both = [subprocess.Popen([sys.executable, "-c", _SIGN_MANY, str(tmp_path), name]) for name in ("one", "two")]
    assert [process.wait(60) for process in both] == [0, 0]

    book = SignOffs(tmp_path, SystemClock()).read()

    assert sorted((one.by, int(one.note)) for one in book.signed) == [(n, i) for n in ("one", "two") for i in range(20)]
    assert len(book.since_utc) == 40


def test_what_a_killed_writer_left_is_no_document(tmp_path: Path, clock: ManualClock) -> None:
    """A half-written draft beside the file is neither read nor in the way."""
    offs = SignOffs(tmp_path, clock)
    offs.sign(AUDIT, by="Ada", note="x")
    (tmp_path / "sign-offs.json.tmp").write_text('{"sche')

    offs.sign(AUDIT, by="Bea", note="y")

    assert [one.by for one in offs.read().signed] == ["Ada", "Bea"]


def test_a_folder_that_takes_no_file_is_said(tmp_path: Path, clock: ManualClock) -> None:
    """In one line that names it."""
    (tmp_path / "state").write_text("a file")

    with pytest.raises(StateError, match=r"sign-offs\.json: cannot be"):
        SignOffs(tmp_path / "state", clock).sign(AUDIT, by="Ada", note="x")


# -- what the daemon tells ----------------------------------------------------------------------------------------


def values(exposition: Exposition, metric: metrics.Metric) -> dict[str, float]:
    return {
        sample.labels["task"]: sample.value
        for family in exposition.families()
        for sample in family.samples
        if sample.name == metric.full_name
    }


def test_the_daemon_tells_when_and_until_when(settings: Settings, clock: ManualClock) -> None:
    """0 for never; what was never done is due from the daemon's first look on, also after a restart."""
    exposition, offs = Exposition(), SignOffs(settings.state.dir, clock)
    began = clock.now_utc()
    TaskWatch(settings, tuple, exposition, clock).look()
    first = values(exposition, metrics.TASK_LAST_DONE), values(exposition, metrics.TASK_DUE)
    clock.advance(86_400)
    offs.sign(AUDIT, by="Ada", note="x")

    TaskWatch(settings, tuple, exposition, clock).look()

    done, due = values(exposition, metrics.TASK_LAST_DONE), values(exposition, metrics.TASK_DUE)
    assert first[0] == dict.fromkeys(BY_ID, 0.0)
    assert first[1] == {task.id: (began + task.at_most).timestamp() for task in TASKS}
    assert (done[AUDIT], due[AUDIT]) == (
        clock.now_utc().timestamp(),
        (clock.now_utc() + BY_ID[AUDIT].at_most).timestamp(),
    )
    assert due[DIGEST] == first[1][DIGEST]


def test_a_file_that_cannot_be_read_shows_nothing_as_done(settings: Settings, clock: ManualClock) -> None:
    """Said once in the log; what was shown before does not stand."""
    exposition, watch_of = Exposition(), SignOffs(settings.state.dir, clock)
    watch_of.sign(AUDIT, by="Ada", note="x")
    watch = TaskWatch(settings, tuple, exposition, clock)
    watch.look()
    (settings.state.dir / "sign-offs.json").write_text("{")

    with structlog.testing.capture_logs() as logs:
        watch.look()
        watch.look()

    assert [entry["event"] for entry in logs] == ["tasks.unreadable"]
    assert values(exposition, metrics.TASK_LAST_DONE) == dict.fromkeys(BY_ID, 0.0)
    assert values(exposition, metrics.TASK_DUE) == dict.fromkeys(BY_ID, 0.0)


def test_a_proof_that_has_come_is_seen(write_config: Callable[..., Path], tmp_path: Path) -> None:
    """Though journals are read only when they have grown."""
    settings = load(write_config(define_alarm(tmp_path / "alarms", REGIONS[:2])))
    exposition = Exposition()
    watch = TaskWatch(settings, tuple, exposition, SystemClock())
    watch.look()
    before = values(exposition, metrics.TASK_LAST_DONE)[ALARM_PROOF]
    prove_alarm(settings.state.dir, REGIONS[:2])

    watch.look()

    assert before == 0
    assert values(exposition, metrics.TASK_LAST_DONE)[ALARM_PROOF] > 0


# -- the digest's delivery ----------------------------------------------------------------------------------------


@pytest.fixture
def week(write_config: Callable[..., Path]) -> Callable[..., Result]:
    """Deliver a week of one look, which ended so many days ago, to whom the given lines name."""

    def deliver(notify: str, *more: str, days_ago: float = 0.0) -> Result:
        config = write_config(notify)
        folder = load(config).state.dir
        folder.mkdir(exist_ok=True)
        until = SystemClock().now_utc() - days_ago * DAY
        history = HistorySink(folder / "history.db", ManualClock())
        history.write(result(at=(until - 3 * DAY - START).total_seconds()))
        history.close()
        span = ("--since", f"{until - 7 * DAY:%Y-%m-%dT%H:%M}", "--until", f"{until:%Y-%m-%dT%H:%M:%S}")
        return CliRunner().invoke(command, ["digest", *span, "--deliver", *more, "--config", str(config)])

    return deliver


def to_webhook(url: str) -> str:
    return f'[drills.notify]\nwebhook_url = "{url}"\n'


@pytest.fixture
def hook() -> object:
    with subscriber() as found:
        yield found


def test_a_delivered_digest_is_the_weekly_task_done(
    week: Callable[..., Result], hook: Subscriber, tmp_path: Path
) -> None:
    """One JSON document with the whole review; and written down by itself."""
    told = week(to_webhook(hook.url))

    [document] = hook.messages()
    [signed] = SignOffs(tmp_path / "state", SystemClock()).read().signed
    assert (told.exit_code, told.stdout) == (0, "delivered to webhook\n")
    assert (document["schema"], document["kind"], document["estate"]) == (1, "digest", "test")
    assert document["markdown"].startswith("# KMS of test: 20")
    assert (signed.subject, signed.note) == (DIGEST, "delivered to webhook")


@pytest.mark.parametrize(("days_ago", "done"), [(0.9, True), (1.1, False)])
def test_a_review_of_long_ago_is_not_this_weeks(
    week: Callable[..., Result], hook: Subscriber, tmp_path: Path, days_ago: float, *, done: bool
) -> None:
    """Sent again it is delivered, and no more."""
    told = week(to_webhook(hook.url), days_ago=days_ago)

    signed = SignOffs(tmp_path / "state", SystemClock()).read().signed
    assert (told.exit_code, told.stdout, len(hook.messages())) == (0, "delivered to webhook\n", 1)
    assert [one.subject for one in signed] == ([DIGEST] if done else [])
    assert told.stderr.startswith("weekly-digest is not written down as done: this review ended ") != done


@pytest.mark.parametrize(
    ("notify", "more", "code", "said"),
    [
        pytest.param("", (), 2, "nobody to deliver to", id="nobody"),
        pytest.param(to_webhook(f"http://127.0.0.1:{nobody()}/SECRET"), (), 3, "webhook: no answer", id="silent"),
        pytest.param(
            to_webhook("http://127.0.0.1:1/"), ("--output", "x"), 2, "--deliver sends Markdown", id="a-file-too"
        ),
    ],
)
def test_what_was_not_delivered_is_no_task_done(
    week: Callable[..., Result], tmp_path: Path, notify: str, more: tuple[str, ...], code: int, said: str
) -> None:
    """In one line, without the address, which is a secret."""
    told = week(notify, *more)

    assert (told.exit_code, told.stderr.count("\n")) == (code, 1)
    assert said in told.stderr
    assert "SECRET" not in told.stderr
    assert not (tmp_path / "state" / "sign-offs.json").exists()
