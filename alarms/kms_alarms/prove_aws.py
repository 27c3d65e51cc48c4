"""One region's CloudWatch and SNS as a proof needs them: set an alarm off and back, and be told for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from kms_alarms import apply
from kms_alarms.apply import ApplyError, Owner
from kms_alarms.evaluate import AlarmState
from kms_alarms.receipts import Endpoint, is_ours
from kms_core.clock import Clock
from kms_watchdog import aws
from kms_watchdog.alarm_definitions import Parameters
from kms_watchdog.config import Settings

_NOT_FOUND = frozenset({"NotFound", "NotFoundException"})
_TRIES = 5
_PAUSE_SECONDS = 1.0
_LOOK_SECONDS = 0.1
_MOST_NAMES = 100
"""DescribeAlarms takes no more names."""

T = TypeVar("T")


class DoorError(RuntimeError):
    """AWS refused or did not answer; the message names the region, the call and AWS's own code.

    Args:
        message: for people.
        code: AWS's own, or the class name of a fault of the connection; empty: it is none of these.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """How an alarm stands."""

    state: AlarmState
    reason: str


class Door:
    """A region's door. Make it in the main thread. What is throttled or does not answer is asked again."""

    def __init__(self, settings: Settings, region: str, clock: Clock) -> None:
        self.region = region
        self._clock, self._never = clock, threading.Event()
        self._cloudwatch = aws.client(settings, "cloudwatch", region)
        self._sns = aws.client(settings, "sns", region)
        self.left: list[str] = []
        """Subscriptions of ours that SNS did not take away, with its reason: somebody has to."""

    def alarms(self) -> tuple[Parameters, ...]:
        """Return every alarm of the region, others' too, as CloudWatch describes them.

        Raises:
            DoorError: they cannot be read; of every method here.
        """
        return self._ask("DescribeAlarms", lambda: apply.present(self._cloudwatch, self.region))

    def owner(self, arn: str) -> Owner:
        """Return whose an alarm is."""
        return self._ask("ListTagsForResource", lambda: apply.owner_of(self._cloudwatch, self.region, arn))

    def states(self, names: Iterable[str]) -> dict[str, Now]:
        """Return how those of `names` stand that are there; at most 100."""
        asked = list(names)[:_MOST_NAMES]
        answer = self._ask(
            "DescribeAlarms",
            lambda: self._cloudwatch.describe_alarms(
                AlarmNames=asked, AlarmTypes=["MetricAlarm", "CompositeAlarm"], MaxRecords=_MOST_NAMES
            ),
        )
        found = (*answer.get("MetricAlarms", ()), *answer.get("CompositeAlarms", ()))
        return {
            one["AlarmName"]: Now(state=AlarmState(one["StateValue"]), reason=str(one.get("StateReason", "")))
            for one in found
        }

    def set_state(self, name: str, state: AlarmState, reason: str) -> None:
        """Give an alarm a state; its actions run."""
        self._ask(
            "SetAlarmState",
            lambda: self._cloudwatch.set_alarm_state(AlarmName=name, StateValue=str(state), StateReason=reason),
        )

    def listeners(self, topic: str) -> int | None:
        """Return how many confirmed subscribers a topic has, but for those of proofs; None: there is no such topic."""

        def pages() -> Iterator[Any]:
            yield from self._sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)

        try:
            found = self._ask("ListSubscriptionsByTopic", lambda: list(pages()))
        except DoorError as e:
            if e.code in _NOT_FOUND:
                return None
            raise
        listed = [one for page in found for one in page["Subscriptions"] if not is_ours(one)]
        return sum(str(one["SubscriptionArn"]).startswith("arn:") for one in listed)

    @contextmanager
    def subscribed(
        self, topics: Iterable[str], endpoint: Endpoint, stop: threading.Event, *, within_seconds: float
    ) -> Iterator[None]:
        """Have `topics` speak to `endpoint` too while the block runs.

        Raises:
            DoorError: SNS does not take the endpoint, or does not reach it within `within_seconds`.
        """
        made: dict[str, str] = {}
        confirmed = False
        try:
            for topic in topics:
                made[topic] = self._subscribe(topic, endpoint.url)
            self._confirm(made, endpoint, stop, within_seconds)
            confirmed = True
            yield
        finally:
            for arn in made.values():
                self._unsubscribe(arn, confirmed=confirmed)

    def _subscribe(self, topic: str, url: str) -> str:
        protocol = apply.protocol_of(url)
        answer = self._ask(
            "Subscribe",
            lambda: self._sns.subscribe(TopicArn=topic, Protocol=protocol, Endpoint=url, ReturnSubscriptionArn=True),
        )
        return str(answer["SubscriptionArn"])

    def _confirm(self, made: dict[str, str], endpoint: Endpoint, stop: threading.Event, within_seconds: float) -> None:
        waiting = {topic for topic, arn in made.items() if self._pending(arn)}
        until = self._clock.monotonic() + within_seconds
        while waiting:
            for asked in endpoint.inbox.confirmations():
                if asked.topic in waiting:
                    confirm = partial(self._sns.confirm_subscription, TopicArn=asked.topic, Token=asked.token)
                    self._ask("ConfirmSubscription", confirm)
                    waiting.discard(asked.topic)
            if waiting and (self._clock.wait(stop, _LOOK_SECONDS) or self._clock.monotonic() > until):
                raise DoorError(
                    f"{self.region}: SNS has not reached the endpoint of the proof within {within_seconds:g} s"
                )

    def _pending(self, subscription: str) -> bool:
        answer = self._ask(
            "GetSubscriptionAttributes",
            lambda: self._sns.get_subscription_attributes(SubscriptionArn=subscription),
        )
        return bool(answer["Attributes"].get("PendingConfirmation", "true") != "false")

    def _unsubscribe(self, subscription: str, *, confirmed: bool) -> None:
        try:
            self._ask("Unsubscribe", lambda: self._sns.unsubscribe(SubscriptionArn=subscription))
        except DoorError as e:
            if confirmed:  # else it cannot be taken away, and SNS forgets it by itself after two days
                self.left.append(f"{e}; the proof's subscription stays: {subscription}")

    def _ask(self, name: str, call: Callable[[], T]) -> T:
        for left in range(_TRIES - 1, -1, -1):
            try:
                return call()
            except (ApplyError, *aws.AwsError) as e:
                cause = e.__cause__ if isinstance(e, ApplyError) and isinstance(e.__cause__, Exception) else e
                if not left or aws.trouble(cause) not in {"throttled", "unreachable"}:
                    code = aws.error_code(cause)
                    raise DoorError(f"{self.region}: {name}: {code}", code) from e
            self._clock.wait(self._never, _PAUSE_SECONDS)
        raise AssertionError  # the loop returns or raises
