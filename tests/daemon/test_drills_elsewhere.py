"""What drills of other machines left in the evidence store: read once it is whole, never counted as our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest
import structlog
from evidence_kit import BUCKET, MoodyStore, make_bucket, moto_aws, write_config, write_journal

from kms_chaos.evidence.segments import Cut
from kms_chaos.evidence.sending import finish
from kms_core.testing import FakeEstate, ManualClock, core_over
from kms_watchdog import metrics
from kms_watchdog.config import Settings, load
from kms_watchdog.daemon import Daemon, pools_of
from kms_watchdog.drills.elsewhere import (
    FOLLOWED,
    LATE_SECONDS,
    OPEN_AT_MOST,
    PATIENCE_SECONDS,
    Elsewhere,
    elsewhere_dir,
)
from kms_watchdog.drills.folder import DrillFolder, began, folder
from kms_watchdog.drills.follow import Follower
from kms_watchdog.drills.journal import line, read
from kms_watchdog.drills.schedule import DrillSchedule
from kms_watchdog.drills.slot_ledger import SlotLedger
from kms_watchdog.drills.slots import Plan, SlotState
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.evidence.choice import open_store
from kms_watchdog.evidence.store import Store
from kms_watchdog.metrics import Metric
from kms_watchdog.sinks.prometheus import Exposition, PrometheusSink
from kms_watchdog.state_folder import StateFolder
from kms_watchdog.web.documents import status_document
from kms_watchdog.web.page import Page, Viewer

__all__ = ["moto_aws"]

BEGAN = datetime(2026, 2, 4, 3, tzinfo=UTC)
NOW = datetime(2026, 2, 12, 12, tzinfo=UTC)
ACCOUNT = "123456789012"
RUN = "20260204T030000Z-region-blackhole"
PLAN = Plan(name="failover", drill="region-blackhole", every="month", day=3, at=time(3), window=timedelta(days=7))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start_utc=NOW, auto_advance=True)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(write_config(tmp_path, f'store = "dir:{tmp_path}/store"'))


@pytest.fixture
def store(tmp_path: Path) -> MoodyStore:
    return MoodyStore(tmp_path / "store")


def run_elsewhere(
    tmp_path: Path,
    run_id: str = RUN,
    *,
    verdict: str = "HELD",
    slot: str = "failover/2026-02",
    account: str = ACCOUNT,
    closed: bool = True,
) -> DrillFolder:
    """A run in another machine's state folder, as the engine writes it."""
    where = DrillFolder(tmp_path / "other" / "drills" / run_id)
    where.path.mkdir(parents=True)
    first = {
        "run_id": run_id,
        "drill": "region-blackhole",
        "region": "us-east-1",
        "slot": slot,
        "owner": {"pid": 7, "host": "drills-in-oregon"},
        "config": {"estate": {"account_id": account}},
    }
    fired = {"name": "ParkerFlight-KMS-HighErrorRate", "state": "ALARM"}
    events: list[tuple[str, Mapping[str, object]]] = [("run-started", first), ("alarm-state", fired)]
    if verdict:
        events.append(("verdict", {"verdict": verdict, "claims": {}, "figures": {"detect_seconds": 1.5}}))
    if closed:
        events.append(("closed", {"by": "drill", "verdict": verdict or None}))
    write_journal(where.journal, events, began(run_id) or BEGAN)
    return where


def last_line(where: DrillFolder) -> bytes:
    """What a healer closes a journal with."""
    found = read(where.journal)
    raw, _ = line(seq=len(found.records), at_utc=NOW, t=99.0, event="closed", fields={"by": "healer"}, prev=found.head)
    return raw


def sent(where: DrillFolder, store: Store, clock: ManualClock) -> None:
    finish(where, store, None, clock, Cut(seconds=10, size_bytes=1 << 18))


class Place:
    """This machine: what it reads from the store, and what its metrics say then."""

    def __init__(self, settings: Settings, store: Store, clock: ManualClock) -> None:
        self.settings, self.clock = settings, clock
        self.exposition = Exposition()
        sink = PrometheusSink(self.exposition, regions=settings.estate.regions)
        self.follower = Follower(settings.state.dir, drills=[sink])
        self.elsewhere = Elsewhere(settings, store, clock)

    def look(self) -> list[str]:
        """Ask the store, take up what it told, and return the events logged."""
        with structlog.testing.capture_logs() as logs:
            self.elsewhere.look()
            self.follower.follow()
        return [entry["event"] for entry in logs]

    def value(self, metric: Metric, **labels: str) -> float:
        return sum(
            sample.value
            for family in self.exposition.families()
            for sample in family.samples
            if sample.name == metric.full_name and labels.items() <= sample.labels.items()
        )


@pytest.fixture
def place(settings: Settings, store: MoodyStore, clock: ManualClock) -> Place:
    return Place(settings, store, clock)


def test_a_run_of_another_machine_is_known_once_it_is_whole(
    place: Place, store: MoodyStore, clock: ManualClock, tmp_path: Path
) -> None:
    """When it was and that it held is news here; counters, figures and breakers are the other machine's to tell."""
    before = place.look()
    sent(run_elsewhere(tmp_path), store, clock)

    assert (before, place.look(), place.look()) == ([], ["drill.elsewhere"], [])
    (view,) = place.follower.runs()
    assert (view.run_id, view.verdict, view.host, view.slot) == (
        RUN,
        Verdict.HELD,
        "drills-in-oregon",
        PLAN.name + "/2026-02",
    )
    assert view.elsewhere
    assert not view.active
    ended_at = (BEGAN + timedelta(seconds=3)).timestamp()
    assert place.value(metrics.DRILL_LAST_SUCCESS) == place.value(metrics.DRILL_LAST_RUN) == ended_at
    assert place.value(metrics.DRILL_RUNS) == place.value(metrics.DRILL_ACTIVE) == 0
    assert place.value(metrics.DRILL_DETECTION) == 0


@pytest.mark.usefixtures("moto_aws")
def test_a_bucket_tells_the_same(tmp_path: Path, clock: ManualClock) -> None:
    """As a folder does, under a prefix."""
    settings = load(write_config(tmp_path, f'store = "s3://{BUCKET}/kms"'))
    make_bucket(settings)
    bucket = open_store(settings, clock)
    assert bucket is not None
    place = Place(settings, bucket, clock)
    sent(run_elsewhere(tmp_path), bucket, clock)

    assert place.look() == ["drill.elsewhere"]
    assert [view.verdict for view in place.follower.runs()] == [Verdict.HELD]


def test_a_run_that_broke_held_nothing(place: Place, store: MoodyStore, clock: ManualClock, tmp_path: Path) -> None:
    """It moves the time of the last run alone, and not back behind one of our own."""
    sent(run_elsewhere(tmp_path, verdict="BROKE"), store, clock)
    place.exposition.put(metrics.DRILL_LAST_RUN, "region-blackhole", value=NOW.timestamp())

    place.look()

    assert place.value(metrics.DRILL_LAST_SUCCESS) == 0
    assert place.value(metrics.DRILL_LAST_RUN) == NOW.timestamp()


def test_what_was_read_is_there_after_a_restart(
    place: Place, settings: Settings, store: MoodyStore, clock: ManualClock, tmp_path: Path
) -> None:
    """From the state folder, alarms and all: the store is asked for its list alone."""
    sent(run_elsewhere(tmp_path), store, clock)
    place.look()
    (view,) = place.follower.runs()
    after, asked = Place(settings, store, clock), store.asked

    after.follower.restore()
    assert after.follower.runs() == (view,)
    assert set(view.alarms) == {"ParkerFlight-KMS-HighErrorRate"}
    assert after.look() == []
    assert store.asked == asked + 1


@pytest.mark.parametrize("first", [True, False])
def test_our_own_run_is_not_told_twice(
    place: Place, settings: Settings, store: MoodyStore, clock: ManualClock, tmp_path: Path, *, first: bool
) -> None:
    """Whether it was here before the store was asked, or came later, as from a backup."""
    other = run_elsewhere(tmp_path)
    sent(other, store, clock)
    own = folder(settings.state.dir, RUN)
    if not first:
        place.look()
    own.path.mkdir(parents=True)
    own.journal.write_bytes(other.journal.read_bytes())
    after = Place(settings, store, clock)
    after.follower.restore()

    assert after.look() == []
    assert [view.elsewhere for view in after.follower.runs()] == [False]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        pytest.param(
            lambda text: text.replace("HELD", "BROK"), ["drill.elsewhere_unreadable"], id="not the manifest's"
        ),
        pytest.param(lambda text: text[:-1], ["drill.elsewhere_unreadable"], id="cut off"),
        pytest.param(lambda _: "", ["drill.elsewhere_unreadable"], id="empty"),
    ],
)
def test_what_cannot_be_believed_is_not_taken_over(
    place: Place,
    store: MoodyStore,
    clock: ManualClock,
    tmp_path: Path,
    spoil: Callable[[str], str],
    told: list[str],
) -> None:
    """It is said once; the time of the last success stays where it was."""
    sent(run_elsewhere(tmp_path), store, clock)
    journal = tmp_path / "store" / "runs" / RUN / "journal.ndjson"
    journal.chmod(0o640)
    journal.write_text(spoil(journal.read_text(encoding="utf-8")), encoding="utf-8")

    assert (place.look(), place.look()) == (told, [])
    assert place.follower.runs() == ()


def test_another_whole_journal_in_its_place_is_not_taken_over(
    place: Place, store: MoodyStore, clock: ManualClock, tmp_path: Path
) -> None:
    """Its chain holds: the manifest alone tells."""
    sent(run_elsewhere(tmp_path, verdict="BROKE"), store, clock)
    journal = tmp_path / "store" / "runs" / RUN / "journal.ndjson"
    journal.chmod(0o640)
    journal.write_bytes(run_elsewhere(tmp_path / "forged").journal.read_bytes())

    assert place.look() == ["drill.elsewhere_unreadable"]


@pytest.mark.parametrize("manifest", ["[]", "{}", "[" * 100_000, '{"files": {"journal.ndjson": 1}}'])
def test_a_manifest_that_is_none(
    place: Place, store: MoodyStore, clock: ManualClock, tmp_path: Path, manifest: str
) -> None:
    """Whatever somebody put there ends no look: the run after it is read."""
    sent(run_elsewhere(tmp_path), store, clock)
    sent(run_elsewhere(tmp_path, "20260205T030000Z-region-blackhole", slot=""), store, clock)
    path = tmp_path / "store" / "runs" / RUN / "manifest.json"
    path.chmod(0o640)
    path.write_text(manifest, encoding="utf-8")

    assert place.look() == ["drill.elsewhere_unreadable", "drill.elsewhere"]


def test_another_accounts_drill_is_none_of_this_estate(
    place: Place, store: MoodyStore, clock: ManualClock, tmp_path: Path
) -> None:
    """Two estates may keep their evidence in one place."""
    sent(run_elsewhere(tmp_path, account="210987654321"), store, clock)

    assert (place.look(), place.follower.runs()) == ([], ())


@pytest.mark.parametrize("name", ["..", "approvals", "20261340T000000Z-x", "hand-made", "x" * 200])
def test_a_folder_that_is_no_run_is_left_alone(place: Place, store: MoodyStore, tmp_path: Path, name: str) -> None:
    """Names in a store are data."""
    (tmp_path / "store" / "runs" / name).mkdir(parents=True, exist_ok=True)

    assert place.look() == []
    assert store.asked == 1
    assert not elsewhere_dir(place.settings.state.dir).exists()


def test_what_is_long_ago_is_let_go(place: Place, store: MoodyStore, clock: ManualClock, tmp_path: Path) -> None:
    """Neither read nor kept, and of what is kept and was damaged another copy is read."""
    sent(run_elsewhere(tmp_path), store, clock)
    place.look()
    (kept,) = elsewhere_dir(place.settings.state.dir).iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    again = place.look()
    clock.advance(FOLLOWED.total_seconds())
    later = place.look()

    assert (again, later) == (["drill.elsewhere"], [])
    assert list(elsewhere_dir(place.settings.state.dir).iterdir()) == []


# -- up to when it is known what others did -------------------------------------------------------------------------


def test_a_drill_that_runs_elsewhere_is_waited_for(
    place: Place, store: MoodyStore, clock: ManualClock, tmp_path: Path
) -> None:
    """Until its manifest is there, or it is so old that it must have died."""
    began = NOW - timedelta(minutes=20)
    sent(run_elsewhere(tmp_path, f"{began:%Y%m%dT%H%M%SZ}-region-blackhole", closed=False), store, clock)
    place.look()
    meanwhile = place.elsewhere.told_until()
    clock.advance(OPEN_AT_MOST.total_seconds())
    place.look()

    asked = store.asked
    place.look()

    assert meanwhile == began
    assert NOW + timedelta(hours=1) < place.elsewhere.told_until() < clock.now_utc()
    assert store.asked == asked + 1  # for the list alone: the dead one is asked after each hour


def test_a_run_that_is_sealed_days_later_is_known_then(
    place: Place, store: MoodyStore, clock: ManualClock, tmp_path: Path
) -> None:
    """Its key or its machine came back; asked after each hour, it is found within one."""
    died = run_elsewhere(tmp_path, closed=False)
    sent(died, store, clock)
    before = place.look()
    with died.journal.open("ab") as file:
        file.write(last_line(died))
    sent(died, store, clock)
    at_once = place.look()
    clock.advance(LATE_SECONDS)

    assert (before, at_once, place.look()) == ([], [], ["drill.elsewhere"])
    assert [view.verdict for view in place.follower.runs()] == [Verdict.HELD]


def test_a_store_that_does_not_answer_is_waited_for_and_not_for_ever(
    place: Place, store: MoodyStore, clock: ManualClock
) -> None:
    """Told once, and once when it answers again."""
    store.down = True
    first, second, nothing = place.look(), place.look(), place.elsewhere.told_until()
    clock.advance(PATIENCE_SECONDS)
    without = place.elsewhere.told_until()
    store.down = False
    again = place.look()

    assert (first, second, again) == (["drill.store_unreadable"], [], ["drill.store_readable"])
    assert nothing < BEGAN
    assert NOW < without <= clock.now_utc()


class Ledger:
    """A schedule of one plan, over a ledger in this machine's state folder."""

    def __init__(self, place: Place, *, since_utc: datetime) -> None:
        self.place = place
        self.ledger = SlotLedger(place.settings.state.dir / "slots.db", ManualClock(start_utc=since_utc))
        self.ledger.planned_since([PLAN.name])
        self.ledger.close()
        self.ledger = SlotLedger(place.settings.state.dir / "slots.db", place.clock)
        self.schedule = DrillSchedule(
            place.settings.state.dir,
            self.ledger,
            place.exposition,
            place.clock,
            start=_nothing_starts,  # type: ignore[arg-type] # no slot is open in these tests
            runs=place.follower.runs,
        )
        self.schedule.plan([PLAN], place.elsewhere.told_until)

    def after_a_look(self) -> list[tuple[SlotState, str]]:
        self.schedule.reconcile()
        return [(row.state, row.note) for row in self.ledger.rows()]


def _nothing_starts(*_: object) -> object:
    raise AssertionError("the window is closed")


@pytest.fixture
def ledger(place: Place) -> Iterator[Ledger]:
    made = Ledger(place, since_utc=BEGAN - timedelta(days=2))
    yield made
    made.ledger.close()


def test_a_host_that_was_away_for_the_whole_window_calls_nothing_missed_that_another_did(
    place: Place, ledger: Ledger, store: MoodyStore, clock: ManualClock, tmp_path: Path
) -> None:
    """It waits for the store's answer first, and writes down whose run it was."""
    sent(run_elsewhere(tmp_path), store, clock)
    before = ledger.after_a_look()
    place.look()

    assert (before, ledger.after_a_look()) == ([], [(SlotState.ELSEWHERE, "HELD")])
    assert place.value(metrics.DRILL_SLOTS_MISSED) == place.value(metrics.DRILL_MISSED_SLOT) == 0


def test_a_slot_that_nobody_had_is_missed(place: Place, ledger: Ledger) -> None:
    """Once the store has said so."""
    before = ledger.after_a_look()
    place.look()

    assert (before, ledger.after_a_look()) == ([], [(SlotState.MISSED, "")])
    assert place.value(metrics.DRILL_SLOTS_MISSED) == 1
    assert place.value(metrics.DRILL_MISSED_SLOT) > 0


def test_a_miss_that_was_none_is_taken_back(
    place: Place, ledger: Ledger, store: MoodyStore, clock: ManualClock, tmp_path: Path
) -> None:
    """The store was down, or another machine could not send for days: what is shown clears by itself."""
    store.down = True
    clock.advance(PATIENCE_SECONDS + 1)
    place.look()
    alone = ledger.after_a_look()
    store.down = False
    sent(run_elsewhere(tmp_path, verdict=""), store, clock)
    place.look()

    assert (alone, ledger.after_a_look()) == ([(SlotState.MISSED, "")], [(SlotState.ELSEWHERE, "came to no verdict")])
    assert place.value(metrics.DRILL_MISSED_SLOT) == 0


def test_the_daemon_asks_where_a_store_is_configured(
    settings: Settings, store: MoodyStore, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a job in a pool of its own, which a store that hangs holds alone; the page says whose drill it was."""
    sent(run_elsewhere(tmp_path), store, clock)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    estate, path = FakeEstate(settings.estate.regions, clock=clock), tmp_path / "watchdog.toml"
    estate.create_key("alias/general")
    made = Daemon(
        settings,
        path,
        StateFolder(settings.state.dir),
        clock,
        make_core=lambda config, observer: core_over(estate, config, observer=observer),
    )
    try:
        made.look_back()
        jobs = {job.id: job for job in made.jobs()}
        jobs["drills.elsewhere"].action()
        jobs["drills.follow"].action()
        jobs["drills.slots"].action()
        page = Page().fragment(status_document(made.status(), detail=True), Viewer())
        for_strangers = Page().fragment(status_document(made.status()), Viewer())
    finally:
        made.stop()

    pools = pools_of(settings, ())
    assert pools[jobs["drills.elsewhere"].pool] == 1
    assert "on drills-in-oregon" in page
    assert "in the evidence store" in page
    assert "on another machine" in for_strangers
    assert "drills-in-oregon" not in for_strangers


def test_without_a_store_nobody_is_asked(tmp_path: Path) -> None:
    """Nor is there a job for it."""
    alone = load(write_config(tmp_path))

    assert "drills.elsewhere" not in pools_of(alone, ())


def test_a_runs_name_tells_when_it_began_or_nothing() -> None:
    """What tells nothing belongs to every period, and a thirteenth month ends no archive."""
    assert began("20261340T000000Z-x") is None
    assert began("hand-made") is None
    assert began("20261124T031500Z-x") == datetime(2026, 11, 24, 3, 15, tzinfo=UTC)
