"""A drill as JUnit XML: one test case a claim, and one for the verdict over all of them.

JUnit knows success, failure, error and skipped. BROKE is a failure. INCONCLUSIVE is an *error*: a skipped case leaves
CI green, and a drill that proved nothing must not. The verdict is a case of its own, since a run that was cut short can
be INCONCLUSIVE although every claim that could be looked at held.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from kms_chaos.export.account import Account
from kms_watchdog.drills.verdict import Verdict

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, escaped or not (its section 2.2, `Char`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    name: str
    verdict: Verdict
    finding: str
    evidence: tuple[int, ...] = ()


def render(a: Account) -> str:
    """Return the XML document."""
    cases = list(_cases(a))
    bad = {v: str(sum(case.verdict is v for case in cases)) for v in Verdict}
    counts = {
        "tests": str(len(cases)),
        "failures": bad[Verdict.BROKE],
        "errors": bad[Verdict.INCONCLUSIVE],
        "skipped": "0",
        "time": f"{a.history.records[-1].t:.3f}",
    }
    root = ET.Element("testsuites", counts)
    name = _clean(f"kms-chaos.{a.judgement.drill}")
    suite = ET.SubElement(
        root, "testsuite", {"name": name, **counts, "timestamp": f"{a.started.at_utc:%Y-%m-%dT%H:%M:%S}"}
    )
    listed = ET.SubElement(suite, "properties")
    for key, value in _properties(a):
        ET.SubElement(listed, "property", {"name": key, "value": _clean(value)})
    for case in cases:
        _add(suite, name, case)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _cases(a: Account) -> Iterator[_Case]:
    yield _Case(name="verdict", verdict=a.judgement.verdict, finding=f"{a.says} {a.cut_short}".strip())
    for claim in a.judgement.claims:
        yield _Case(name=claim.name, verdict=claim.verdict, finding=claim.finding, evidence=claim.evidence)


def _properties(a: Account) -> Iterator[tuple[str, str]]:
    yield "run_id", a.judgement.run_id
    yield "region", a.judgement.region
    yield "verdict", str(a.judgement.verdict)
    yield "journal_head", a.judgement.journal_head
    for name, value in a.judgement.figures.items():
        if value is not None:
            yield name, f"{value:g}"


def _add(suite: ET.Element, of: str, case: _Case) -> None:
    element = ET.SubElement(suite, "testcase", {"classname": of, "name": _clean(case.name), "time": "0"})
    finding = _clean(case.finding)
    lines = (
        f"journal lines {', '.join(map(str, case.evidence))}" if case.evidence else "no line of the journal shows it"
    )
    if case.verdict is Verdict.HELD:
        ET.SubElement(element, "system-out").text = f"{finding}\n{lines}"
        return
    kind = "failure" if case.verdict is Verdict.BROKE else "error"
    ET.SubElement(element, kind, {"type": str(case.verdict), "message": finding}).text = f"{finding}\n{lines}"


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
