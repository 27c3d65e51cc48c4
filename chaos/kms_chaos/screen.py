"""What a person sees while a drill runs: a live picture on a terminal, plain lines where output is piped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from kms_chaos.judging.workload_and_breaker import quantile
from kms_chaos.run import Run
from kms_chaos.scene import CanaryView, OperationView, View
from kms_chaos.tape import JournalTape
from kms_core.clock import Clock
from kms_watchdog.results import Outcome

_EVERY_SECONDS = 0.25
_RATE_WINDOW_SECONDS = 5.0
_STRIP_SECONDS = 60
_SAY_SECONDS = 10.0
_PHASES = ("baseline", "inject", "hold", "restore", "recover", "check")
_BREAKER_STYLES = {"closed": "green", "half_open": "yellow", "open": "bold red"}
_ALARM_STYLES = {"OK": "green", "ALARM": "bold red"}


class Screen(Protocol):
    """Shows a tape as it grows."""

    def on_air(self, tape: JournalTape) -> None:
        """Begin to show `tape`."""


@contextmanager
def shown(run: Run, console: Console, clock: Clock) -> Iterator[Screen]:
    """Yield the screen that fits `console`; it is taken down when the block ends."""
    screen = _LiveScreen(run, console, clock) if console.is_terminal else _PlainScreen(run, console, clock)
    try:
        yield screen
    finally:
        screen.end()


class _Refreshing:
    """Calls `show` with the tape's view every quarter of a second, in a thread of its own."""

    def __init__(self, run: Run, console: Console, clock: Clock) -> None:
        self._run, self._console, self._clock = run, console, clock
        self._stop = threading.Event()
        self._tape: JournalTape | None = None
        self._thread = threading.Thread(target=self._refresh, name="screen", daemon=True)

    def on_air(self, tape: JournalTape) -> None:
        self._tape = tape
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
            self._look()

    def _refresh(self) -> None:
        while not self._clock.wait(self._stop, _EVERY_SECONDS):
            self._look()

    def _look(self) -> None:
        if self._tape is not None:
            self.show(self._tape.view())

    def show(self, view: View) -> None:
        raise NotImplementedError


class _LiveScreen(_Refreshing):
    """A picture that is drawn over itself."""

    def __init__(self, run: Run, console: Console, clock: Clock) -> None:
        super().__init__(run, console, clock)
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def on_air(self, tape: JournalTape) -> None:
        self._live.start()
        super().on_air(tape)

    def end(self) -> None:
        super().end()
        self._live.stop()

    def show(self, view: View) -> None:
        self._live.update(picture(self._run, view), refresh=True)


class _PlainScreen(_Refreshing):
    """A line for each thing that changed, and one every ten seconds."""

    def __init__(self, run: Run, console: Console, clock: Clock) -> None:
        super().__init__(run, console, clock)
        self._before: View | None = None
        self._said = 0.0

    def show(self, view: View) -> None:
        lines = changes(self._before, view)
        if not lines and view.at - self._said >= _SAY_SECONDS and not view.verdict:
            lines = [summary(view)]
        for line in lines:
            self._said = view.at
            self._console.print(f"{view.at:6.1f} s  {line}", highlight=False, markup=False, soft_wrap=True)
        self._before = view


def changes(before: View | None, view: View) -> list[str]:
    """Return a line for each thing that is different from `before`."""
    lines = []
    if before is None or before.phase != view.phase:
        lines.append(f"phase {view.phase}")
    if before is None or before.fault_regions != view.fault_regions:
        hurt = ", ".join(view.fault_regions)
        lines += [f"fault on: {hurt}"] if hurt else ["fault off"] if before else []
    for region, state in view.breakers.items():
        if before is not None and before.breakers.get(region) != state:
            lines.append(f"breaker {region}: {state}")
    for key, state in view.alarms.items():
        old = before.alarms.get(key) if before else None
        if old != state and (old is not None or state != "OK"):
            lines.append(f"alarm {key[0]} {key[1]} ({key[2]}): {state}")
    if before is not None and view.failed > before.failed:
        lines.append(f"{view.failed} operations have failed")
    return lines


def summary(view: View) -> str:
    """Return the scene in one line."""
    rate, p99 = rate_and_p99(view)
    bad = sum(canary.outcome is not Outcome.OK for canary in view.canaries.values())
    return (
        f"{view.phase}: {view.operations} operations, {view.failed} failed, {rate:.0f}/s, p99 {_ms(p99)}, "
        f"{len(view.canaries) - bad} of {len(view.canaries)} canaries OK"
    )


def rate_and_p99(view: View) -> tuple[float, float | None]:
    """Return operations per second, and their 99th percentile in seconds, of the last five seconds."""
    recent = [o for o in view.recent if o.at > view.at - _RATE_WINDOW_SECONDS]
    window = min(_RATE_WINDOW_SECONDS, max(view.at, 1.0))
    return len(recent) / window, quantile((o.seconds for o in recent), 0.99)


def _ms(seconds: float | None) -> str:
    return "n/a" if seconds is None else f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def picture(run: Run, view: View) -> RenderableType:
    """Return the scene as a picture."""
    title = f"{run.drill.name} on {run.target}   {view.at:5.1f} s"
    tone = "red" if view.fault_regions else "cyan"
    return Panel(
        Group(_phases(view), Text(), _load(view), _strip(view), Text(), _regions(run, view), Text(), _alarms(view)),
        title=title,
        border_style=tone,
        padding=(1, 2),
    )


def _phases(view: View) -> Text:
    line = Text()
    at = _PHASES.index(view.phase) if view.phase in _PHASES else -1
    for number, phase in enumerate(_PHASES):
        style = "bold reverse" if number == at else "green" if number < at else "dim"
        line.append(f" {phase} ", style=style)
        line.append(" ")
    line.append(f"{view.at - view.phase_since:5.1f} s")
    if view.fault_since is not None:
        line.append(f"   FAULT ON {', '.join(view.fault_regions)} {view.at - view.fault_since:.0f} s", style="bold red")
    return line


def _load(view: View) -> Text:
    rate, p99 = rate_and_p99(view)
    line = Text(f"{view.operations} operations, {rate:.0f}/s, p99 {_ms(p99)}, {view.failed_over} failed over, ")
    line.append(f"{view.failed} failed", style="bold red" if view.failed else "green")
    return line


def _strip(view: View) -> Text:
    """One character a second, its height the slowest operation; red where one failed, shaded while the fault was on."""
    line = Text()
    end = int(view.at)
    for second in range(max(0, end - _STRIP_SECONDS), end):
        inside = [o for o in view.recent if int(o.at) == second]
        shade = " on grey27" if _in_fault(view, second) else ""
        line.append(_bar(inside), style=_bar_style(inside) + shade)
    return line


def _in_fault(view: View, second: int) -> bool:
    return any(f.since <= second + 1 and (f.until is None or second < f.until) for f in view.faults)


def _bar(inside: list[OperationView]) -> str:
    if not inside:
        return "·"
    slowest = max(o.seconds for o in inside)
    limits = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
    return "▁▂▃▄▅▆▇█"[sum(slowest > limit for limit in limits)]


def _bar_style(inside: list[OperationView]) -> str:
    if any(not o.ok for o in inside):
        return "bold red"
    return "yellow" if any(o.seconds > 1 for o in inside) else "green"


def _regions(run: Run, view: View) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("region", min_width=16)
    table.add_column("breaker", min_width=10)
    for purpose in run.settings.keys:
        table.add_column(purpose, min_width=16)
    for region in run.regions:
        state = view.breakers.get(region, "closed")
        cells = [_canary(view.canaries.get((region, purpose))) for purpose in run.settings.keys]
        name = Text(region, style="bold red" if region in view.fault_regions else "bold")
        table.add_row(name, Text(state.replace("_", " "), style=_BREAKER_STYLES[state]), *cells)
    return table


def _canary(look: CanaryView | None) -> Text:
    if look is None:
        return Text("not seen", style="dim")
    style = {Outcome.OK: "green", Outcome.FAILED: "red", Outcome.BLIND: "yellow"}[look.outcome]
    return Text("OK" if look.outcome is Outcome.OK else look.reason or str(look.outcome), style=style)


def _alarms(view: View) -> Table:
    """One row an alarm and region: the drill's twin, and the live one beside it."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for header in ("alarm", "region", "drill", "live"):
        table.add_column(header, min_width=10)
    for alarm, region in dict.fromkeys((alarm, region) for alarm, region, _ in sorted(view.alarms)):
        states = [view.alarms.get((alarm, region, mode), "not looked at") for mode in ("drill", "live")]
        cells = [Text(state, style=_ALARM_STYLES.get(state, "yellow")) for state in states]
        table.add_row(alarm, region, *cells)
    return table
