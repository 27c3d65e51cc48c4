"""A drill: what is broken, where and for how long, and what must be seen for it to count as held."""

from __future__ import annotations

import difflib
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from kms_watchdog.results import Mode

Seconds = Annotated[float, Field(gt=0, le=3600)]
DRILL_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
MAX_FILE_BYTES = 64 * 1024
SHIPPED = resources.files("kms_chaos") / "drills"


class DrillError(ValueError):
    """The drill cannot be used; the message is one line naming file, key and what is expected."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Target(_Table):
    """Which region is hurt."""

    region: str = Field(pattern=r"^(primary|[a-z]{2}(-[a-z]+)+-\d)$")


class FaultPlan(_Table):
    """What is done to it."""

    kind: Literal["blackhole"]


class Timing(_Table):
    """How long each phase lasts. What waits for alarms is written for one alarm period, and scales with the real."""

    alarm_period_seconds: Literal[10, 60] = 10
    baseline_at_least_seconds: Seconds = 6.0
    baseline_at_most_seconds: Seconds = 45.0
    hold_at_least_seconds: Seconds = 20.0
    hold_at_most_seconds: Seconds = 75.0

    @model_validator(mode="after")
    def _least_before_most(self) -> Self:
        if self.hold_at_least_seconds > self.hold_at_most_seconds:
            raise ValueError("hold_at_least_seconds must not exceed hold_at_most_seconds")
        if self.baseline_at_least_seconds > self.baseline_at_most_seconds:
            raise ValueError("baseline_at_least_seconds must not exceed baseline_at_most_seconds")
        return self


class Load(_Table):
    """The drill's own traffic."""

    operations_per_second: float = Field(default=12.0, gt=0, le=500)
    concurrency: int = Field(default=8, ge=1, le=64)
    canary_interval_seconds: Seconds = 2.0


class Objectives(_Table):
    """What the workload must meet while the fault lasts, and how soon all must be well again."""

    failed_operations: int = Field(default=0, ge=0)
    p99_seconds: Seconds = 3.0
    rto_seconds: Seconds = 30.0


Move = Annotated[str, Field(pattern=r"^(closed|open|half_open)>(closed|open|half_open)$")]


class BreakerPlan(_Table):
    """The moves that the target's breaker must make, in this order (others may come between)."""

    moves: Annotated[tuple[Move, ...], Field(strict=False)] = ()


class AlarmRule(_Table):
    """One alarm, in the target region, in all others, in all, or in a region by name; drill twin or live."""

    alarm: str = Field(pattern=r"^[A-Za-z0-9]{1,60}$")
    region: str = Field(pattern=r"^(target|others|all|[a-z]{2}(-[a-z]+)+-\d)$")
    mode: Literal["drill", "live"] = "drill"
    within_seconds: Seconds | None = None

    def regions(self, target: str, regions: tuple[str, ...]) -> tuple[str, ...]:
        """Return the regions it speaks of."""
        match self.region:
            case "target":
                return (target,)
            case "others":
                return tuple(r for r in regions if r != target)
            case "all":
                return regions
            case name:
                return (name,)

    @property
    def alarm_mode(self) -> Mode:
        """The mode as the alarm table knows it."""
        return Mode(self.mode)


Rules = Annotated[tuple[AlarmRule, ...], Field(strict=False)]


class AlarmPlan(_Table):
    """Which alarms must fire, must clear, and must stay quiet."""

    must_fire: Rules = ()
    must_clear: Rules = ()
    must_not_fire: Rules = ()

    @model_validator(mode="after")
    def _times_are_given(self) -> Self:
        for name in ("must_fire", "must_clear"):
            for rule in getattr(self, name):
                if rule.within_seconds is None:
                    raise ValueError(f"{name} of {rule.alarm} needs within_seconds")
        return self


class Drill(_Table):
    """The whole file; `name` is the file's."""

    name: str = Field(pattern=DRILL_NAME.pattern)
    title: str = Field(min_length=1, max_length=200)
    why: str = Field(min_length=1, max_length=2000)
    mode: Literal["sustained", "recovery"]
    target: Target
    fault: FaultPlan
    timing: Timing = Timing()
    workload: Load = Load()
    objectives: Objectives = Objectives()
    breaker: BreakerPlan = BreakerPlan()
    alarms: AlarmPlan = AlarmPlan()

    @model_validator(mode="after")
    def _holds_longer_than_its_alarms_take(self) -> Self:
        slowest = max((rule.within_seconds or 0.0 for rule in self.alarms.must_fire), default=0.0)
        if self.timing.hold_at_most_seconds <= slowest:
            raise ValueError(
                f"timing.hold_at_most_seconds ({self.timing.hold_at_most_seconds:g}) must exceed the slowest "
                f"alarm of must_fire ({slowest:g}): a fault that ends first proves nothing about it"
            )
        return self

    def target_region(self, *, primary: str, override: str | None = None) -> str:
        """Return the region to hurt."""
        wanted = override or self.target.region
        return primary if wanted == "primary" else wanted

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


def find(name: str) -> Drill:
    """Return the drill called `name`: a shipped one, or the path of a file.

    Raises:
        DrillError: unknown, unreadable, or not a drill.
    """
    if name.endswith(".toml"):
        return _read_file(Path(name))
    if name not in shipped_names():
        near = difflib.get_close_matches(name, shipped_names(), n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(shipped_names())}"
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
    except tomllib.TOMLDecodeError as e:
        raise DrillError(f"{where}: not valid TOML: {e}") from e
    if "name" in document:
        raise DrillError(f"{where}: name: unknown key; a drill is called as its file is")
    try:
        return Drill.model_validate({**document, "name": name})
    except ValidationError as e:
        raise DrillError(f"{where}: {_first_line(e)}") from e


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
    "fault": FaultPlan,
    "timing": Timing,
    "workload": Load,
    "objectives": Objectives,
    "breaker": BreakerPlan,
    "alarms": AlarmPlan,
    "must_fire": AlarmRule,
    "must_clear": AlarmRule,
    "must_not_fire": AlarmRule,
}


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    words: list[str] = [part for part in location if isinstance(part, str)]
    model: Any = _TABLES.get(words[-1], Drill) if words else Drill
    return [name for name in model.model_fields if model is not Drill or name != "name"]
