"""A drill: what is broken, where and for how long, and what must be seen for it to count as held."""

from __future__ import annotations

import difflib
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from kms_chaos.drill_parts import (
    AlarmPlan,
    AlarmRule,
    BreakerPlan,
    ColdStart,
    Expect,
    Load,
    Objectives,
    Part,
    Serves,
    Target,
    Timing,
    WatchdogPlan,
)
from kms_chaos.faults.overlaps import at_odds
from kms_chaos.faults.plans import KINDS, AnyFault, FaultPlan
from kms_watchdog.terminal import printable

DRILL_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_PAST_CACHE_SECONDS = 5.0
"""How long a drill looks on after the last cached key must have gone."""
MAX_FILE_BYTES = 64 * 1024
SHIPPED = resources.files("kms_chaos") / "drills"


class DrillError(ValueError):
    """The drill cannot be used; the message is one line naming file, key and what is expected."""


class Drill(Part):
    """The whole file; `name` is the file's."""

    name: str = Field(pattern=DRILL_NAME.pattern)
    title: str = Field(min_length=1, max_length=200)
    why: str = Field(min_length=1, max_length=2000)
    mode: Literal["sustained", "recovery"]
    target: Target
    faults: Annotated[tuple[AnyFault, ...], Field(strict=False, min_length=1, max_length=20)]
    actions: Annotated[tuple[ColdStart, ...], Field(strict=False, max_length=5)] = ()
    watchdog: WatchdogPlan | None = None
    timing: Timing = Timing()
    workload: Load = Load()
    objectives: Objectives = Objectives()
    expect: Expect = Expect()
    breaker: BreakerPlan = BreakerPlan()
    alarms: AlarmPlan = AlarmPlan()

    @model_validator(mode="before")
    @classmethod
    def _one_fault_as_journals_of_0_1_have_it(cls, values: Any) -> Any:
        """Read `fault`, which a stored journal of version 0.1 holds, as the only one of `faults`."""
        if isinstance(values, dict) and "fault" in values and "faults" not in values:
            return {**{name: value for name, value in values.items() if name != "fault"}, "faults": (values["fault"],)}
        return values

    @model_validator(mode="after")
    def _sees_the_end_of_what_is_revoked(self) -> Self:
        if self.expect.revoked and not self.timing.hold_past_cache:
            raise ValueError("what is revoked goes on from the cache for a time: timing.hold_past_cache must be true")
        return self

    @model_validator(mode="after")
    def _callers_may_fail_only_in_recovery(self) -> Self:
        if self.mode == "sustained" and {self.expect.warm, self.expect.cold} != {Serves.ALWAYS}:
            raise ValueError("a sustained drill lets no operation fail: its lanes serve always")
        return self

    @model_validator(mode="after")
    def _ends_its_faults_before_the_hold_ends(self) -> Self:
        timed: tuple[FaultPlan | ColdStart, ...] = (*self.faults, *self.actions)
        for one in timed:
            lasts = one.for_seconds if isinstance(one, FaultPlan) else None
            if one.after_seconds + (lasts or 0.0) >= self.timing.hold_at_least_seconds:
                raise ValueError(
                    f"a {getattr(one, 'kind', 'fault')} begins or ends after {self.timing.hold_at_least_seconds:g} s, "
                    "when the hold may be over: raise timing.hold_at_least_seconds"
                )
        return self

    @model_validator(mode="after")
    def _no_fault_hides_another(self) -> Self:
        named = {"target", "others", *(fault.region for fault in self.faults)}
        if told := at_odds(self.faults, lambda fault: named if fault.region == "all" else {fault.region}):
            raise ValueError(told)
        return self

    @model_validator(mode="after")
    def _asks_the_services_that_it_hurts(self) -> Self:
        services = {getattr(fault, "service", "kms") for fault in self.faults} - {"kms"}
        if services and self.watchdog is None:
            raise ValueError(f"only the drill's own watchdog asks {min(services)}: there must be a [watchdog]")
        if len(services) > 1:
            raise ValueError("one service beside KMS at a time: else nobody knows which of them it was")
        if "cloudwatch" in services and self.watchdog is not None and not self.watchdog.publishes:
            raise ValueError("a watchdog that sends nothing to CloudWatch does not miss it: watchdog.publishes")
        return self

    @model_validator(mode="after")
    def _holds_longer_than_its_watchdog_takes(self) -> Self:
        needed = self.watchdog.last_after_seconds + self.watchdog.ready_within_seconds if self.watchdog else 0.0
        if self.timing.hold_at_most_seconds <= needed:
            raise ValueError(f"the watchdog may not be ready before {needed:g} s: raise timing.hold_at_most_seconds")
        return self

    @model_validator(mode="after")
    def _holds_longer_than_its_alarms_take(self) -> Self:
        slowest = max((rule.within_seconds or 0.0 for rule in self.alarms.must_fire), default=0.0)
        if self.timing.hold_at_most_seconds <= slowest:
            raise ValueError(
                f"timing.hold_at_most_seconds ({self.timing.hold_at_most_seconds:g}) must exceed the slowest "
                f"alarm of must_fire ({slowest:g}): a fault that ends first proves nothing about it"
            )
        return self

    def targets(
        self, *, primary: str, regions: tuple[str, ...], override: str | None = None, home: str | None = None
    ) -> tuple[str, ...]:
        """Return the regions to hurt, of `regions` in the estate's order; the first is `override`, or the drill's own.

        Raises:
            DrillError: the estate has no such region, or not so many.
        """
        first = override or self.target.region
        first = {"primary": primary, "home": home or regions[0]}.get(first, first)
        if first not in regions:
            raise DrillError(f"{first} is not a region of this estate: {', '.join(regions)}")
        count = len(regions) if self.target.count == "all" else self.target.count
        if count > len(regions):
            raise DrillError(f"{self.name} hurts {count} regions, and this estate has {len(regions)}")
        at = regions.index(first)
        hit = (*regions[at:], *regions[:at])[:count]
        if told := at_odds(self.faults, lambda fault: fault.regions(hit, regions)):
            raise DrillError(f"{self.name} on {', '.join(hit)}: {told}")
        return hit

    def for_alarm_period(self, period_seconds: int) -> Drill:
        """Return the same drill with the times that wait for alarms fit for alarms of `period_seconds`."""
        factor = period_seconds / self.timing.alarm_period_seconds
        if factor == 1:
            return self
        values = self.model_dump()
        values["timing"]["alarm_period_seconds"] = period_seconds
        values["timing"]["hold_at_most_seconds"] *= factor
        for rule in (*values["alarms"]["must_fire"], *values["alarms"]["must_clear"]):
            rule["within_seconds"] *= factor
        return Drill.model_validate(values)

    def for_cache(self, longest_seconds: float) -> Drill:
        """Return the same drill, holding past the time that a data key may live, where it must; in seconds."""
        if not self.timing.hold_past_cache:
            return self
        least = max(self.timing.hold_at_least_seconds, longest_seconds + _PAST_CACHE_SECONDS)
        most = max(self.timing.hold_at_most_seconds, least + _PAST_CACHE_SECONDS)
        timing = self.timing.model_copy(update={"hold_at_least_seconds": least, "hold_at_most_seconds": most})
        return self.model_copy(update={"timing": timing})

    @property
    def longest_fault_seconds(self) -> float:
        """The longest the fault may last, in seconds."""
        return self.timing.hold_at_most_seconds

    @property
    def slowest_clear_seconds(self) -> float:
        """How long the alarms may take to clear."""
        return max((rule.within_seconds or 0.0 for rule in self.alarms.must_clear), default=0.0)


def shipped_names() -> tuple[str, ...]:
    """Return the names of the drills that come with the package."""
    return tuple(
        sorted(entry.name.removesuffix(".toml") for entry in SHIPPED.iterdir() if entry.name.endswith(".toml"))
    )


def names(folder: Path | None = None) -> tuple[str, ...]:
    """Return the names of all drills: the shipped ones, and those in the operator's own `folder`."""
    own = (path.stem for path in folder.glob("*.toml")) if folder is not None else ()
    return tuple(sorted({*shipped_names(), *own}))


def every(folder: Path | None = None) -> tuple[Drill, ...]:
    """Return all drills, by name.

    Raises:
        DrillError: one is not a drill, or the folder has one that is called as a shipped one is.
    """
    return tuple(find(name, folder) for name in names(folder))


def find(name: str, folder: Path | None = None) -> Drill:
    """Return the drill called `name`: a shipped one, one in the operator's own `folder`, or the path of a file.

    Raises:
        DrillError: unknown, unreadable, or not a drill; or its name stands for two.
    """
    if name.endswith(".toml"):
        return _read_file(Path(name))
    own = folder / f"{name}.toml" if folder is not None and DRILL_NAME.fullmatch(name) else None
    shipped = name in shipped_names()
    if own is not None and own.exists():
        if shipped:
            raise DrillError(f"{own}: a drill of that name is shipped; give yours another")
        return _read_file(own)
    if not shipped:
        known = names(folder)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
        raise DrillError(f"no drill is called {name!r}{hint}")
    return parse((SHIPPED / f"{name}.toml").read_text(encoding="utf-8"), name=name, where=f"{name}.toml")


def _read_file(path: Path) -> Drill:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DrillError(f"{path}: larger than {MAX_FILE_BYTES} bytes, which no drill is")
        text = path.read_text(encoding="utf-8")
    except OSError as e:
        raise DrillError(f"{path}: cannot be read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise DrillError(f"{path}: not UTF-8: {e.reason}") from e
    return parse(text, name=path.stem, where=str(path))


def parse(text: str, *, name: str, where: str) -> Drill:
    """Return the drill in `text`.

    Raises:
        DrillError: not TOML, an unknown key, a value out of range, a hold that is too short; one line each.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as e:  # a number of 5000 digits, tables without end
        raise DrillError(f"{where}: not valid TOML: {printable(str(e))}") from e
    if "name" in document:
        raise DrillError(f"{where}: name: unknown key; a drill is called as its file is")
    try:
        return Drill.model_validate({**document, "name": name})
    except ValidationError as e:
        raise DrillError(f"{where}: {printable(_first_line(e))}") from e


def _first_line(error: ValidationError) -> str:
    found = error.errors(include_url=False)
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return _describe(found[0]) + more


def _describe(error: ErrorDetails) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "the drill"
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(error["loc"][-1]), _known_keys(error["loc"][:-1]), n=1)
        return f"{where}: unknown key{f'; did you mean {near[0]}?' if near else ''}"
    if error["type"] == "missing":
        return f"{where}: missing; a value is expected here"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message[0].lower()}{message[1:]}"


_TABLES: dict[str, type[BaseModel]] = {
    "target": Target,
    "timing": Timing,
    "workload": Load,
    "objectives": Objectives,
    "expect": Expect,
    "actions": ColdStart,
    "watchdog": WatchdogPlan,
    "breaker": BreakerPlan,
    "alarms": AlarmPlan,
    "must_fire": AlarmRule,
    "must_clear": AlarmRule,
    "must_not_fire": AlarmRule,
}


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    words: list[str] = [part for part in location if isinstance(part, str)]
    if words[:1] == ["faults"]:
        kind = KINDS.get(words[-1])  # pydantic names the kind by which it chose the class
        return list(kind.model_fields) if kind else []
    model: Any = _TABLES.get(words[-1], Drill) if words else Drill
    return [name for name in model.model_fields if model is not Drill or name != "name"]
