"""What happened: counted, kept, read while it is written, and told as incidents."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import random
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result
from daemon_kit import START, result
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from kms_core.clock import SystemClock
from kms_core.events import Attempt, BreakerMoved, CacheLookup, FailedOver
from kms_core.testing import ManualClock
from kms_watchdog.cli import command
from kms_watchdog.commands import history as history_command
from kms_watchdog.health import Subject
from kms_watchdog.history import tables
from kms_watchdog.history.incidents import Incident, incidents
from kms_watchdog.history.reading import HistoryFile, HistoryUnreadableError
from kms_watchdog.history.tables import TICKS, Batch, Counted, HourOf
from kms_watchdog.history.tally import BUCKETS, ERROR, FLOOR_SECONDS, MAX_REASONS, Tally, bucket, middle_seconds, total
from kms_watchdog.results import CanaryResult, Mode, Outcome, Reason
from kms_watchdog.sinks import history as sink
from kms_watchdog.sinks.history import FAILURES, FLUSH_AFTER_LOOKS, HistorySink
from kms_watchdog.sinks.sink import Seen

OK, FAILED, BLIND = Outcome.OK, Outcome.FAILED, Outcome.BLIND
LATER = START + timedelta(days=400)
SUBJECT = Subject("round_trip", "us-east-1", "general")

VERSION_1 = """
CREATE TABLE results (id INTEGER PRIMARY KEY, started_at REAL NOT NULL, canary TEXT NOT NULL, region TEXT NOT NULL,
    key TEXT NOT NULL, mode TEXT NOT NULL, outcome TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX by_time ON results (started_at);
CREATE INDEX by_outcome ON results (outcome, id) WHERE outcome != 'OK';
"""


def write_as_version_1(path: Path, results: list[CanaryResult]) -> None:
    """Write rows as version 1 did, into a file of its own or a newer one."""
    with closing(sqlite3.connect(path)) as db, db:
        if not db.execute("PRAGMA user_version").fetchone()[0]:
            db.execute("PRAGMA journal_mode=WAL")
            db.executescript(VERSION_1)
            db.execute("PRAGMA user_version=1")
        for each in results:
            db.execute(
                "INSERT INTO results (started_at, canary, region, key, mode, outcome, body) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    each.started_at_utc.timestamp(),
                    each.canary,
                    each.region,
                    each.key,
                    str(each.mode),
                    str(each.outcome),
                    json.dumps(each.to_json()),
                ),
            )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir(exist_ok=True)
    return tmp_path / "state" / "history.db"


@pytest.fixture
def open_history(path: Path, clock: ManualClock) -> Iterator[Callable[[], HistorySink]]:
    made: list[HistorySink] = []

    def open_it() -> HistorySink:
        made.append(HistorySink(path, clock))
        return made[-1]

    yield open_it
    for history in made:
        history.close()


def settled(history: HistorySink) -> HistorySink:
    """Have all that came written, and wait for it."""
    history.flush()
    history._file.call(lambda _: None)
    return history


@given(st.floats(FLOOR_SECONDS, 200.0))
def test_a_bucket_is_narrow(seconds: float) -> None:
    """Its middle is within the stated error of all that it holds."""
    middle = middle_seconds(bucket(seconds))

    assert abs(middle / seconds - 1) <= ERROR + 1e-6


@pytest.mark.parametrize(("seconds", "number"), [(0.0, 0), (FLOOR_SECONDS, 0), (1e9, BUCKETS - 1), (-1.0, 0)])
def test_what_is_off_the_scale_is_at_its_end(seconds: float, number: int) -> None:
    """Never lost, never an error: clocks of a virtual machine do odd things."""
    assert bucket(seconds) == number


@given(st.lists(st.floats(0.001, 30.0), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_percentile_is_right_within_the_stated_error(seconds: list[float], share: float) -> None:
    """Against the nearest rank of the values themselves."""
    tally = total([_tally(result(seconds=each)) for each in seconds])

    found = tally.percentile(share)

    true = sorted(seconds)[max(0, math.ceil(share * len(seconds)) - 1)]
    assert found == pytest.approx(true, rel=ERROR + 1e-6)


def _tally(*results: CanaryResult) -> Tally:
    made = Tally()
    for each in results:
        made.add(each)
    return made


def test_blind_looks_count_for_neither_side() -> None:
    """Availability is of the answers; blindness has a share of its own; of nothing there is neither."""
    tally = _tally(result(), result(), result(), result(FAILED), result(BLIND))

    assert (tally.availability, tally.blind_share, tally.looks) == (0.75, 0.2, 5)
    assert (Tally().availability, Tally().blind_share, Tally().percentile(0.5), Tally().mean_seconds) == (None,) * 4


def test_only_good_looks_are_timed() -> None:
    """How long a failure took is the length of a timeout."""
    tally = _tally(result(seconds=0.02), result(seconds=0.04), result(FAILED, seconds=9.0))

    assert (tally.seconds_min, tally.seconds_max, tally.mean_seconds) == (0.02, 0.04, pytest.approx(0.03))
    assert tally.percentile(0.99) == 0.04


def test_reasons_are_bounded() -> None:
    """A service that invents codes does not fill the disk; how often is still right."""
    tally = _tally(*(result(FAILED, error_code=f"Code{number}") for number in range(MAX_REASONS + 5)))
    again = total([tally, tally])

    assert tally.reasons.total() == MAX_REASONS + 5
    assert again.reasons["other|"] == 10


def test_a_tally_survives_its_row() -> None:
    """What is on disk adds up as what was counted; an empty minimum too."""
    for tally in (_tally(result(seconds=0.1), result(FAILED, error_code="X")), _tally(result(BLIND))):
        assert Tally.from_row(tally.to_row()) == tally


def test_failures_in_a_row_are_one_incident() -> None:
    """From the first to the recovery, with what one asks first; order of arrival does not matter."""
    looks = [
        result(at=0),
        result(FAILED, at=30, error_code="ReadTimeout", request_id="r-1", detail="no answer"),
        result(FAILED, at=60, error_code="ReadTimeout", request_id="r-2"),
        result(FAILED, at=90, reason=Reason.DENIED, error_code="AccessDenied"),
        result(at=120),
        result(at=150),
        result(BLIND, at=180),
    ]
    random.Random(3).shuffle(looks)

    first, second = incidents(looks)

    assert first == Incident(
        subject=SUBJECT,
        mode=Mode.LIVE,
        began_at_utc=START + timedelta(seconds=30),
        last_at_utc=START + timedelta(seconds=90),
        recovered_at_utc=START + timedelta(seconds=120),
        looks=3,
        outcome=FAILED,
        reasons=("timeout", "denied"),
        error_codes=("ReadTimeout", "AccessDenied"),
        request_id="r-2",
        detail="no answer",
    )
    assert (second.outcome, second.recovered_at_utc, second.looks) == (BLIND, None, 1)
    assert first.lasted(LATER) == timedelta(seconds=90)
    assert second.lasted(START + timedelta(seconds=240)) == timedelta(seconds=60)


def test_incidents_are_each_canarys_own() -> None:
    """Neither another key's success ends one, nor a drill's, nor does one drill end another's."""
    looks = [
        result(FAILED, at=0),
        result(FAILED, at=1, mode=Mode.DRILL, run_id="a"),
        result(at=2, key="payment"),
        result(at=3, mode=Mode.DRILL, run_id="b"),
    ]

    assert [(each.mode, each.recovered_at_utc) for each in incidents(looks)] == [(Mode.LIVE, None), (Mode.DRILL, None)]


def test_only_what_is_not_ok_is_kept_whole(open_history: Callable[[], HistorySink], path: Path) -> None:
    """And the first look that is again: that is what incidents are made of."""
    history = open_history()
    for at, outcome in enumerate([OK, OK, FAILED, FAILED, OK, OK, BLIND, OK]):
        history.write(result(outcome, at=at))
    settled(history)

    kept = HistoryFile(path).results(START, LATER)

    assert [(each.started_at_utc.second, each.outcome) for each in kept] == [
        (2, FAILED),
        (3, FAILED),
        (4, OK),
        (6, BLIND),
        (7, OK),
    ]


def test_a_recovery_after_a_restart_is_seen(open_history: Callable[[], HistorySink], path: Path) -> None:
    """The last answer before it is known from the disk."""
    first = open_history()
    first.write(result(FAILED, at=0))
    first.close()
    second = open_history()
    second.write(result(at=60))
    settled(second)

    (incident,) = incidents(HistoryFile(path).results(START, LATER))

    assert incident.recovered_at_utc == START + timedelta(seconds=60)


def test_every_look_is_in_the_sums(open_history: Callable[[], HistorySink], path: Path) -> None:
    """By the hour, over flushes and restarts; live and drill apart."""
    for run in range(3):
        history = open_history()
        for i in range(40):
            history.write(result(FAILED if i == 7 else OK, at=3600 * run / 2 + i, seconds=0.01 * (i + 1)))
            if i % 11 == 0:
                settled(history)
        history.write(result(mode=Mode.DRILL, at=1))
        history.close()

    hours = dict(HistoryFile(path).hours(START, LATER))

    start = int(START.timestamp())
    live = [hours[HourOf(start + 3600 * n, SUBJECT, Mode.LIVE)] for n in (0, 1)]
    assert [(tally.ok, tally.failed) for tally in live] == [(78, 2), (39, 1)]
    assert live[0].seconds_max == pytest.approx(0.4)
    assert live[0].buckets.total() == 78
    assert hours[HourOf(start, SUBJECT, Mode.DRILL)].ok == 3
    assert len(hours) == 3


def test_events_are_counted(open_history: Callable[[], HistorySink], path: Path) -> None:
    """Requests to KMS, failovers, breakers that opened; not those that closed, and nothing of the cache."""
    history = open_history()
    request = Attempt(
        region="us-east-1", operation="Decrypt", purpose="pii", seconds=0.1, error_code="", request_id="", pinned=True
    )
    events = (
        request,
        request,
        FailedOver(from_region="us-east-1", to_region="us-west-2", operation="Decrypt", purpose="pii"),
        BreakerMoved(region="us-east-1", old="closed", new="open", cause="failures"),
        BreakerMoved(region="us-east-1", old="half_open", new="closed", cause="probe_succeeded"),
        CacheLookup(purpose="pii", operation="encrypt", hit=True),
    )
    for _ in range(2):
        for event in events:
            history.on_event(Seen(event=event, mode=Mode.LIVE, at_utc=START))
        settled(history)

    hour = int(START.timestamp())
    assert HistoryFile(path).counted(START, LATER) == {
        Counted(hour, Mode.LIVE, "kms_request", "us-east-1", "Decrypt"): 4,
        Counted(hour, Mode.LIVE, "failed_over", "us-east-1", "us-west-2"): 2,
        Counted(hour, Mode.LIVE, "breaker_opened", "us-east-1", "failures"): 2,
    }


def test_the_ring_of_each_canary_survives(open_history: Callable[[], HistorySink], path: Path) -> None:
    """The last looks of each, whatever their interval, in their order; the file does not grow with them."""
    first = open_history()
    for i in range(TICKS * 3):
        first.write(result(at=i))
    first.write(result(at=0, region="eu-west-1"))
    first.close()
    second = open_history()
    second.write(result(at=TICKS * 3))
    settled(second)

    ticks = second.ticks()

    seen = [int((tick.started_at_utc - START).total_seconds()) for tick in ticks[SUBJECT]]
    assert seen == list(range(TICKS * 2 + 1, TICKS * 3 + 1))
    assert len(ticks) == 2
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM ticks").fetchone() == (TICKS + 1,)
        assert db.execute("SELECT count(*) FROM results").fetchone() == (0,)


def test_a_flood_does_not_wait_for_the_beat(open_history: Callable[[], HistorySink], path: Path) -> None:
    """Some hundred looks are written at once, without anybody's `flush`."""
    history = open_history()
    for i in range(FLUSH_AFTER_LOOKS):
        history.write(result(at=i / 1000))
    history._file.call(lambda _: None)

    ((_, tally),) = HistoryFile(path).hours(START, LATER)

    assert tally.ok == FLUSH_AFTER_LOOKS


def test_a_full_disk_loses_no_sum(open_history: Callable[[], HistorySink], path: Path) -> None:
    """What could not be written waits and is written later; the log says both, once; the page lives from memory."""
    history = open_history()
    pages = history._file.call(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    history._file.call(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    with structlog.testing.capture_logs() as logs:
        for i in range(20):
            history.write(result(FAILED, at=i, request_id="r" * 2000))
            settled(history)
        remembered = len(history.ticks()[SUBJECT])
        history._file.call(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchone())
        settled(history)

    ((_, tally),) = HistoryFile(path).hours(START, LATER)
    assert [entry["event"] for entry in logs] == ["history.failed", "history.recovered"]
    assert (tally.failed, remembered) == (20, 20)
    assert len(HistoryFile(path).results(START, LATER)) == 20


def test_what_waits_is_bounded() -> None:
    """Whole looks by number, the newest first; sums and events are of a few numbers and stay."""
    failed, newer = Batch(), Batch()
    for at in range(5):
        tables.add(failed, result(at=at), sink.Counter())
        failed.rows.append(result(at=at))
    tables.add(newer, result(at=9), sink.Counter())
    newer.rows.append(result(at=9))

    joined = newer.after(failed, max_rows=2)

    assert [each.started_at_utc.second for each in joined.rows] == [4, 9]
    assert [tally.ok for tally in joined.hours.values()] == [6]
    assert [tally.ok for tally in failed.hours.values()] == [5]


def test_old_things_go(open_history: Callable[[], HistorySink], path: Path, clock: ManualClock) -> None:
    """Whole looks after two weeks, sums after a hundred days."""
    history = open_history()
    for days in (0, 30, 95, 110):
        history.write(result(FAILED, at=days * 86_400))
    settled(history)

    history._file.call(lambda db: tables.trim(db, START + timedelta(days=120)))

    assert [each.started_at_utc for each in HistoryFile(path).results(START, LATER)] == [START + timedelta(days=110)]
    days_left = {(of.at_utc - START).days for of, _ in HistoryFile(path).hours(START, LATER)}
    assert days_left == {30, 95, 110}


def test_it_is_trimmed_now_and_then(open_history: Callable[[], HistorySink], path: Path, clock: ManualClock) -> None:
    """By the writer, so that nobody has to."""
    history = open_history()
    history.write(result(FAILED))
    settled(history)
    clock.advance(15 * 86_400)
    for i in range(sink._TRIM_EVERY):
        history.write(result(at=15 * 86_400 + i))
        settled(history)

    assert HistoryFile(path).results(START, START + timedelta(days=1)) == []


def test_version_1_is_summed_and_thinned_out(open_history: Callable[[], HistorySink], path: Path) -> None:
    """It kept every look: nothing of the digest is lost, the page is not empty, and failures stay whole."""
    looks = [result(FAILED if i in {50, 51} else OK, at=i) for i in range(100)]
    write_as_version_1(path, looks)

    history = open_history()

    file = HistoryFile(path)
    ((_, tally),) = file.hours(START, LATER)
    assert (tally.ok, tally.failed) == (98, 2)
    assert [each.started_at_utc.second for each in file.results(START, LATER)] == [50, 51, 52]
    assert list(history.ticks()[SUBJECT]) == looks[-TICKS:]
    assert [each.outcome for each in history.failures()] == [FAILED, FAILED]


def test_forward_back_and_forward_again(open_history: Callable[[], HistorySink], path: Path) -> None:
    """What version 1 wrote between two runs of this one is summed too, once."""
    write_as_version_1(path, [result(at=0), result(FAILED, at=1)])
    open_history().close()
    write_as_version_1(path, [result(at=2), result(at=3)])

    for _ in range(2):
        open_history().close()

    ((_, tally),) = HistoryFile(path).hours(START, LATER)
    assert (tally.ok, tally.failed) == (3, 1)
    (incident,) = incidents(HistoryFile(path).results(START, LATER))
    assert incident.recovered_at_utc == START + timedelta(seconds=2)


def test_version_1_can_be_read_as_it_is(path: Path) -> None:
    """`history` and `digest` change nothing: the file may be a copy, or of a daemon not yet renewed."""
    write_as_version_1(path, [result(at=0), result(FAILED, at=1)])

    file = HistoryFile(path)

    assert [each.outcome for each in file.every_look(START, LATER)] == [OK, FAILED]
    ((_, tally),) = file.hours(START, LATER)
    assert (tally.ok, tally.failed) == (1, 1)
    assert not file.counted(START, LATER)


def test_it_is_read_while_it_is_written(open_history: Callable[[], HistorySink], path: Path) -> None:
    """Neither waits for the other."""
    history = open_history()
    seen = []
    for i in range(5):
        history.write(result(FAILED, at=i))
        settled(history)
        seen.append(len(HistoryFile(path).results(START, LATER)))

    assert seen == [1, 2, 3, 4, 5]


def test_every_look_joins_failures_and_the_ring(open_history: Callable[[], HistorySink], path: Path) -> None:
    """Each once."""
    history = open_history()
    for i in range(TICKS + 10):
        history.write(result(FAILED if i in {0, TICKS + 5} else OK, at=i))
    settled(history)

    found = HistoryFile(path).every_look(START, LATER)

    assert [int((each.started_at_utc - START).total_seconds()) for each in found] == [0, 1, *range(10, TICKS + 10)]


def test_a_folder_that_cannot_be_written_can_be_read(open_history: Callable[[], HistorySink], path: Path) -> None:
    """A copy on a read-only disk, say; root may write anywhere, so this one is only said of others."""
    history = open_history()
    history.write(result(FAILED))
    history.close()
    path.parent.chmod(0o555)
    try:
        assert len(HistoryFile(path).results(START, LATER)) == 1
    finally:
        path.parent.chmod(0o755)


def test_what_is_no_history_is_one_line(tmp_path: Path) -> None:
    """Not there, or not ours."""
    garbage = tmp_path / "history.db"
    garbage.write_bytes(b"garbage" * 1000)

    with pytest.raises(HistoryUnreadableError, match="no history there"):
        HistoryFile(tmp_path / "none.db")
    with pytest.raises(HistoryUnreadableError, match="not a database"):
        HistoryFile(garbage)


def test_a_newer_file_that_cannot_be_lived_with_is_refused(path: Path) -> None:
    """Rather than misread."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE results (x)")
        db.execute("PRAGMA user_version=100")

    with pytest.raises(HistoryUnreadableError, match="newer version"):
        HistoryFile(path)


def test_failures_have_rings_of_their_own(open_history: Callable[[], HistorySink]) -> None:
    """Live ones are not washed out by a drill's."""
    history = open_history()
    history.write(result(FAILED, at=0))
    for i in range(FAILURES * 2):
        history.write(result(FAILED, at=i + 1, mode=Mode.DRILL))

    assert len(history.failures()) == FAILURES + 1
    history.close()
    assert len(open_history().failures()) == FAILURES + 1


NOW = SystemClock().now_utc().replace(microsecond=0)
AGO = (NOW - START).total_seconds()


@pytest.fixture
def run(open_history: Callable[[], HistorySink], write_config: Callable[..., Path]) -> Callable[..., Result]:
    """Run `history` over a failure of half an hour ago, a blind moment elsewhere and one of a drill."""
    history = open_history()
    for at, outcome in ((-1800, OK), (-1770, FAILED), (-1740, FAILED), (-1710, OK), (-60, OK)):
        history.write(result(outcome, at=AGO + at, error_code="ReadTimeout" if outcome is FAILED else ""))
    history.write(result(BLIND, at=AGO - 100, region="eu-west-1", key="payment"))
    history.write(result(FAILED, at=AGO - 50, mode=Mode.DRILL, run_id="r"))
    history.close()
    config = str(write_config())

    def run_it(*arguments: str) -> Result:
        return CliRunner().invoke(command, ["history", *arguments, "--config", config])

    return run_it


def test_history_tells_incidents(run: Callable[..., Result]) -> None:
    """A line each when piped, oldest first; 1, since something failed."""
    told = run()

    lines = [line.split("\t") for line in told.stdout.splitlines()]
    assert told.exit_code == 1
    assert [(cells[0], *cells[2:7]) for cells in lines] == [
        ("FAILED", "1m", "round_trip", "us-east-1", "general", "2"),
        ("BLIND", lines[1][2], "round_trip", "eu-west-1", "payment", "1"),
    ]
    assert lines[0][7] == "timeout ReadTimeout"
    assert lines[1][2].endswith(" and on")


@pytest.mark.parametrize(
    ("arguments", "code", "count"),
    [
        pytest.param(["--region", "us-east-1"], 1, 1, id="region"),
        pytest.param(["--key", "payment"], 3, 1, id="only-blind"),
        pytest.param(["--canary", "round_trip:eu-west-1:payment"], 3, 1, id="canary-id"),
        pytest.param(["--canary", "round_trip"], 1, 2, id="kind"),
        pytest.param(["--canary", "golden"], 0, 0, id="another-kind"),
        pytest.param(["--mode", "drill"], 1, 1, id="drill"),
        pytest.param(["--since", "10m"], 3, 1, id="since"),
        pytest.param(["--until", "20m"], 1, 1, id="until"),
        pytest.param(["--since", f"{NOW - timedelta(seconds=1750):%Y-%m-%dT%H:%M:%S}Z"], 1, 2, id="in-the-middle"),
        pytest.param(["--all"], 1, 6, id="every-look"),
        pytest.param(["--all", "--since", "10m"], 3, 2, id="last-looks"),
    ],
)
def test_history_filters(run: Callable[..., Result], arguments: list[str], code: int, count: int) -> None:
    """And its exit code is of what it tells."""
    told = run(*arguments)

    assert (told.exit_code, len(told.stdout.splitlines())) == (code, count)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--region", "us-eas-1"], "no region 'us-eas-1' in .*; did you mean us-east-1?", id="region"),
        pytest.param(["--region", "mars"], "no region 'mars' in .*; there are us-east-1, us-west-2", id="none-near"),
        pytest.param(["--key", "generl", "--all"], "no key 'generl' in .*; did you mean general?", id="key"),
        pytest.param(["--key", "paiment"], "no key 'paiment' in .*; did you mean payment?", id="key-of-history"),
        pytest.param(["--canary", "round-trip"], "no canary 'round-trip' in .*; did you mean round_trip?", id="kind"),
        pytest.param(
            ["--canary", "round_trip:us-east-1:genral"],
            "did you mean round_trip:us-east-1:general?",
            id="canary-id",
        ),
        pytest.param(["--canary", "nope", "--format", "json"], "no canary 'nope' in .*; there are round_trip", id="no"),
    ],
)
def test_a_name_that_nothing_has_is_refused(run: Callable[..., Result], arguments: list[str], says: str) -> None:
    """A misspelt name would be a false all-clear: nothing failed there. One line, and nothing on stdout."""
    told = run(*arguments)

    assert (told.exit_code, told.stdout, len(told.stderr.splitlines())) == (2, "", 1)
    assert re.search(says.replace("?", r"\?"), told.stderr)


def test_names_that_only_the_history_has_are_known(
    open_history: Callable[[], HistorySink], write_config: Callable[..., Path]
) -> None:
    """Of a configuration of before, each region of a pair too, and of looks that only a drill made."""
    history = open_history()
    crossed = result(FAILED, at=AGO - 60, region="ap-south-1:ap-east-1", key="old")
    history.write(replace(crossed, canary="cross_region"))
    history.write(result(FAILED, at=AGO - 50, mode=Mode.DRILL, region="sa-east-1", run_id="r"))
    history.close()
    config = str(write_config())

    asked = (
        ("--region", "ap-east-1"),
        ("--region", "ap-south-1:ap-east-1"),
        ("--key", "old"),
        ("--region", "sa-east-1", "--mode", "drill"),
    )
    codes = [CliRunner().invoke(command, ["history", *one, "--config", config]).exit_code for one in asked]

    assert codes == [1, 1, 1, 1]


def test_history_for_programs(run: Callable[..., Result]) -> None:
    """JSON and CSV say the same."""
    as_json = json.loads(run("--format", "json").stdout)
    as_csv = list(csv.DictReader(io.StringIO(run("--format", "csv").stdout)))
    looks = json.loads(run("--all", "--format", "json").stdout)

    assert as_json["schema"] == 1
    assert [each["looks"] for each in as_json["incidents"]] == [2, 1]
    assert [int(each["looks"]) for each in as_csv] == [2, 1]
    assert json.loads(as_csv[0]["error_codes"]) == as_json["incidents"][0]["error_codes"] == ["ReadTimeout"]
    assert [each["outcome"] for each in looks["results"]] == ["OK", "FAILED", "FAILED", "OK", "BLIND", "OK"]


@pytest.mark.parametrize("width", [80, 200])
def test_history_is_readable_on_a_terminal(capsys: pytest.CaptureFixture[str], width: int) -> None:
    """However narrow it is, no name is cut; what a canary says is no markup, and what is empty is left out."""
    looks = [result(FAILED, detail="alias [bold]leads[/bold] elsewhere"), result(at=90)]

    history_command.show_incidents(incidents(looks), "table", Console(force_terminal=True, width=width), LATER)
    history_command.show_looks(looks, "table", Console(force_terminal=True, width=width))

    written = capsys.readouterr().out
    assert written.count("alias [bold]leads[/bold] elsewhere") == 2
    assert "  2026-01-01T00:00:00Z  1m30s  round_trip  us-east-1  general  1 looks\n    timeout  alias" in written


def test_without_a_history_it_could_not_tell(write_config: Callable[..., Path]) -> None:
    """3, on one line: silence is never health."""
    told = CliRunner().invoke(command, ["history", "--config", str(write_config())])

    assert told.exit_code == 3
    assert told.stderr.startswith("kms-watchdog: ")
    assert len(told.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("2026-01-31T12:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_a_moment_is_a_time_or_how_long_ago(text: str, found: datetime) -> None:
    """UTC unless it says otherwise."""
    assert history_command.Moment(lambda: NOW).convert(text, None, None) == found


def test_what_is_no_moment_is_refused(run: Callable[..., Result]) -> None:
    """Usage."""
    assert run("--since", "yesterday").exit_code == 2


def test_ten_thousand_canaries_share_the_memory_of_their_last_looks(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ring of sixty each would be hundreds of MiB of what the status page draws; after a restart it is no more."""
    monkeypatch.setattr(tables, "MAX_TICKS", 40)
    regions = [f"r{number}" for number in range(10)]
    with closing(HistorySink(path, ManualClock())) as first:
        for at, region in itertools.product(range(8), regions):
            first.write(replace(result(at=at), region=region))
        of_each = first.ticks()
    with closing(HistorySink(path, ManualClock())) as second:
        after = second.ticks()
        numbers = dict(second._numbers)

    assert {len(looks) for looks in of_each.values()} == {4}
    assert [look.started_at_utc for look in of_each[Subject("round_trip", "r0", "general")]] == [
        START + timedelta(seconds=at) for at in range(4, 8)
    ]
    assert after == of_each
    assert set(numbers.values()) == {8}
