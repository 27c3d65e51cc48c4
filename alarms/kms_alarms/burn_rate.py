"""The objective's error budget, and how fast it burns: multi-window, multi-burn-rate, with a guard for few runs.

Source: Google's SRE Workbook, "Alerting on SLOs", with the windows as Sloth encodes them. A canary makes few runs: at
two a minute a single failure is over 14.4 times the budget of an hour. So each also wants a least number of failures,
which covers a young history too (an hour after Prometheus was set up the "6h" and "3d" ratios rest on minutes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kms_alarms.parts import Rule, series
from kms_watchdog.metrics import CANARY_RUNS
from kms_watchdog.results import Kind

OBJECTIVE = 0.999
"""The share of round trips in a region that shall be well, over 30 days; blind ones count for neither side."""
LEAST_FAILURES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """One pair of windows."""

    severity: Literal["critical", "warning"]
    short_seconds: int
    long_seconds: int
    factor: float
    for_seconds: int


BURNS = (
    Burn(severity="critical", short_seconds=300, long_seconds=3600, factor=14.4, for_seconds=120),
    Burn(severity="critical", short_seconds=1800, long_seconds=21_600, factor=6, for_seconds=300),
    Burn(severity="warning", short_seconds=7200, long_seconds=86_400, factor=3, for_seconds=900),
    Burn(severity="warning", short_seconds=21_600, long_seconds=259_200, factor=1, for_seconds=3600),
)
NAMES = {300: "5m", 1800: "30m", 3600: "1h", 7200: "2h", 21_600: "6h", 86_400: "1d", 259_200: "3d"}
WINDOWS = tuple(sorted({window for burn in BURNS for window in (burn.short_seconds, burn.long_seconds)}))


def record_name(window_seconds: int) -> str:
    """Return the name of the recording rule for one window."""
    return f"region_mode:{CANARY_RUNS.full_name}:failed_ratio_rate{NAMES[window_seconds]}"


def records() -> tuple[tuple[str, str], ...]:
    """Return the recording rules, name and expression: numerator and denominator aggregated apart, of both modes."""
    failed = series(CANARY_RUNS, canary=Kind.ROUND_TRIP, mode="~live|drill", result="!~success|blind")
    counted = series(CANARY_RUNS, canary=Kind.ROUND_TRIP, mode="~live|drill", result="!blind")
    return tuple((record_name(window), _ratio(failed, counted, f"[$[{window}]]")) for window in WINDOWS)


def _ratio(part: str, whole: str, within: str) -> str:
    return f"sum by (region, mode) (rate({part}{within}))\n/\nsum by (region, mode) (rate({whole}{within}))"


def burn_rate_rules() -> tuple[Rule, ...]:
    """Return the four alerting rules: two that page, two for working hours."""
    return tuple(_rule(burn) for burn in BURNS)


def _rule(burn: Burn) -> Rule:
    budget = f"({burn.factor:g} * {1 - OBJECTIVE:.4g})"
    short, long = (f'{record_name(w)}{{mode="$mode"}} > {budget}' for w in (burn.short_seconds, burn.long_seconds))
    failed = series(CANARY_RUNS, canary=Kind.ROUND_TRIP, result="!~success|blind")
    guard = f"\nand on (region)\nsum by (region) (increase({failed}[$[{burn.long_seconds}]])) >= {LEAST_FAILURES}"
    return Rule(
        expr=f"{short}\nand on (region)\n{long}{guard}",
        for_seconds=burn.for_seconds,
        severity=burn.severity,
        labels={"short": NAMES[burn.short_seconds], "long": NAMES[burn.long_seconds]},
        summary=f"Round trips in {{{{ $labels.region }}}} burn the error budget at {burn.factor:g} times its pace: "
        "{{ $value | humanizePercentage }} failed",
    )
