"""What was seen, and what it says about a question: confirmed, refuted, or nobody could tell. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from kms_watchdog.preflight.questions import Question

UNSUPPORTED, EXISTS = "UnsupportedOperationException", "AlreadyExistsException"
NOT_FOUND, INVALID_ARN = "NotFoundException", "InvalidArnException"
INVALID_STATE, DISABLED = "KMSInvalidStateException", "DisabledException"
VALIDATION = "ValidationException"
_ABOUT_THE_REQUEST: Final = frozenset(
    {UNSUPPORTED, EXISTS, NOT_FOUND, INVALID_ARN, INVALID_STATE, DISABLED, VALIDATION, "ValidationError"}
)
"""Codes with which a service judges a request. Every other says that it did not: load, credentials, the connection."""
NO_ENDPOINT: Final = "NoEndpointConfigured"
"""Our own code: the region's end points are configured, and this service's is not among them."""


class Result(StrEnum):
    """What became of a question."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    COULD_NOT_TELL = "could not tell"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One request, and what came of it."""

    region: str
    operation: str
    code: str = ""
    """Empty: it was answered."""
    message: str = ""
    """AWS's own words, where it judged the request. Of a refusal for lack of rights never: that names sessions."""
    request_id: str = ""
    answer: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Not in the evidence: it may be long."""

    @property
    def judged(self) -> bool:
        """Whether the service answered, or refused because of what the request says."""
        return not self.code or self.code in _ABOUT_THE_REQUEST

    def to_json(self) -> dict[str, str]:
        """Return the evidence as JSON values."""
        return {name: getattr(self, name) for name in ("region", "operation", "code", "message", "request_id")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A question's result."""

    id: str
    result: Result
    says: str
    """One line."""
    evidence: tuple[Seen, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "id": self.id,
            "result": self.result.value,
            "says": self.says,
            "evidence": [one.to_json() for one in self.evidence],
        }


def words_of(message: str, code: str) -> str:
    """Return what of AWS's message may be kept, on one line."""
    return " ".join(message.split())[:300] if code in _ABOUT_THE_REQUEST else ""


def unasked(asked: Question, why: str, *evidence: Seen) -> Answer:
    """Return the answer of a question that could not be asked."""
    return Answer(id=asked.id, result=Result.COULD_NOT_TELL, says=why, evidence=evidence)


def refused(asked: Question, seen: Seen, expected: Collection[str]) -> Answer:
    """Judge a request that should be refused with one of these codes."""
    if not seen.judged:
        return unasked(asked, f"not judged: {seen.code}", seen)
    result = Result.CONFIRMED if seen.code in expected else Result.REFUTED
    return Answer(id=asked.id, result=result, says=seen.code or "it was accepted", evidence=(seen,))


def valid(asked: Question, looks: Sequence[tuple[str, Seen]]) -> Answer:
    """Judge what Access Analyzer found in each named policy; its suggestions and lesser warnings are no refutation."""
    bad = [
        f"{name}: {finding.get('issueCode', finding['findingType'])}"
        for name, seen in looks
        for finding in seen.answer.get("findings", ())
        if finding["findingType"] in {"ERROR", "SECURITY_WARNING"}
    ]
    return _of_several(asked, looks, bad, f"nothing found in {len(looks)} policies")


def accepted(asked: Question, looks: Sequence[tuple[str, Seen]]) -> Answer:
    """Judge named requests each of which should be answered."""
    bad = [f"{name}: {seen.message or seen.code}" for name, seen in looks if seen.code and seen.judged]
    return _of_several(asked, looks, bad, f"accepted: {', '.join(name for name, _ in looks)}")


def simulated(asked: Question, looks: Sequence[tuple[str, Seen]], allowed: Mapping[str, bool]) -> Answer:
    """Compare what the simulator decided in each named case with what our evaluator says."""
    bad: list[str] = []
    for name, seen in looks:
        found = seen.answer.get("EvaluationResults")
        if found and (found[0]["EvalDecision"] == "allowed") != allowed[name]:
            bad.append(f"{name}: {found[0]['EvalDecision']}, ours {'allows' if allowed[name] else 'denies'} it")
    return _of_several(asked, looks, bad, f"agreed in {len(looks)} cases")


def enough(asked: Question, looks: Sequence[tuple[str, Seen]], least: Mapping[str, int]) -> Answer:
    """Compare each named region's quotas, by the quota's name, with the numbers that were written down."""
    bad: list[str] = []
    missing: list[str] = []
    facts: list[str] = []
    for region, seen in looks:
        if seen.code:
            continue
        values = {str(one["QuotaName"]): float(one["Value"]) for one in seen.answer["Quotas"]}
        bad += [f"{region}: {name} {values[name]:g}" for name, low in least.items() if values.get(name, low) < low]
        missing += [f"{region}: {name}" for name in least if name not in values]
        facts += [f"{region} {value:g}" for name, value in values.items() if name == CRYPTOGRAPHIC]
    if missing and not bad:
        return unasked(asked, f"not told: {'; '.join(missing)}", *(seen for _, seen in looks))
    told = ", ".join(facts) or "not told"
    return _of_several(asked, looks, bad, f"as written down, or more; cryptographic requests a second: {told}")


CRYPTOGRAPHIC: Final = "Cryptographic operations (symmetric) request rate"


def filled(asked: Question, seen: Seen) -> Answer:
    """Judge what an expression over a metric without data gave."""
    if seen.code:
        return unasked(asked, f"not answered: {seen.code}", seen)
    found = [value for one in seen.answer["MetricDataResults"] for value in one.get("Values", ())]
    result = Result.CONFIRMED if found and not any(found) else Result.REFUTED
    return Answer(id=asked.id, result=result, says=f"{len(found)} values", evidence=(seen,))


def _of_several(asked: Question, looks: Sequence[tuple[str, Seen]], bad: Sequence[str], good: str) -> Answer:
    """Return refuted if anything is bad, could not tell if anything was not answered, else confirmed."""
    evidence = tuple(seen for _, seen in looks)
    if bad:
        return Answer(id=asked.id, result=Result.REFUTED, says="; ".join(bad), evidence=evidence)
    silent = [f"{name}: {seen.code}" for name, seen in looks if seen.code]
    if silent:
        more = f" and {len(silent) - 1} more" if len(silent) > 1 else ""
        return unasked(asked, f"not answered: {silent[0]}{more}", *evidence)
    return Answer(id=asked.id, result=Result.CONFIRMED, says=good, evidence=evidence)
