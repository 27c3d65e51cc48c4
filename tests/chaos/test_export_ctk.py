"""Our journal as Chaos Toolkit's: the format to the letter, and a verdict that does not turn green on the way."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ctk_stories import CLASSES, STORIES, told

from kms_chaos.export import chaostoolkit
from kms_chaos.judge import judge
from kms_chaos.testing import REGIONS, RUN_ID, TARGET, held_story, of
from kms_watchdog.drills.verdict import Claim, Judgement, Verdict

GOLDEN = Path(__file__).parent / "golden" / "journal.json"


def classified(journal: dict[str, Any]) -> str:
    """Classify a journal by the precedence of Chaos Toolkit's own machine-readable report."""
    before = journal["steady_states"]["before"]
    if journal["status"] == "interrupted":
        return "interrupted"
    if journal["status"] == "aborted":
        return "aborted"
    if before is not None and not before["steady_state_met"]:
        return "baseline-not-met"
    return "deviated" if journal["deviated"] else "passed"


@pytest.mark.parametrize("name", STORIES)
def test_only_what_held_is_passed(name: str) -> None:
    """The true verdict stands beside it."""
    journal = chaostoolkit.values(told(STORIES[name]))

    assert classified(journal) == CLASSES[name]
    assert (journal["x-kms-drill"]["verdict"] == "HELD") is (CLASSES[name] == "passed")


@pytest.mark.parametrize("name", STORIES)
def test_the_format_is_chaostoolkit_s(name: str) -> None:
    """Core keys always, their types, RFC 3339 in UTC with microseconds, a status on *every* activity."""
    journal = json.loads(chaostoolkit.render(told(STORIES[name])))

    types = {
        "chaoslib-version": str, "platform": str, "node": str, "experiment": dict, "start": str, "end": str,
        "duration": float, "status": str, "deviated": bool, "steady_states": dict, "run": list, "rollbacks": list,
    }  # fmt: skip
    assert {key: type(journal[key]) for key in types} == types
    assert journal["chaoslib-version"] == "1.45.1"
    assert journal["status"] in {"completed", "failed", "aborted", "interrupted"}
    assert journal["steady_states"].keys() == {"before", "after", "during"}
    for at in (journal["start"], journal["end"]):
        assert datetime.fromisoformat(at).utcoffset() == timedelta(0)
        assert len(at) == len("2026-11-24T03:15:00.000000+00:00")
    states = [
        journal["steady_states"]["before"],
        journal["steady_states"]["after"],
        *journal["steady_states"]["during"],
    ]
    probes = [probe for state in states if state is not None for probe in state["probes"]]
    for result in (*journal["run"], *journal["rollbacks"], *probes):
        assert result["status"] in {"succeeded", "failed"}
        assert ("exception" in result) is (result["status"] == "failed")
        assert {"activity", "output", "start", "end", "duration"} <= result.keys()
        assert result["activity"]["type"] in {"action", "probe"}
    assert all(isinstance(probe["tolerance_met"], bool) for probe in probes)
    assert "secrets" not in json.dumps(journal)


def test_before_during_and_after_are_what_was_seen() -> None:
    """Before: all regions. During: those that no fault may touch. After: the claims."""
    states = chaostoolkit.values(told(held_story()))["steady_states"]

    def names(state: dict[str, Any]) -> list[str]:
        return [probe["activity"]["name"] for probe in state["probes"]]

    assert names(states["before"]) == [f"canaries in {region}" for region in REGIONS]
    assert [names(state) for state in states["during"]] == [[f"canaries in {region}" for region in REGIONS[1:]]]
    assert names(states["after"]) == [claim.title for claim in judge(held_story().journal()).claims]
    assert all(probe["output"] == 1.0 for probe in states["before"]["probes"])


def test_a_canary_that_failed_shows() -> None:
    """As a ratio, and as a hypothesis that was not met."""
    result = next(one.fields["result"] for one in held_story().lines if one.event == "canary-result" and one.t > 20) | {
        "outcome": "FAILED",
        "reason": "timeout",
        "region": REGIONS[1],
        "key": "general",
    }
    state = chaostoolkit.values(told(held_story().add(25.0, "canary-result", result=result)))["steady_states"][
        "during"
    ][0]

    assert state["steady_state_met"] is False
    assert 0.9 < state["probes"][0]["output"] < 1.0


def test_a_fault_that_was_not_seen_to_be_on_is_a_failed_action() -> None:
    """Its rollback is not played; a restore that failed is a failed rollback."""
    unseen = chaostoolkit.values(told(held_story().without(of("fault-injected"))))
    failed = chaostoolkit.values(told(STORIES["restore failed"]))

    assert [one["status"] for one in unseen["run"]] == ["failed"]
    assert unseen["rollbacks"] == []
    assert [one["status"] for one in failed["rollbacks"]] == ["failed"]
    assert "kmswd.x" in failed["rollbacks"][0]["exception"][0]


def test_why_it_was_interrupted_is_told() -> None:
    """In the fields that Chaos Toolkit has for it, and with a kind of our own where it has none."""
    signal, unclear, guard = (
        chaostoolkit.values(told(STORIES[name])) for name in ("signal", "nobody could see", "guard")
    )

    assert signal["interruption"] == {"kind": "signal", "name": "SIGTERM", "reason": "SIGTERM"}
    assert unclear["interruption"]["kind"] == "x-kms-drill"
    assert "could not be read" in unclear["interruption"]["reason"]
    assert guard["safeguards"]["triggered_by"] == "alarms-quiet"


def golden() -> str:
    """Return the journal of the made-up drill, with a judgement that does not change with the judge."""
    claims = (
        Claim(name="steady-state-before", title="The steady state held before", verdict=Verdict.HELD, finding="seen"),
        Claim(name="restored", title="The fault was removed", verdict=Verdict.HELD, finding="it was", evidence=(3, 5)),
    )
    fixed = Judgement(
        run_id=RUN_ID,
        drill="region-blackhole",
        region=TARGET,
        verdict=Verdict.HELD,
        claims=claims,
        figures={"detect_seconds": 3.0, "undo_seconds": None},
        journal_head="ab" * 32,
    )
    return chaostoolkit.render(replace(told(held_story()), judgement=fixed))


def test_the_golden_journal() -> None:
    """What others read changes on purpose only; this file, run with tests/support on its path, writes it again."""
    assert golden() == GOLDEN.read_text(encoding="utf-8")


if __name__ == "__main__":
    GOLDEN.write_text(golden(), encoding="utf-8")
