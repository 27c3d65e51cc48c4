"""The eyes of the lease's torture: each thing that must not happen is told when it does, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest
from lease_figures import LeaseFigures, Line, judge
from lease_table import Request


def take(token: int) -> Request:
    return Request(kind="acquire", took=True, token=token)


def slot(token: int, number: int) -> Request:
    return Request(kind="write", took=True, token=token, row=f"slot#production#s/{number:05}")


def give(token: int) -> Request:
    return Request(kind="release", took=True, token=token)


def said(event: str, token: int, at: float, pid: int = 1, **more: Any) -> Line:
    return {"event": event, "token": token, "pid": pid, "at": at, **more}


def drilled(token: int, at: float, pid: int = 1) -> list[Line]:
    """One drill without trouble: half a second, the lease for one."""
    return [
        said("held", token, at, pid, until=at + 1),
        said("slot", token, at + 0.1, pid),
        said("broke", token, at + 0.2, pid, until=at + 1.0),
        said("mended", token, at + 0.3, pid),
        said("gave-back", token, at + 0.5, pid),
    ]


GOOD = [take(1), slot(1, 0), slot(1, 0), give(1), take(2), slot(2, 1), slot(2, 1), give(2)]
GOOD_LINES = [*drilled(1, 10.0), *drilled(2, 10.5, pid=2)]


def judged(requests: list[Request], lines: list[Line], killed: dict[int, float] | None = None) -> LeaseFigures:
    figures = LeaseFigures(seed=1, ttl_seconds=1.0)
    judge(figures, requests, lines, killed or {})
    return figures


def test_a_good_run_has_no_findings() -> None:
    """A slot that its own drill writes twice is none."""
    found = judged(GOOD, GOOD_LINES)

    assert found.findings == ()
    assert (found.acquisitions, found.takeovers, found.slots, found.faults) == (2, 0, 2, 2)


@pytest.mark.parametrize(
    ("requests", "finding"),
    [
        pytest.param([take(1), take(2), slot(1, 0)], "stale_writes: 1", id="written-by-who-lost-it"),
        pytest.param(
            [take(1), take(2), Request(kind="renew", took=True, token=1)],
            "stale_writes: 1",
            id="renewed-by-who-lost-it",
        ),
        pytest.param([take(1), take(2), give(1)], "stale_writes: 1", id="given-back-by-who-lost-it"),
        pytest.param([take(1), slot(1, 0), take(2), slot(2, 0)], "slots_twice: 1", id="a-slot-run-twice"),
        pytest.param([take(1), slot(1, 0), give(1), take(2), slot(2, 2)], "slots_forgotten: 1", id="a-slot-left-out"),
        pytest.param([take(1), take(1)], "tokens_wrong: 1", id="a-token-used-twice"),
        pytest.param([take(1), take(3)], "tokens_wrong: 1", id="a-token-left-out"),
    ],
)
def test_what_the_table_must_not_take_is_told(requests: list[Request], finding: str) -> None:
    """By its own account, whatever the clients say."""
    assert judged(requests, []).findings == (finding,)


def test_what_the_table_refused_is_no_finding() -> None:
    """It is what it is for; and a lease taken from somebody who had not given it back is counted."""
    late = [Request(kind=kind, took=False, token=1, row="slot#production#s/00009") for kind in ("renew", "write")]

    found = judged([take(1), slot(1, 0), take(2), *late], [])

    assert (found.findings, found.refused, found.takeovers) == ((), 2, 1)


@pytest.mark.parametrize(
    ("lines", "killed", "overlaps"),
    [
        pytest.param([said("held", 1, 0, until=5), said("held", 2, 4, 2, until=9)], {}, 1, id="both-think-it-theirs"),
        pytest.param([said("held", 1, 0, until=5), said("held", 2, 5.1, 2, until=9)], {}, 0, id="its-time-was-up"),
        pytest.param([said("held", 1, 0, until=5), said("held", 2, 4, 2, until=9)], {1: 3.0}, 0, id="it-was-dead"),
        pytest.param(
            [said("held", 1, 0, until=5), said("gave-back", 1, 2), said("held", 2, 2.1, 2, until=9)],
            {},
            0,
            id="given-back",
        ),
        pytest.param(
            [said("held", 1, 0, until=3), said("kept", 1, 2, until=6), said("held", 2, 5, 2, until=9)],
            {},
            1,
            id="renewed",
        ),
        pytest.param(
            [said("held", 1, 7, until=5), said("held", 2, 6, 2, until=9)], {}, 0, id="frozen-until-its-time-was-up"
        ),
        pytest.param(
            [said("held", 1, 0, until=9), said("held", 2, 1, 2, until=2), said("held", 3, 3, 3, until=4)],
            {},
            2,
            id="in-another",
        ),
    ],
)
def test_two_who_think_it_theirs_are_told(lines: list[Line], killed: dict[int, float], overlaps: int) -> None:
    """From the reply that gave it until the deadline after the last renewal, or its end, or its death."""
    found = judged([], lines, killed)

    assert found.overlaps == overlaps
    assert found.findings == ((f"overlaps: {overlaps}",) if overlaps else ())


@pytest.mark.parametrize(
    ("lines", "overlaps", "late"),
    [
        pytest.param([said("broke", 1, 1, until=3), said("broke", 2, 2, 2, until=4)], 1, 0, id="both-on"),
        pytest.param(
            [said("broke", 1, 1, until=3), said("mended", 1, 1.5), said("broke", 2, 2, 2, until=4)], 0, 0, id="mended"
        ),
        pytest.param([said("broke", 1, 5, until=3), said("broke", 2, 4, 2, until=6)], 0, 1, id="its-time-was-up"),
    ],
)
def test_two_faults_at_once_are_told(lines: list[Line], overlaps: int, late: int) -> None:
    """One that a freeze delayed beyond its own time broke nothing."""
    found = judged([], lines)

    assert (found.fault_overlaps, found.faults_late) == (overlaps, late)


def test_what_workers_should_never_say_is_told() -> None:
    """A line of no kind that there is; that the table did not answer is none of theirs."""
    found = judged([], [said("unreachable", 1, 0), said("broken", 1, 0)])

    assert (found.findings, found.unanswered) == (("broken: 1",), 1)
