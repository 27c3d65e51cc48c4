"""The report: JSON for machines, Markdown for a ticket, and one self-contained HTML file with the day's picture."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kms_local.game_day.judging import Record, Step, Verdict, verdict
from kms_local.game_day.moments import Moment
from kms_local.game_day.picture import picture
from kms_local.game_day.promises import Plan, Since

SCHEMA = 1
PROMISE = (
    "If any region, key, alias, policy or network path that encryption depends on breaks, a person knows within a "
    "stated time and why; and losing a region loses no data and no request."
)
"""DESIGN §1."""
_PARTS: Mapping[Since, str] = {
    "lost": "Lost: noticed, and somebody told",
    "ordered": "The order: ask the region last",
    "back": "Back: recovered, and said to be over",
    "taken back": "The order taken back",
}


_TOLD = "Everything that somebody was told"
_WHO = {
    "SNS": "SNS",
    "pager": "Alertmanager, pager",
    "tickets": "Alertmanager, tickets",
    "deadman": "dead man's switch",
}


@dataclass(frozen=True, slots=True)
class Reports:
    """Where the three are."""

    json: Path
    markdown: Path
    html: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One alarm that somebody was told of."""

    after: str
    """The first time, since the region was lost."""
    times: int
    who: str
    name: str


@dataclass(frozen=True, slots=True)
class Part:
    """Steps that count from the same moment."""

    title: str
    steps: tuple[Step, ...]


def write(folder: Path, record: Record, steps: tuple[Step, ...], plan: Plan) -> Reports:
    """Write all three into `folder`; return where they are."""
    reports = Reports(folder / "report.json", folder / "report.md", folder / "report.html")
    found = document(record, steps, plan)
    reports.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    reports.markdown.write_text(markdown(steps, plan, record), encoding="utf-8")
    reports.html.write_text(html(record, steps, plan), encoding="utf-8")
    return reports


def document(record: Record, steps: tuple[Step, ...], plan: Plan) -> dict[str, Any]:
    """Return the report as JSON values."""
    return {
        "schema": SCHEMA,
        "verdict": str(verdict(steps)),
        "region": plan.region,
        "began": {since: at_utc.isoformat() for since, at_utc in record.began.items()},
        "steps": [dataclasses.asdict(step) | {"verdict": str(step.verdict)} for step in steps],
        "runbook": record.runbook,
        "commands": [
            dataclasses.asdict(command) | {"at_utc": command.at_utc.isoformat()} for command in record.commands
        ],
        "load": dict(record.load),
        "moments": [dataclasses.asdict(moment) | {"at_utc": moment.at_utc.isoformat()} for moment in record.moments],
    }


def markdown(steps: tuple[Step, ...], plan: Plan, record: Record) -> str:
    """Return the report for a ticket."""
    lines = [
        f"# Game day: {plan.region} lost: {verdict(steps)}",
        "",
        f"{_day(record)}. {summary(steps, record)}",
        "",
        *([f"**Did not hold**: {'; '.join(broken(steps))}.", ""] if broken(steps) else []),
        f"> {PROMISE}",
    ]
    for part in parts(steps):
        lines += [
            "",
            f"## {part.title}",
            "",
            "| verdict | step | measured | promised | where that stands |",
            "|---|---|---|---|---|",
        ]
        lines += [
            "| "
            + " | ".join(_cell(text) for text in (step.verdict, step.title, step.measured, step.promised, step.where))
            + " |"
            for step in part.steps
        ]
    lines += ["", f"## {_TOLD}", "", "| first | times | who | of what |", "|---|---|---|---|"]
    lines += [f"| {one.after} | {one.times} | {one.who} | {_cell(one.name)} |" for one in told(record)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split()) or "-"


def _day(record: Record) -> str:
    lost = record.began.get("lost")
    return lost.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if lost else "never lost"


def told(record: Record) -> tuple[Told, ...]:
    """Return of what somebody was told since the region was lost, by who told it, the first one first."""
    lost = record.began.get("lost")
    pages = [
        one for one in record.moments if one.what == "page" and one.state == "ALARM" and lost and one.at_utc >= lost
    ]
    first: dict[tuple[str, str], Moment] = {}
    for page in pages:
        first.setdefault((_WHO.get(page.who, page.who), page.name), page)
    times = Counter((_WHO.get(page.who, page.who), page.name) for page in pages)
    return tuple(
        Told(after=f"{(page.at_utc - lost).total_seconds():.1f} s", times=times[key], who=key[0], name=page.name)
        for key, page in first.items()
        if lost
    )


def parts(steps: tuple[Step, ...]) -> tuple[Part, ...]:
    """Return the steps by what they count from; those without a time are the customers' and the person's."""
    person = tuple(step for step in steps if not step.since and step.key.startswith("runbook"))
    customers = tuple(step for step in steps if not step.since and step not in person)
    timed = {since: tuple(step for step in steps if step.since == since) for since in _PARTS}
    ordered = [
        Part("What the customers felt, and what nobody was told", customers),
        Part(_PARTS["lost"], timed["lost"]),
        Part("The runbook, as printed", person),
        *(Part(title, timed[since]) for since, title in _PARTS.items() if since != "lost"),
    ]
    return tuple(part for part in ordered if part.steps)


def broken(steps: tuple[Step, ...]) -> tuple[str, ...]:
    """Return what did not hold, in words."""
    return tuple(f"{step.title} ({', '.join(_how(step))})" for step in steps if not step.good)


def _how(step: Step) -> list[str]:
    instead = [f"{step.measured} instead of {step.promised}"] if step.measured else []
    return [step.verdict.lower(), *instead]


def summary(steps: tuple[Step, ...], record: Record) -> str:
    """Return the day in two sentences."""
    by_key = {step.key: step for step in steps}
    pages = [step for step in steps if step.key.startswith("page-") and step.since == "lost" and step.measured_seconds]
    first = min(pages, key=lambda step: step.measured_seconds or 0.0, default=None)
    told = f"The first page came after {first.measured}, promised {first.promised}" if first else "No page came"
    return (
        f"{told}; the runbook followed was {record.runbook or 'none'}. "
        f"{by_key['requests-failed'].measured} requests failed, p99 {by_key['p99'].measured or 'unknown'}, "
        f"longest {by_key['longest'].measured or 'unknown'}; bookings: {by_key['data-lost'].measured or 'unknown'}."
    )


def html(record: Record, steps: tuple[Step, ...], plan: Plan) -> str:
    """Return the report as one HTML file: no script, nothing loaded from anywhere."""
    loaders = [PackageLoader("kms_local.game_day"), PackageLoader("kms_chaos")]
    environment = Environment(
        loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("game_day.html.j2").render(
        answer=str(verdict(steps)),
        plan=plan,
        record=record,
        steps=steps,
        parts=parts(steps),
        day=_day(record),
        says=summary(steps, record),
        broken=broken(steps),
        promise=PROMISE,
        tiles=_tiles(steps),
        told_title=_TOLD,
        told=told(record),
        picture=Markup(picture(record, plan)),  # noqa: S704 - matplotlib's own output, which escapes what it is given
        share=_share,
        words={
            str(Verdict.HELD): "held",
            str(Verdict.LATE): "late",
            str(Verdict.MISSING): "missing",
            str(Verdict.BROKE): "broke",
            str(Verdict.NOT_RUN): "not run",
        },
    )


def _share(step: Step) -> float | None:
    """Return how much of its time a step took, in percent, 100 at the most; None: it has no time."""
    if step.promised_seconds is None or step.measured_seconds is None:
        return None
    return round(min(100.0, 100 * step.measured_seconds / step.promised_seconds), 1)


def _tiles(steps: tuple[Step, ...]) -> list[tuple[str, str, str]]:
    """Return what is to be seen at once: a number, what it is, what was promised."""
    by_key = {step.key: step for step in steps}
    pages = [step for step in steps if step.key.startswith("page-") and step.since == "lost"]
    paged = min(
        (one for one in pages if one.measured_seconds is not None),
        key=lambda one: one.measured_seconds or 0.0,
        default=None,
    )
    wanted = (
        ("requests-failed", "requests failed"),
        ("data-lost", "bookings lost"),
        ("p99", "p99 while it was lost"),
        ("longest", "longest request"),
        ("breaker-open", "until traffic went past"),
        ("canary-failed", "until a canary said so"),
    )
    found = [
        (by_key[key].measured.removesuffix(" lost") or "n/a", label, f"promised {by_key[key].promised}")
        for key, label in wanted
    ]
    found.append(
        (paged.measured, "until the first page", f"promised {paged.promised}") if paged else ("none", "pages", "")
    )
    back = by_key["health-healthy"]
    return [*found, (back.measured or "n/a", "from back to healthy", f"promised {back.promised}")]
