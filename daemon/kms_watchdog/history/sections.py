"""The digest as headed tables of text, which Markdown and HTML only dress. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kms_watchdog import durations
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.history.digest import Digest, Line
from kms_watchdog.history.incidents import Incident
from kms_watchdog.history.tally import ERROR, Tally

NOTHING = "n/a"


@dataclass(frozen=True, slots=True)
class Tile:
    """One number to see at once."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """One table."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    nothing: str = "None."
    """What is said instead of a table without rows."""


def tiles(d: Digest) -> tuple[Tile, ...]:
    """Return the numbers at the top."""
    held = sum(view.verdict is Verdict.HELD for view in d.drills)
    return (
        Tile(
            percent(d.overall.availability), "round trips OK", f"{d.overall.failed:,} of {answers(d.overall):,} failed"
        ),
        Tile(
            duration(d.overall.percentile(0.99)), "p99 of a round trip", f"median {duration(d.overall.percentile(0.5))}"
        ),
        Tile(percent(d.overall.blind_share), "blind", f"{d.overall.blind:,} of {d.overall.looks:,} looks"),
        Tile(f"{d.hours_seen}", "hours watched", f"of {d.hours_asked}"),
        Tile(str(d.incident_count), "incidents", f"breakers opened {sum(d.breakers.values())} times"),
        Tile(f"{held} of {len(d.drills)}", "drills held", "" if d.drills else "none was run"),
        Tile(f"${d.dollars:,.2f}", "estimated cost", "list prices"),
    )


def sections(d: Digest) -> tuple[Section, ...]:
    """Return the tables."""
    return (
        Section(
            "Round trips by region and key",
            ("region", "key", *_LOOK_HEADS),
            tuple(_line(line) for line in d.keys),
            f"Availability is OK / (OK + failed); blind looks count for neither. Percentiles are of the OK looks, from "
            f"logarithmic buckets: right within {ERROR:.1%}.",
            "No round trip in this time.",
        ),
        Section("Round trips by region", ("region", *_LOOK_HEADS), tuple(_line(line) for line in d.regions)),
        Section("All canaries by kind", ("canary", *_LOOK_HEADS), tuple(_line(line) for line in d.kinds)),
        Section(
            "Worst hours",
            ("hour (UTC)", "failed", "blind", "looks", "regions", "why"),
            tuple(
                (
                    f"{bad.at_utc:%Y-%m-%d %H:%M}",
                    f"{bad.tally.failed:,}",
                    f"{bad.tally.blind:,}",
                    f"{bad.tally.looks:,}",
                    ", ".join(bad.where),
                    _reasons(bad.tally),
                )
                for bad in d.worst_hours
            ),
            "Looks of the canaries that were not OK in that hour.",
            "No hour with a look that was not OK.",
        ),
        Section(
            "Why looks were not OK",
            ("reason", "code", "looks", "regions"),
            tuple((why.reason, why.error_code, f"{why.count:,}", ", ".join(why.where)) for why in d.reasons),
            nothing="Nothing failed.",
        ),
        Section(
            "Longest incidents",
            ("began (UTC)", "lasted", "canary", "region", "key", "answer", "looks", "why"),
            tuple(_incident(each, d) for each in d.incidents),
            "From the first look that was not OK to the first that was again; whole looks are kept for 14 days.",
        ),
        Section("Breakers and failovers", ("what", "where", "times"), tuple(_moves(d)), nothing="No breaker opened."),
        Section(
            "Drills",
            ("began (UTC)", "drill", "region", "verdict", "run"),
            tuple(
                (
                    f"{view.started_at_utc:%Y-%m-%d %H:%M}",
                    view.drill,
                    view.region,
                    str(view.verdict) if view.verdict else "running" if view.active else "not judged",
                    view.run_id,
                )
                for view in d.drills
            ),
            nothing="None was run: that failover works is assumed, not proven.",
        ),
        Section(
            "Estimated cost of this time",
            ("item", "how many", "dollars"),
            (
                *((cost.what, cost.how_many, f"{cost.dollars:,.2f}") for cost in d.costs),
                ("total", "", f"{d.dollars:,.2f}"),
            ),
            "List prices of us-east-1 without free tiers; requests are those the watchdog's core made. An estimate: "
            "the bill has the last word.",
        ),
    )


def percent(share: float | None) -> str:
    """Return a share for people, never rounded up to 100 %."""
    if share is None:
        return NOTHING
    text = f"{share:.3%}"
    if text == "100.000%" and share < 1:
        text = "99.999%"
    return text.replace(".000%", "%")


def duration(seconds: float | None) -> str:
    """Return seconds for people."""
    if seconds is None:
        return NOTHING
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def answers(tally: Tally) -> int:
    """Return how many looks got an answer."""
    return tally.ok + tally.failed


_LOOK_HEADS = ("looks", "available", "failed", "blind", "p50", "p90", "p99", "longest")


def _line(line: Line) -> tuple[str, ...]:
    t = line.tally
    return (
        *line.name,
        f"{t.looks:,}",
        percent(t.availability),
        f"{t.failed:,}",
        percent(t.blind_share),
        *(duration(t.percentile(share)) for share in (0.5, 0.9, 0.99)),
        duration(t.seconds_max if t.ok else None),
    )


def _reasons(tally: Tally) -> str:
    return ", ".join(f"{_said(reason)} ({count:,})" for reason, count in tally.reasons.most_common(3))


def _said(reason: str) -> str:
    return " ".join(part for part in reason.split("|") if part)


def _incident(each: Incident, d: Digest) -> tuple[str, ...]:
    return (
        f"{each.began_at_utc:%Y-%m-%d %H:%M:%S}",
        durations.spoken(each.lasted(d.until_utc)) + ("" if each.recovered_at_utc else " and on"),
        each.subject.canary,
        each.subject.region,
        each.subject.key,
        str(each.outcome),
        f"{each.looks:,}",
        " ".join((*each.reasons, *each.error_codes)),
    )


def _moves(d: Digest) -> Iterator[tuple[str, ...]]:
    for region, times in d.breakers.items():
        yield ("breaker opened", region, f"{times:,}")
    for (from_region, to_region), times in d.failovers.items():
        yield ("call went on elsewhere", f"{from_region} → {to_region}", f"{times:,}")
