"""What a drill does beside its fault: each action once, at its time, and what came of it is told whatever it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from kms_chaos.actions import Actions
from kms_chaos.drill_parts import ColdStart
from kms_core.errors import AttemptFailure, KmsUnavailableError
from kms_core.testing import ManualClock

PURPOSES = ("general", "payment")
TIMEOUT = AttemptFailure(
    region="us-east-1", operation="GenerateDataKey", error_code="ReadTimeout", request_id="", seconds=1.0
)


class SlowCore:
    """A core that needs half a second for each message it seals, and a quarter for each it opens."""

    def __init__(self, clock: ManualClock, fails: Mapping[str, Exception], garbles: frozenset[str]) -> None:
        self._clock, self._fails, self._garbles = clock, fails, garbles
        self.closed_at = 0.0
        self.asked: list[tuple[str, str, Mapping[str, str]]] = []

    def encrypt(self, plaintext: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        self.asked.append(("seal", purpose, context))
        self._clock.advance(0.5)
        if purpose in self._fails:
            raise self._fails[purpose]
        return plaintext[::-1]

    def decrypt(self, message: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        self.asked.append(("open", purpose, context))
        self._clock.advance(0.25)
        return message if purpose in self._garbles else message[::-1]


class Told:
    """A tape that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def record(self, event: str, **fields: Any) -> None:
        pytest.fail("what an action did is on disk before the drill goes on")

    def record_now(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))


class Dark:
    """An outage in which cores are started."""

    def __init__(
        self,
        *after: float,
        fails: Mapping[str, Exception] | None = None,
        garbles: str = "",
        starts_in_seconds: float = 0.125,
    ) -> None:
        self.clock, self.tape = ManualClock(), Told()
        self.cores: list[SlowCore] = []
        self._fails, self._garbles, self._starts_in_seconds = fails or {}, frozenset({garbles}), starts_in_seconds
        actions = tuple(ColdStart(kind="cold_start", after_seconds=one, within_seconds=4.0 + one) for one in after)
        self.actions = Actions(actions, self._new_core, self.tape, self.clock, purposes=PURPOSES)  # type: ignore[arg-type]

    @contextmanager
    def _new_core(self) -> Iterator[Any]:
        self.clock.advance(self._starts_in_seconds)
        self.cores.append(SlowCore(self.clock, self._fails, self._garbles))
        yield self.cores[-1]
        self.clock.advance(8.0)
        self.cores[-1].closed_at = self.clock.monotonic()

    @property
    def told(self) -> dict[str, Any]:
        [(event, fields)] = self.tape.lines
        assert event == "cold-start"
        return fields


def test_a_cold_start_serves_every_key_and_says_how_long_it_took() -> None:
    """From before the core is made, until the last message is open; not until the core is gone."""
    dark = Dark(0.0)

    dark.actions.turn(0.0)

    assert dark.told == {
        "what": "core", "ok": True, "error": "", "purposes": ["general", "payment"], "seconds": 1.625,
        "within_seconds": 4.0,
    }  # fmt: skip
    assert dark.cores[0].closed_at


def test_a_cold_start_is_timed_to_the_microsecond() -> None:
    """No finer: what a clock's floats say beyond it is noise, which a journal need not keep."""
    dark = Dark(0.0, starts_in_seconds=0.1234564)

    dark.actions.turn(0.0)

    assert dark.told["seconds"] == 1.623456


def test_messages_are_synthetic_and_say_so() -> None:
    """In the context, which CloudTrail shows."""
    dark = Dark(0.0)

    dark.actions.turn(0.0)

    contexts = [{"canary": "true", "purpose": purpose} for purpose in PURPOSES for _ in ("seal", "open")]
    assert [(what, purpose) for what, purpose, _ in dark.cores[0].asked] == [
        ("seal", "general"), ("open", "general"), ("seal", "payment"), ("open", "payment"),
    ]  # fmt: skip
    assert [context for *_, context in dark.cores[0].asked] == contexts


@pytest.mark.parametrize(
    ("error", "says"),
    [
        pytest.param(KmsUnavailableError("nobody", attempts=[TIMEOUT]), "ReadTimeout", id="code-of-kms"),
        pytest.param(KmsUnavailableError("nobody"), "KmsUnavailableError", id="kms-was-not-asked"),
    ],
)
def test_a_key_that_is_not_served_is_told_with_those_that_were(error: Exception, says: str) -> None:
    """And by when it failed."""
    dark = Dark(0.0, fails={"payment": error})

    dark.actions.turn(0.0)

    assert (dark.told["ok"], dark.told["error"], dark.told["purposes"]) == (False, says, ["general"])
    assert dark.told["seconds"] == pytest.approx(1.375)


def test_a_message_that_opens_as_another_is_not_served() -> None:
    """No error, and yet not what was sealed."""
    dark = Dark(0.0, garbles="general")

    dark.actions.turn(0.0)

    assert (dark.told["ok"], dark.told["purposes"]) == (True, ["payment"])


def test_what_is_not_kms_ends_the_drill() -> None:
    """A mistake of our own is not an outage, and nothing is told of it."""
    dark = Dark(0.0, fails={"general": ZeroDivisionError()})

    with pytest.raises(ZeroDivisionError):
        dark.actions.turn(0.0)

    assert dark.tape.lines == []


def test_each_has_its_time_and_is_done_once() -> None:
    """In the order of their times, whatever the file's; one that is late is made up for."""
    dark = Dark(5.0, 2.0, 9.0)
    done = []

    for elapsed in (1.9, 2.0, 2.1, 9.5, 60.0):
        dark.actions.turn(elapsed)
        done.append([fields["within_seconds"] for _, fields in dark.tape.lines])

    assert done == [[], [6.0], [6.0], [6.0, 9.0, 13.0], [6.0, 9.0, 13.0]]
