"""What was found, as lines for a person and as one JSON document. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kms_watchdog.doctor.codes import Code, what_the_core_does
from kms_watchdog.doctor.diagnosis import Diagnosis, Finding
from kms_watchdog.doctor.seen import Seen

SCHEMA = 1


def document(
    diagnosis: Diagnosis, lines: Sequence[Seen], code: Code | None, runbooks_url: str | None
) -> dict[str, Any]:
    """Return everything as JSON values; `evidence` of a cause counts the evidence's lines from 0."""
    return {
        "schema": SCHEMA,
        "outcome": str(diagnosis.outcome),
        "code": _code(code, diagnosis) if code else None,
        "causes": [_cause(finding, runbooks_url) for finding in diagnosis.findings],
        "untold": list(diagnosis.untold),
        "evidence": [seen.to_json() for seen in lines],
    }


def text(diagnosis: Diagnosis, lines: Sequence[Seen], code: Code | None, runbooks_url: str | None) -> Iterator[str]:
    """Yield the lines of a report: the code, the evidence, the causes, what could not be told.

    Evidence is marked `!!` where it tells of a cause, `??` where nobody could tell.
    """
    if code is not None:
        yield from _about_code(code)
    if lines:
        yield "evidence"
        guilty = {i for finding in diagnosis.findings if not finding.cause.harmless for i in finding.evidence}
        for i, seen in enumerate(lines):
            mark = "!!" if i in guilty else "ok" if seen.good else "??"
            yield f"  {i + 1:3} {mark} {_line(seen)}"
    yield ""
    yield from _causes(diagnosis, code, runbooks_url)
    if diagnosis.untold:
        yield "could not tell:"
        yield from (f"  {_line(lines[i])}  [evidence {i + 1}]" for i in diagnosis.untold)


def _about_code(code: Code) -> Iterator[str]:
    yield code.name
    if code.note:
        yield f"  {code.note}"
    if code.nearest:
        yield f"  in no table here; did you mean {code.nearest}?"
    if reaction := what_the_core_does(code.name):
        yield f"  the core: {reaction}"
    yield f"  may come from: {', '.join(code.causes)}" if code.causes else "  it is above the others and says nothing"
    yield ""


def _line(seen: Seen) -> str:
    where = " ".join(part for part in (seen.region, seen.purpose) if part)
    request = f"  (request {seen.request_id})" if seen.request_id else ""
    return f"{where}: {seen.asked}: {seen.answered}{request}"


def _causes(diagnosis: Diagnosis, code: Code | None, runbooks_url: str | None) -> Iterator[str]:
    if not diagnosis.findings:
        yield f"{diagnosis.outcome}" + (f": nothing seen now explains {code.name}" if code else "")
        return
    first, *others = _grouped(diagnosis.findings)
    if diagnosis.explains is False and code is not None:
        yield f"nothing seen now explains {code.name}; what is wrong besides:"
    else:
        yield "the most likely cause:"
    yield from _group(first, runbooks_url)
    if others:
        yield "also:"
    for group in others:
        yield from _group(group, runbooks_url)


def _grouped(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Put what is the same cause in several places together, in the order of their first."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.cause_id, []).append(finding)
    return list(groups.values())


def _group(findings: Sequence[Finding], runbooks_url: str | None) -> Iterator[str]:
    first = findings[0]
    yield f"  {first.cause_id}: {first.cause.meaning}"
    for finding in findings:
        numbers = ", ".join(str(i + 1) for i in finding.evidence)
        where = f"{finding.where}: " if finding.where else ""
        yield f"    {where}{finding.because}" + (f"  [evidence {numbers}]" if numbers else "")
    yield f"    first: {first.cause.first}"
    yield f"    runbook: {_runbook(first, runbooks_url)}"


def _runbook(finding: Finding, runbooks_url: str | None) -> str:
    return f"{runbooks_url}{finding.runbook.rpartition('/')[2]}" if runbooks_url else finding.runbook


def _code(code: Code, diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "name": code.name,
        "note": code.note,
        "nearest": code.nearest,
        "the_core": what_the_core_does(code.name),
        "may_come_from": [str(cause) for cause in code.causes],
        "explained": diagnosis.explains,
    }


def _cause(finding: Finding, runbooks_url: str | None) -> dict[str, Any]:
    return {
        "id": str(finding.cause_id),
        "region": finding.region,
        "key": finding.purpose,
        "because": finding.because,
        "meaning": finding.cause.meaning,
        "first": finding.cause.first,
        "runbook": _runbook(finding, runbooks_url),
        "harmless": finding.cause.harmless,
        "evidence": list(finding.evidence),
    }
