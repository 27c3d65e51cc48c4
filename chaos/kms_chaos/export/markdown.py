"""A drill as Markdown, for a ticket: the verdict, the claims, the recovery time in its parts, what was touched."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from kms_chaos.export.account import Account, seconds

_ESCAPED = re.compile(r"([\\`*_\[\]<>|#~!&])")
_MENTION = re.compile(r"@(?=\w)")


def render(a: Account) -> str:
    """Return the whole document."""
    return "\n".join(_lines(a)) + "\n"


def _lines(a: Account) -> Iterator[str]:
    j, h = a.judgement, a.history
    yield f"## {j.verdict}: {text(a.title)}"
    yield ""
    yield f"{', '.join(h.targets)}, {a.started.at_utc:%Y-%m-%d %H:%M:%S} UTC, run `{j.run_id}`. {a.says}"
    if a.cut_short:
        yield from ("", f"**{text(a.cut_short)}**")
    yield from ("", "### What had to be proved", "")
    claims = ((str(c.verdict), text(c.title), text(c.finding), _numbers(c.evidence)) for c in j.claims)
    yield from table(("Verdict", "Claim", "Finding", "Journal lines"), claims)
    yield from ("", "### Recovery time, in its parts", "")
    yield from _timings(a)
    yield from ("", "### Messages", "", _loss(a))
    yield from ("", "### What was touched, and how it was undone", "")
    yield from _touched(a)
    yield from ("", f"Judged up to journal line hash `{j.journal_head}`; `kms-chaos judge {j.run_id}` repeats it.")


def _timings(a: Account) -> Iterator[str]:
    if not a.timings:
        yield "No fault was on, so nothing had to recover."
        return
    rows = (
        (t.region, text(t.title), t.lane or "-", seconds(t.seconds), _error(t.error_seconds), text(t.note))
        for t in a.timings
    )
    yield from table(("Region", "From → to", "Lane", "Took", "±", "Note"), rows)


def _error(value: float | None) -> str:
    return "" if value is None else seconds(value)


def _loss(a: Account) -> str:
    loss = a.key_loss
    if loss is None:
        return "Nobody tried at the end whether the messages open."
    lost = f"{len(loss.lost)} lost" + (f" (numbers {_numbers(loss.lost)})" if loss.lost else "")
    return (
        f"{loss.sealed} sealed, {loss.sealed_in_fault} of them during the fault: {lost}, {loss.untried} not tried; "
        f"all opened again in {', '.join(loss.regions) or 'no region'}."
    )


def _touched(a: Account) -> Iterator[str]:
    if not a.touched:
        yield "Nothing was touched."
        return
    rows = (
        (f"`{t.name}`", t.region, ", ".join(t.toxics) or "-", t.undone or "**not seen to be undone**")
        for t in a.touched
    )
    yield from table(("Proxy", "Region", "Toxics", "Undone"), rows)


def _numbers(found: Sequence[int]) -> str:
    return ", ".join(map(str, found))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table; cells are Markdown already."""
    yield f"| {' | '.join(heads)} |"
    yield f"|{' --- |' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def text(said: str) -> str:
    """Return `said` as one line of Markdown that means its characters alone: no markup, no mention of anybody."""
    return _MENTION.sub("@\u200b", _ESCAPED.sub(r"\\\1", " ".join(said.split())))
