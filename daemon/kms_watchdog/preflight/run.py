"""One run: keys are made, questions asked, and whatever comes in between, the keys go again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from kms_core.clock import Clock
from kms_watchdog.config import Settings
from kms_watchdog.preflight import answers, questions, rendered, throwaway
from kms_watchdog.preflight.answers import Answer, Result, Seen, unasked
from kms_watchdog.preflight.asker import Asker
from kms_watchdog.preflight.questions import QUESTIONS, question
from kms_watchdog.preflight.record import ResultFile
from kms_watchdog.preflight.throwaway import Swept, Throwaway

KEYS: Final = 2
"""A primary and a replica."""
_PAUSES: Final = (0.25, 0.5, 1.0, 2.0, *(4.0,) * 14)
"""Until what was made or changed is seen: about a minute."""
_WAITS: Final = 4
"""For the replica, for the alias, and for two keys until their deletion is seen to be scheduled."""
_AGAIN: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Before a key that answers use although its deletion is scheduled refutes: half a minute."""
_PER_KEY_TORN_DOWN, _PAGES_OF_QUOTAS = 5, 3
_LEAST_QUOTAS: Final = {
    f"{operation} request rate": a_second
    for operation, a_second in {
        "DescribeKey": 2000,
        "GetKeyPolicy": 1000,
        "GetKeyRotationStatus": 1000,
        "ListAliases": 500,
        "ListGrants": 100,
        "PutKeyPolicy": 15,
        "CreateKey": 5,
        "ReplicateKey": 5,
        "CreateAlias": 5,
        "UpdateAlias": 5,
    }.items()
}
"""Source: KMS Developer Guide, "Request quotas", as of June 2023 (aws.md §3)."""
_NOBODYS_RUN_ANY_MORE = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """How much a run asks for: waits in full, without retries and further pages."""

    kms_requests: int
    """Besides one for each multi-Region key in the account's regions, before and after, to find ours by their tag."""
    other_requests: int
    keys: int

    @classmethod
    def of(cls, settings: Settings) -> Planned:
        """Count. Pure."""
        regions = len(settings.estate.regions)
        made = KEYS + 1 + _WAITS * (1 + len(_PAUSES))  # two keys, an alias, and DescribeKey until they are seen
        asked = len(QUESTIONS) - len(_OTHER_SERVICES) + KEYS * len(_AGAIN)
        gone = 2 * regions + KEYS * 2 * _PER_KEY_TORN_DOWN
        policies = len(rendered.policies(settings, rendered.ANY_KEY_ID))
        cases = len(rendered.cases(settings, rendered.ANY_KEY_ID))
        others = policies + cases + regions + regions * _PAGES_OF_QUOTAS + 1
        return cls(kms_requests=made + asked + gone, other_requests=others, keys=KEYS)


_OTHER_SERVICES = (
    questions.POLICIES_VALIDATE,
    questions.POLICIES_SIMULATE,
    questions.TEMPLATES_VALIDATE,
    questions.KMS_QUOTAS,
    questions.FILL_WITHOUT_DATA,
)


def left_over(key: Throwaway, known: Sequence[str], now_utc: datetime) -> bool:
    """Say whether a key is of a run that is over: one of this state folder, or begun an hour ago. Pure.

    Another machine may be in the middle of a run of its own.
    """
    if key.run_id in known:
        return True
    try:
        began = datetime.strptime(f"{key.run_id.partition('-')[0]}+0000", "%Y%m%dT%H%M%SZ%z")
    except ValueError:
        return False
    return now_utc - began >= _NOBODYS_RUN_ANY_MORE


@dataclass(slots=True)
class Run:
    """One run against an account; main thread."""

    settings: Settings
    asker: Asker
    file: ResultFile
    clock: Clock
    run_id: str
    regions: tuple[str, ...]
    """Those that answered, the primary's first if it did."""
    tell: Callable[[Answer], None]
    key_id: str = ""
    made: dict[str, list[str]] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)

    def ask_all(self) -> None:
        """Ask every question; teardown is the caller's, also when this does not return."""
        primary = self.settings.estate.primary_region
        others = [region for region in self.regions if region != primary]
        why = self._make_primary(primary)
        alias = f"{throwaway.ALIAS_PREFIX}{self.run_id}"
        if why:
            self._all(_ABOUT_KEYS, why)
        else:
            self._about_primary(primary, alias, others)
            self._about_replica(primary, others)
        self._about_rendered(self.key_id or rendered.ANY_KEY_ID)
        self._about_account(primary)
        if not why:
            self._about_deletion(primary, others)

    # -- keys -----------------------------------------------------------------------------------------------------

    def _make_primary(self, region: str) -> str:
        """Make the primary; return why there is none."""
        if region not in self.regions:
            return f"KMS in {region} does not answer"
        seen = throwaway.create(self.asker, region, self.run_id)
        if not seen.code:
            self.key_id = str(seen.answer["KeyMetadata"]["KeyId"])
            self.made.setdefault(region, []).append(self.key_id)
        self.file.changed(seen)  # after the key is known to the teardown: the disk may be full
        return f"no key was made: CreateKey: {seen.code}" if seen.code else ""

    def _about_primary(self, region: str, alias: str, others: Sequence[str]) -> None:
        asked = question(questions.REPLICATE_ELSEWHERE)
        if others:
            seen = self._replicate(others[0], others[0])
            self._answer(answers.refused(asked, seen, {answers.NOT_FOUND}))
        else:
            self._answer(unasked(asked, _ONE_REGION))
        named = self.asker.kms(
            region, "CreateAlias", lambda k: k.create_alias(AliasName=alias, TargetKeyId=self.key_id)
        )
        self.file.changed(named)
        unseen = self._alias_unseen(region, alias) if not named.code else f"no alias was made: {named.code}"
        for wanted, operation, call, member in _BY_ALIAS:
            asked = question(wanted)
            if unseen:
                self._answer(unasked(asked, unseen, named))
                continue
            seen = self.asker.kms(region, operation, lambda k, call=call: call(k, alias), member)  # type: ignore[misc]
            self._answer(answers.refused(asked, seen, {answers.NOT_FOUND, answers.INVALID_ARN, answers.VALIDATION}))

    def _alias_unseen(self, region: str, alias: str) -> str:
        """Wait until the alias leads to the key; return why it does not.

        Without that, an operation that takes aliases answers NotFoundException as one does that takes none.
        """
        seen = self._until(region, alias, lambda one: one.code != answers.NOT_FOUND)
        if seen.code:
            return f"the alias is not seen: DescribeKey: {seen.code}"
        found = seen.answer["KeyMetadata"]["KeyId"]
        return "" if found == self.key_id else f"the alias leads to another key: {found}"

    def _until(self, region: str, key: str, over: Callable[[Seen], bool]) -> Seen:
        """Describe a key until there is no more to wait for, or about a minute has gone; return the last answer."""
        seen = self._describe(region, key)
        for pause in _PAUSES:
            if over(seen):
                break
            self.asker.pause(pause)
            seen = self._describe(region, key)
        return seen

    def _describe(self, region: str, key: str) -> Seen:
        return self.asker.kms(region, "DescribeKey", lambda k: k.describe_key(KeyId=key), "KeyMetadata")

    def _about_replica(self, primary: str, others: Sequence[str]) -> None:
        why = self._make_replica(primary, others[0]) if others else _ONE_REGION
        if why:
            self._all(_ABOUT_REPLICAS, why)
            return
        replica, key_id = others[0], self.key_id
        asked = question(questions.REPLICATE_TWICE)
        self._answer(answers.refused(asked, self._replicate(primary, replica), {answers.EXISTS}))
        asked = question(questions.REPLICATE_REPLICA)
        if len(others) > 1:
            self._answer(answers.refused(asked, self._replicate(replica, others[1]), {answers.UNSUPPORTED}))
        else:
            self._answer(unasked(asked, "it takes three regions that answer"))
        asked = question(questions.ROTATION_ON_REPLICA)
        seen = self.asker.kms(replica, "EnableKeyRotation", lambda k: k.enable_key_rotation(KeyId=key_id))
        self._answer(answers.refused(asked, seen, {answers.UNSUPPORTED}))

    def _make_replica(self, primary: str, region: str) -> str:
        """Make the replica and wait until it is Enabled; return why there is none."""
        seen = self._replicate(primary, region)
        if seen.code:
            return f"no replica was made: ReplicateKey: {seen.code}"
        looked = self._until(region, self.key_id, lambda one: _state(one) == "Enabled")
        return "" if _state(looked) == "Enabled" else f"the replica in {region} is not Enabled: {_state(looked)}"

    def _replicate(self, asked_in: str, into: str) -> Seen:
        seen = throwaway.replicate(self.asker, asked_in, self.key_id, into, self.run_id)
        if not seen.code:
            self.made.setdefault(into, []).append(self.key_id)
        self.file.changed(seen)
        return seen

    def _about_deletion(self, primary: str, others: Sequence[str]) -> None:
        """Schedule the replica's deletion and use it, then the primary's; this is part of the teardown."""
        has_replica = bool(others) and others[0] in self.made
        for wanted, region in (
            (questions.PENDING_DELETION, others[0] if others else primary),
            (questions.PENDING_REPLICA_DELETION, primary),
        ):
            asked = question(wanted)
            if not has_replica:
                self._answer(unasked(asked, "there is no replica"))
                continue
            changes = throwaway.schedule_deletion(self.asker, region, self.key_id)
            for change in changes:
                self.file.changed(change)
            if changes[-1].code:
                why = f"its deletion is not scheduled: {changes[-1].code}"
                self._answer(unasked(asked, why, changes[-1]))
                continue
            looked = self._until(region, self.key_id, lambda one: bool(one.code) or _state(one) in throwaway.GONE)
            if _state(looked) not in throwaway.GONE:
                self._answer(unasked(asked, f"its deletion is scheduled and not seen: {_state(looked)}", looked))
                continue
            self._answer(answers.refused(asked, self._use(region), {answers.INVALID_STATE}))

    def _use(self, region: str) -> Seen:
        """Use the key; while that is answered, again: what refuses may not know yet what DescribeKey says."""
        for pause in (0.0, *_AGAIN):
            self.asker.pause(pause)
            seen = self.asker.kms(
                region,
                "GenerateDataKeyWithoutPlaintext",
                lambda k: k.generate_data_key_without_plaintext(KeyId=self.key_id, KeySpec="AES_256"),
                "CiphertextBlob",
            )
            if seen.code:
                break
        return seen

    # -- what is rendered, and the account ------------------------------------------------------------------------

    def _about_rendered(self, key_id: str) -> None:
        home = self.settings.home_region
        looks = [
            (
                one.name,
                self.asker.pages(
                    "accessanalyzer",
                    home,
                    "ValidatePolicy",
                    lambda a, page, one=one: a.validate_policy(**one.arguments, **page),  # type: ignore[misc]
                    "findings",
                    ("nextToken", "nextToken"),
                ),
            )
            for one in rendered.policies(self.settings, key_id)
        ]
        self._answer(answers.valid(question(questions.POLICIES_VALIDATE), looks))
        cases = rendered.cases(self.settings, key_id)
        looks = [
            (
                case.name,
                self.asker.ask(
                    "iam",
                    home,
                    "SimulateCustomPolicy",
                    lambda iam, case=case: iam.simulate_custom_policy(**case.arguments),  # type: ignore[misc]
                    "EvaluationResults",
                ),
            )
            for case in cases
        ]
        allowed = {case.name: case.allowed for case in cases}
        self._answer(answers.simulated(question(questions.POLICIES_SIMULATE), looks, allowed))
        looks = [(region, self._template(region, body)) for region, body in rendered.templates(self.settings).items()]
        self._answer(answers.accepted(question(questions.TEMPLATES_VALIDATE), looks))

    def _template(self, region: str, body: str) -> Seen:
        if len(body.encode()) > rendered.MAX_TEMPLATE_BYTES:
            return Seen(region=region, operation="ValidateTemplate", code="TooLongToBeSentWithoutABucket")
        return self.asker.ask(
            "cloudformation",
            region,
            "ValidateTemplate",
            lambda c: c.validate_template(TemplateBody=body),
            "Parameters",
        )

    def _about_account(self, primary: str) -> None:
        looks = [
            (
                region,
                self.asker.pages(
                    "service-quotas",
                    region,
                    "ListServiceQuotas",
                    lambda q, page: q.list_service_quotas(ServiceCode="kms", MaxResults=100, **page),
                    "Quotas",
                    ("NextToken", "NextToken"),
                ),
            )
            for region in self.settings.estate.regions
        ]
        self._answer(answers.enough(question(questions.KMS_QUOTAS), looks, _LEAST_QUOTAS))
        seen = self.asker.ask("cloudwatch", primary, "GetMetricData", self._fill, "MetricDataResults")
        self._answer(answers.filled(question(questions.FILL_WITHOUT_DATA), seen))

    def _fill(self, cloudwatch: Any) -> Any:
        end = self.clock.now_utc().replace(second=0, microsecond=0)
        metric = {"Namespace": "KmsWatchdog/Preflight", "MetricName": self.run_id}
        return cloudwatch.get_metric_data(
            MetricDataQueries=[
                {
                    "Id": "m1",
                    "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"},
                    "ReturnData": False,
                },
                {"Id": "filled", "Expression": "FILL(m1, 0)"},
            ],
            StartTime=end - timedelta(minutes=10),
            EndTime=end,
        )

    # -- answers --------------------------------------------------------------------------------------------------

    def _all(self, wanted: Sequence[str], why: str) -> None:
        for one in wanted:
            self._answer(unasked(question(one), why))

    def _answer(self, answer: Answer) -> None:
        self.file.answered(answer)
        self.answers.append(answer)
        self.tell(answer)


def _state(described: Seen) -> str:
    """Return the key's state, or the code with which it was not told."""
    return described.code or str(described.answer["KeyMetadata"]["KeyState"])


_ONE_REGION = "it takes two regions that answer"
_ABOUT_REPLICAS = (questions.REPLICATE_TWICE, questions.REPLICATE_REPLICA, questions.ROTATION_ON_REPLICA)
_ABOUT_KEYS = (
    questions.REPLICATE_ELSEWHERE,
    questions.ALIAS_ENABLE_ROTATION,
    questions.ALIAS_ROTATION_STATUS,
    questions.ALIAS_KEY_POLICY,
    *_ABOUT_REPLICAS,
    questions.PENDING_DELETION,
    questions.PENDING_REPLICA_DELETION,
)
_BY_ALIAS: Sequence[tuple[str, str, Callable[[Any, str], Any], str]] = (
    (
        questions.ALIAS_ENABLE_ROTATION,
        "EnableKeyRotation",
        lambda kms, alias: kms.enable_key_rotation(KeyId=alias),
        "",
    ),
    (
        questions.ALIAS_ROTATION_STATUS,
        "GetKeyRotationStatus",
        lambda kms, alias: kms.get_key_rotation_status(KeyId=alias),
        "KeyRotationEnabled",
    ),
    (
        questions.ALIAS_KEY_POLICY,
        "GetKeyPolicy",
        lambda kms, alias: kms.get_key_policy(KeyId=alias, PolicyName="default"),
        "Policy",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TornDown:
    """What a teardown did."""

    gone: tuple[Throwaway, ...]
    left: tuple[str, ...]
    """What is still there or cannot be told, and why."""


def tear_down(asker: Asker, swept: Swept, changed: Callable[[Throwaway, Seen], None]) -> TornDown:
    """Schedule the deletion of every key that was found, replicas first; what fails does not keep the others.

    Args:
        asker: makes the requests.
        swept: what was found by the tag, all of which goes but what is kept.
        changed: told of every change.
    """
    gone: list[Throwaway] = []
    left = [*map(str, swept.kept), *(f"{region}: cannot be told: {code}" for region, code in swept.blind.items())]
    for key in swept.live:
        changes = throwaway.schedule_deletion(asker, key.region, key.key_id)
        for change in changes:
            changed(key, change)
        bad = [f"{key}: {one.operation}: {one.code} {one.message}".strip() for one in changes if one.code]
        left += bad
        if not bad:
            gone.append(key)
    return TornDown(gone=tuple(gone), left=tuple(left))


def worst(results: Sequence[Answer]) -> Result:
    """Return what the run as a whole says: anything refuted counts first, then what could not be told."""
    found = {one.result for one in results}
    return next((one for one in (Result.REFUTED, Result.COULD_NOT_TELL) if one in found), Result.CONFIRMED)
