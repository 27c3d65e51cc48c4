"""A training: a fault that nobody names until it is found, answers that are counted, and no proof in the end."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from guard_kit import settings_of, write_config
from waiting import wait_until

from kms_chaos import drill, proofs, training
from kms_chaos.cli import cli
from kms_chaos.drill import DrillError
from kms_chaos.guards import blast_radius
from kms_chaos.halt import Halt
from kms_chaos.proofs import Doubt, Proof
from kms_chaos.run import plan
from kms_chaos.testing import END, RUN_ID, TARGET, held_story, of
from kms_chaos.training import Question, Training
from kms_core import SystemClock
from kms_core.testing import ManualClock
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import DrillFolder, drills_dir, folders
from kms_watchdog.drills.follow import Follower

CLOCK = SystemClock()
NOT_PRODUCTION = "[drills]\nproduction = false"
FIT = tuple(name for name in drill.shipped_names() if not training.why_not(drill.find(name)))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("two-regions-lost", "more than one region"),
        ("key-revoked", "more than one region"),
        ("cold-start", "starts or dies in the dark"),
        ("planned-evacuation", "no sign"),
        ("stale-pool", "no sign"),
        ("region-blackhole", ""),
        ("gray-latency", ""),
        ("payment-key-disabled", ""),
    ],
)
def test_what_is_trained_by_leaves_a_sign_in_one_region(name: str, why: str) -> None:
    """Else nobody could find it."""
    told = training.why_not(drill.find(name))

    assert (why in told) if why else not told


def test_there_is_enough_to_choose_from(tmp_path: Path) -> None:
    """Of the shipped ones; a drill that uses a key which the estate has not is left out."""
    settings = settings_of(tmp_path, NOT_PRODUCTION)
    less = settings.model_copy(update={"keys": {"general": settings.keys["general"]}})

    assert [one.name for one in training.candidates(settings)] == list(FIT)
    assert len(FIT) >= 15
    left = {one.name for one in training.candidates(less)}
    assert set(FIT) - left == {name for name in FIT if set(drill.find(name).workload.purposes) - {"general"}}
    assert "payment-key-disabled" in FIT


def test_one_that_is_named_must_be_fit(tmp_path: Path) -> None:
    """Somebody wanted it, so it is not passed over in silence."""
    with pytest.raises(DrillError, match="stale-pool is nothing to train by: its fault leaves no sign"):
        training.candidates(settings_of(tmp_path), ["region-blackhole", "stale-pool"])


def test_the_seed_alone_decides() -> None:
    """And in time every drill and every region has its turn."""
    found = tuple(drill.find(name) for name in FIT)
    regions = ("us-east-1", "us-west-2", "eu-west-1")

    chosen = [training.choose(found, regions, seed) for seed in range(400)]

    assert chosen == [training.choose(found[::-1], regions, seed) for seed in range(400)]
    assert {(one.name, region) for one, region in chosen} >= {(name, "eu-west-1") for name in FIT[:5]}
    assert {one.name for one, _ in chosen} == set(FIT)


def test_the_region_of_the_drill_lease_is_never_hurt(tmp_path: Path) -> None:
    """The lease would be lost with it."""
    settings = settings_of(tmp_path, '[drills]\nlease = { table = "t-1", region = "us-west-2" }')

    assert training.regions_of(settings) == ("us-east-1", "eu-west-1")


@pytest.mark.parametrize(("minutes", "seconds"), [(10.0, 600.0), (1.0, 75.0)])
def test_a_fault_may_stay_longer_never_shorter(minutes: float, seconds: float) -> None:
    """Than the drill itself holds it; and the drill is still one."""
    held = training.held_for(drill.find("region-blackhole"), minutes)

    assert held.longest_fault_seconds == seconds
    assert drill.Drill.model_validate(held.model_dump(mode="json")) == held


def test_the_choices_do_not_tell_what_there_is_to_choose_from() -> None:
    """They are the same whichever drills were named."""
    assert training.kinds_of([drill.find("region-blackhole")]) == training.kinds_of([])
    assert "blackhole" in training.kinds_of([])
    assert all(training.in_words(kind).endswith(".") for kind in training.kinds_of([]))


QUESTION = Question("region", "Which?", {"us-east-1": "", "us-west-2": "the second"}, "us-west-2")


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("2\n", "us-west-2"),
        (" US-WEST-2 ", "us-west-2"),
        ("0", ""),
        ("3", ""),
        ("-1", ""),
        ("²", ""),
        ("", ""),
        ("us", ""),
    ],
)
def test_an_answer_is_a_number_or_a_name(typed: str, answer: str) -> None:
    """Nothing else is taken for one."""
    assert QUESTION.answer(typed) == answer
    assert QUESTION.lines() == ("Which?", "   1 us-east-1", "   2 us-west-2: the second")


@pytest.mark.parametrize(
    ("name", "runbook"), [("region-blackhole", "high-error-rate.md"), ("dns-failure", "high-error-rate.md")]
)
def test_each_has_a_runbook_that_is_there(name: str, runbook: str) -> None:
    """By its alarm, or else by the canary that fails."""
    found = training.runbook_of(drill.find(name))

    assert found == runbook
    assert (Path(__file__).parents[2] / "alarms" / "runbooks" / found).is_file()


@dataclass
class FakeTape:
    """Keeps what is recorded; the fault began so long ago as `since` says."""

    since: float = 0.0
    at: float = 42.5
    records: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def record_now(self, event: str, **fields: Any) -> None:
        self.records.append((event, fields))

    def view(self) -> Any:
        tape = self

        class View:
            at, fault_since = tape.at, tape.since

        return View()


def trained(*lines: str | None) -> tuple[Training, FakeTape, list[str], queue.Queue[str | None]]:
    """Return a training over the black hole in us-west-2 that has begun, and has been given `lines`."""
    typed: queue.Queue[str | None] = queue.Queue()
    for line in lines:
        typed.put(line)
    asked = (QUESTION, Question("fault", "What?", {"refused": "", "blackhole": ""}, "blackhole"))
    said: list[str] = []
    found = Training(asked, typed, said.append, CLOCK, about={"seed": 7, "among": []})
    tape = FakeTape(since=2.5)
    found.fault_on(tape)  # type: ignore[arg-type] # of a tape it needs these two
    return found, tape, said, typed


def test_it_is_diagnosed_when_both_answers_are_right() -> None:
    """Wrong ones are counted and told, what is no answer is not; the time is that since the fault began."""
    found, tape, said, _ = trained("1", "what?", "us-west-2", "", "refused", "2")

    wait_until(found.over.is_set, says="the training is over")
    found.fault_off()

    assert (found.result.diagnosed, found.result.seconds, found.result.answers) == (True, 40.0, 4)
    assert tape.records == [
        ("training-started", {"seed": 7, "among": []}),
        *(
            (
                "training-answered",
                {"question": about, "answer": answer, "right": right, "seconds": 40.0, "answers": number},
            )
            for number, (about, answer, right) in enumerate(
                [
                    ("region", "us-east-1", False),
                    ("region", "us-west-2", True),
                    ("fault", "refused", False),
                    ("fault", "blackhole", True),
                ],
                1,
            )
        ),
        ("training-ended", {"diagnosed": True, "seconds": 40.0, "answers": 4}),
    ]
    assert "us-east-1: no. Look again." in said
    assert "'what?' is none of them: a number, or a name as it is above" in said
    assert said[-1] == "Right: diagnosed 40 s after the fault began, with 4 answers."


def test_who_gives_up_has_not_diagnosed() -> None:
    """The end of stdin is that."""
    found, tape, _, _ = trained("2", None)

    wait_until(found.over.is_set, says="the training is over")
    found.fault_off()

    assert tape.records[-1] == ("training-ended", {"diagnosed": False, "seconds": None, "answers": 1})
    assert str(found.result) == "not diagnosed, with 1 answer"


def test_an_answer_after_the_fault_is_off_is_none() -> None:
    """Time is up, or a halt was called: whoever asks ends at once."""
    found, tape, _, typed = trained("2")
    wait_until(lambda: len(tape.records) == 2, says="the first answer was taken")

    found.fault_off()
    typed.put("blackhole")

    assert found.over.is_set()
    assert [event for event, _ in tape.records] == ["training-started", "training-answered", "training-ended"]
    assert not found.result.diagnosed


def test_a_diagnosis_ends_a_hold_whose_alarms_never_come() -> None:
    """As late as the drill itself would have, though the fault might have stayed on for longer; not without one."""
    clock = ManualClock(auto_advance=True)
    found, _, _, typed = trained()
    holding = object.__new__(training.conductor(found, 75.0))
    holding._clock, holding._halt, holding._since = clock, Halt(), clock.monotonic()

    undiagnosed = holding._wait_for(lambda: False, 100.0)
    holding._since = clock.monotonic()
    typed.put(None)
    wait_until(found.over.is_set, says="the training is over")
    over = holding._wait_for(lambda: False, 100.0)

    assert (undiagnosed, over) == (False, True)
    assert clock.monotonic() - holding._since == pytest.approx(75.0, abs=0.3)
    found.fault_off()


def stored(state: Path, *, is_training: bool) -> DrillFolder:
    """Store a run that held."""
    where = DrillFolder(drills_dir(state) / RUN_ID)
    where.path.mkdir(parents=True)
    story = held_story().changed(of("run-started"), training=is_training, drill="training", region="", targets=[TARGET])
    where.journal.write_bytes(story.add(END + 1, "closed", by="drill", verdict="HELD").raw())
    return where


@pytest.mark.parametrize("is_training", [True, False])
def test_a_training_proves_nothing(tmp_path: Path, *, is_training: bool) -> None:
    """It is in the archive, and named; nobody has to look at it."""
    where = stored(tmp_path, is_training=is_training)

    found = proofs.read_one(where)

    assert found.judgement is not None
    assert found.judgement.drill == "region-blackhole"
    if is_training:
        assert isinstance(found.found, Doubt)
        assert found.found.open
        assert found.found.why.startswith("a training")
    else:
        assert isinstance(found.found, Proof)


@pytest.mark.parametrize("is_training", [True, False])
def test_a_training_opens_no_way_to_payment(*, is_training: bool) -> None:
    """A drill on general does, within 35 days."""
    started = {
        "purposes": ["general"],
        "targets": [TARGET],
        "drill_file": drill.find("region-blackhole").model_dump(mode="json"),
        "training": is_training,
    }

    assert blast_radius._is_the_same(started, drill.find("region-blackhole"), [TARGET]) is not is_training


def test_the_page_knows_neither_drill_nor_region_while_it_lasts(tmp_path: Path) -> None:
    """The follower, which page and metrics live by, is told `training`."""
    where = stored(tmp_path, is_training=True)
    raw = where.journal.read_bytes().splitlines(keepends=True)
    where.journal.write_bytes(b"".join(raw[:5]))
    follower = Follower(tmp_path)

    follower.follow()

    (view,) = follower.runs()
    assert (view.drill, view.region, view.active) == ("training", "", True)


def ask(config: Path, *arguments: str, typed: str = "") -> Any:
    return CliRunner().invoke(cli, ["train", "--config", str(config), *arguments], input=typed)


@pytest.mark.parametrize(
    ("more", "arguments", "code", "says"),
    [
        pytest.param("", (), 4, "is in production", id="production"),
        pytest.param("", ("--arm", "--minutes", "20"), 2, "no --minutes", id="armed-longer"),
        pytest.param(NOT_PRODUCTION, ("--minutes", "31"), 2, "30", id="too-long"),
        pytest.param(NOT_PRODUCTION, ("--among", "stale-pool"), 2, "nothing to train by", id="unfit"),
        pytest.param(NOT_PRODUCTION, ("--region", "mars-north-1"), 2, "not a region", id="region"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    tmp_path: Path, more: str, arguments: tuple[str, ...], code: int, says: str
) -> None:
    """Before anything is asked or touched."""
    config = write_config(tmp_path, more)

    result = ask(config, *arguments)

    assert result.exit_code == code, result.output
    assert says in result.output
    assert not (tmp_path / "state" / "drills").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("daemon_lives")
def test_a_training_from_end_to_end(
    local_aws: Any, make_config: Callable[..., Path], short_drill: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chance chose; while it lasted nothing named it; what was answered and how long it took are in the journal."""
    for name, value in local_aws.environment.items():
        monkeypatch.setenv(name, value)
    config = make_config()
    regions = "us-east-1\nus-west-2\neu-west-1\n"

    result = ask(
        config, "--among", str(short_drill), "--seed", "5", "--minutes", "1", typed=f"{regions}refused\nblackhole\n"
    )

    (where,) = folders(config.parent / "state")
    records = journal.read(where.journal).records
    chosen, target = training.choose([drill.find(str(short_drill))], list(local_aws.regions), 5)
    before, _, after = result.output.partition("Right: ")
    answers = [(r.fields["answer"], r.fields["right"]) for r in records if r.event == "training-answered"]
    (ended,) = [r for r in records if r.event == "training-ended"]
    injected, removed = (next(r for r in records if r.event == event) for event in ("fault-injected", "fault-removed"))
    assert result.exit_code == 0, result.output
    assert where.run_id.endswith("-training")
    assert (records[0].fields["drill"], records[0].fields["region"]) == ("training", "")
    assert records[0].fields["targets"] == [target]
    assert answers[-3:] == [(target, True), ("refused", False), ("blackhole", True)]
    assert ended.fields["diagnosed"]
    assert injected.seq < ended.seq < removed.seq
    assert removed.t - injected.t >= 4  # diagnosed at once, and yet held as long as its own verdict needs
    assert removed.t - injected.t < 45  # and not for the minute that it might have been
    assert chosen.name not in before.replace(str(short_drill), "")
    assert "short: blackhole in" in after
    assert str(where.report) in after
    assert where.report.exists()
    assert json.loads(where.verdict.read_bytes())["drill"] == "short"
    assert isinstance(proofs.read_one(where).found, Doubt)


@pytest.mark.slow
@pytest.mark.usefixtures("daemon_lives")
def test_ctrl_c_in_a_training_restores_first(
    local_aws: Any, make_config: Callable[..., Path], short_drill: Path
) -> None:
    """While it waits for a line that never comes."""
    config = make_config()
    state = config.parent / "state"
    process = subprocess.Popen(
        [sys.executable, "-m", "kms_chaos", "train", "--among", str(short_drill), "--config", str(config)],
        env=local_aws.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )

    def asked() -> bool:
        return any(r.event == "training-started" for f in folders(state) for r in journal.read(f.journal).records)

    try:
        wait_until(asked, says="the fault is on", seconds=60)
        process.terminate()
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()

    (where,) = folders(state)
    events = [r.event for r in journal.read(where.journal).records]
    assert process.returncode == 3, said
    assert b"Fatal" not in said
    assert events.index("training-ended") < events.index("fault-removed")
    assert events[-1] == "closed"


def test_the_run_of_a_training_has_its_drill_and_another_name(tmp_path: Path) -> None:
    """The guards and the judge see the drill as it is."""
    settings = settings_of(tmp_path, NOT_PRODUCTION)
    run = plan(settings, drill.find("region-blackhole"), region="eu-west-1", clock=CLOCK)

    region, fault = training.questions(run, training.kinds_of([]))

    assert (region.right, fault.right) == ("eu-west-1", "blackhole")
    assert tuple(region.choices) == ("us-east-1", "us-west-2", "eu-west-1")
