"""Asks AWS one thing after the other, and writes down what was asked and what was answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from kms_core.clock import Clock
from kms_watchdog import aws
from kms_watchdog.canaries.finding import CREDENTIAL_CODES
from kms_watchdog.doctor.refusal import DENIED, refusal
from kms_watchdog.doctor.seen import NOT_ASKED, Fact, Notebook, Seen, Subject
from kms_watchdog.estate.kms_admin import TRUNCATED, EstateError

T = TypeVar("T")

DRY_RUN = "DryRunOperationException"
"""KMS's answer to a dry run that would have worked."""


class SilentError(Exception):
    """Nobody answers, or nobody believes who asks: there is no use in asking on."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.of_credentials = code in CREDENTIAL_CODES or "Credential" in code


@dataclass(frozen=True, slots=True)
class Told:
    """An answer in words and facts."""

    answered: str
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Read(Generic[T]):
    """What was read, which may be that there is nothing."""

    value: T


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What is asked in one region; of a key where `purpose` names one."""

    region: str
    notebook: Notebook
    clock: Clock
    purpose: str = ""

    def of(self, purpose: str) -> Questions:
        """Return the same about one key."""
        return replace(self, purpose=purpose)

    def read(self, subject: Subject, asked: str, ask: Callable[[], T], tell: Callable[[T], Told]) -> Read[T] | None:
        """Return the answer of `ask`, noted as `tell` puts it; None: there was none, which is noted too.

        Raises:
            SilentError: there is no use in asking on.
        """
        began = self.clock.monotonic()
        try:
            answer = ask()
        except EstateError as e:
            self.failed(subject, asked, e, seconds=self.clock.monotonic() - began)
            _stop_if_silent(e)
            return None
        told = tell(answer)
        self._note(subject, asked, told, seconds=self.clock.monotonic() - began)
        return Read(answer)

    def call(
        self,
        subject: Subject,
        asked: str,
        ask: Callable[[], Mapping[str, Any]],
        tell: Callable[[Mapping[str, Any]], Told],
    ) -> Mapping[str, Any] | None:
        """As `read`, for a call of a client of boto3's, whose answers have request ids.

        Raises:
            SilentError: there is no use in asking on.
        """
        began = self.clock.monotonic()
        operation = asked.partition(" ")[0]
        try:
            answer = ask()
            told = tell(answer)
        except aws.AwsError as e:
            error = EstateError.of(e, self.region, operation)
            self.failed(subject, asked, error, seconds=self.clock.monotonic() - began, words=str(e))
            _stop_if_silent(error)
            return None
        except KeyError:
            error = EstateError(self.region, operation, TRUNCATED, unreachable=True)
            self.failed(subject, asked, error, seconds=self.clock.monotonic() - began)
            return None
        self._note(subject, asked, told, seconds=self.clock.monotonic() - began, request_id=request_id(answer))
        return answer

    def dry_run(self, operation: str, key: str, ask: Callable[[], object], facts: Mapping[str, Fact]) -> None:
        """Ask KMS whether `operation` would work; nothing is used, and nothing secret comes back.

        Raises:
            SilentError: there is no use in asking on.
        """
        asked = f"{operation} {key} (dry run, with the canary's context)"
        known = {**facts, "operation": operation}
        began = self.clock.monotonic()
        try:
            ask()
        except aws.AwsError as e:
            seconds = self.clock.monotonic() - began
            if aws.error_code(e) == DRY_RUN:
                said, answered = Told("it would have worked", known), getattr(e, "response", {})
                self._note(Subject.DRY_RUN, asked, said, seconds=seconds, request_id=request_id(answered))
                return
            error = EstateError.of(e, self.region, operation)
            self.failed(Subject.DRY_RUN, asked, error, seconds=seconds, words=str(e), facts=known)
            _stop_if_silent(error)
        else:
            said = Told("it works; the server does not know dry runs, and its answer was dropped", known)
            self._note(Subject.DRY_RUN, asked, said, seconds=self.clock.monotonic() - began)

    def not_asked(self, subject: Subject, asked: str, because: str) -> None:
        """Note a question that was left out."""
        self._note(subject, asked, Told(f"not asked: {because}"), code=NOT_ASKED)

    def note(
        self,
        subject: Subject,
        asked: str,
        answered: str,
        *,
        code: str = "",
        seconds: float = 0.0,
        facts: Mapping[str, Fact] | None = None,
    ) -> None:
        """Note what was found out otherwise."""
        self._note(subject, asked, Told(answered, facts or {}), code=code, seconds=seconds)

    def failed(
        self,
        subject: Subject,
        asked: str,
        error: EstateError,
        *,
        seconds: float = 0.0,
        words: str = "",
        facts: Mapping[str, Fact] | None = None,
    ) -> None:
        """Note a question that had an error for an answer; `words` are AWS's own, if not those of the error's cause."""
        known, said = dict(facts or {}), error.code
        if error.code in DENIED:
            refused = refusal(words or str(error.__cause__))
            known["refused_by"] = str(refused.kind or "")
            said = f"{error.code}: {refused}"
        self._note(subject, asked, Told(said, known), code=error.code, request_id=error.request_id, seconds=seconds)

    def _note(
        self, subject: Subject, asked: str, told: Told, *, code: str = "", request_id: str = "", seconds: float = 0.0
    ) -> None:
        self.notebook.note(
            Seen(
                subject=subject,
                region=self.region,
                purpose=self.purpose,
                asked=asked,
                answered=told.answered,
                code=code,
                request_id=request_id,
                seconds=seconds,
                facts=told.facts,
            )
        )


def _stop_if_silent(error: EstateError) -> None:
    silent = error.unreachable and not error.request_id and error.code != TRUNCATED
    stop = SilentError(error.code)
    if silent or stop.of_credentials:
        raise stop from error


def request_id(answer: Mapping[str, Any]) -> str:
    """Return the id that AWS gave to the request; empty: none."""
    return str(answer.get("ResponseMetadata", {}).get("RequestId", ""))
