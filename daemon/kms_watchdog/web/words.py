"""What codes mean, for a person at three in the morning: a name and a meaning for each kind, reason and flaw.

`results.py` and `health.py` hold the closed lists; a test sees that no word is missing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kms_watchdog.results import Kind, Reason


@dataclass(frozen=True, slots=True)
class KindWords:
    """One kind of canary."""

    title: str
    question: str
    """What it asks, so that OK is the answer yes."""
    failing: str
    """What it means when the answer is no, and what it does not mean."""
    runbook: str = ""
    """File in `alarms/runbooks/`; empty for a kind that this version does not know."""


KINDS: Mapping[str, KindWords] = {
    Kind.ROUND_TRIP: KindWords(
        "Round trip",
        "Does what is sealed in a region open there?",
        "Encryption does not work there. The application goes on in the other regions.",
        "high-error-rate.md",
    ),
    Kind.CROSS_REGION: KindWords(
        "Cross-region",
        "Does what one region sealed open in another?",
        "A failover into that region would not open what is stored.",
        "cross-region-fails.md",
    ),
    Kind.FAILOVER_PATH: KindWords(
        "As the application does",
        "Does the way the application takes work, cache and failover included?",
        "The application itself is likely to fail.",
        "failover-path-fails.md",
    ),
    Kind.GOLDEN: KindWords(
        "Old messages",
        "Does what was sealed days and rotations ago still open?",
        "Stored data may not open in that region: look before anything else is changed.",
        "golden-fails.md",
    ),
    Kind.MUST_FAIL_CORE: KindWords(
        "The core refuses",
        "Does the crypto core refuse a wrong context, purpose or bit by itself?",
        "A check of the crypto core does not hold. Stop deployments and tell security.",
        "refusal-proves-nothing.md",
    ),
    Kind.MUST_FAIL_KMS: KindWords(
        "KMS refuses",
        "Does KMS itself refuse a wrong context, key or bit?",
        "What had to be refused was not, or not for the right reason. Tell security.",
        "refusal-proves-nothing.md",
    ),
    Kind.APPLICATION_ACCESS: KindWords(
        "Roles' access",
        "May each application role use its own keys, and no others?",
        "Policies in that region let a role do too little or too much, whatever round trips say.",
        "application-access.md",
    ),
    Kind.COLD_CONNECTION: KindWords(
        "New connection",
        "Do name, connection and TLS to KMS work from scratch?",
        "What is connected goes on; a new process may not get through.",
        "connection-fails.md",
    ),
    Kind.CLOCK_OFFSET: KindWords(
        "Clock",
        "Does this machine's clock agree with KMS's?",
        "Beyond five minutes AWS refuses every signature of this machine.",
        "clock-off.md",
    ),
    Kind.ALARM_PATH: KindWords(
        "Alarm path",
        "Would an alarm reach somebody?",
        "Nobody may be called: until it is mended, this page is the alarm.",
        "alarm-path-broken.md",
    ),
    Kind.KEY_STATE: KindWords(
        "Key state",
        "Is the key enabled, where its alias leads, and rotated?",
        "The key, its alias or its rotation there is not what encryption needs, now or soon.",
        "check-fails.md",
    ),
    Kind.REPLICA_DRIFT: KindWords(
        "As configured",
        "Is the key what the configuration says?",
        "Somebody changed the key or its policy by hand, or a change reached only some regions.",
        "replica-drift.md",
    ),
    Kind.HEADROOM: KindWords(
        "Headroom",
        "Is there room below KMS's quota?",
        "Requests are throttled, or soon will be, for every user of the account in that region.",
        "throttled.md",
    ),
}

REASONS: Mapping[str, str] = {
    Reason.ERROR: "an error",
    Reason.TIMEOUT: "no answer in time",
    Reason.THROTTLED: "throttled",
    Reason.DENIED: "access denied",
    Reason.MISMATCH: "what came back is not what was sealed",
    Reason.ACCEPTED_MUST_REFUSE: "accepted what must be refused",
    Reason.WRONG_REFUSAL: "refused, but for another reason than it must",
    Reason.ASKED_KMS: "left to KMS what the core must refuse",
    Reason.ACCESS_MISSING: "a role may not use its own key",
    Reason.ACCESS_EXCESS: "a role may use what is not its own",
    Reason.KEY_UNUSABLE: "the key is not enabled",
    Reason.PENDING_DELETION: "the key is about to be deleted",
    Reason.ALIAS_WRONG: "the alias is missing or leads elsewhere",
    Reason.ROTATION_OFF: "rotation is off",
    Reason.DRIFT: "not as configured",
    Reason.DNS: "the name does not resolve",
    Reason.CONNECT: "no connection",
    Reason.TLS: "TLS fails",
    Reason.CERTIFICATE_EXPIRES: "the certificate expires soon",
    Reason.CLOCK_OFF: "the clock is off",
    Reason.ALARM_MISSING: "an alarm is missing",
    Reason.ALARM_DIFFERS: "an alarm is not as rendered, or its actions are off",
    Reason.TOPIC_MISSING: "a topic is missing",
    Reason.TOPIC_REFUSES: "a topic does not let CloudWatch speak",
    Reason.NO_SUBSCRIBER: "nobody has confirmed a subscription",
    Reason.HEADROOM_LOW: "too close to the quota",
    Reason.NO_CREDENTIALS: "no valid credentials",
    Reason.OWN_DEADLINE: "its turn came too late",
    Reason.CRASHED: "the canary itself is broken",
    Reason.UNREADABLE: "what it judges could not be read",
}

FLAWS: Mapping[str, str] = {
    "key_usable_nowhere": "usable in no region",
    "no_fresh_result": "No round trip and no other canary has given a fresh answer: nobody knows how things stand",
    "down": "failing",
    "stale": "no answer for too long",
    "blind": "could not be asked",
    "never_probed": "not looked at yet",
    "never_ok": "never OK since the watchdog started",
    "with_region": "fail, or see nothing, with it",
    "breaker_open": "circuit breaker open: the application is not sent there",
}


def kind_words(kind: str) -> KindWords:
    """Return the words for `kind`; a result of another version may name one that is not known here."""
    return KINDS.get(kind) or KindWords(kind.replace("_", " "), "", "")


def reason_words(reason: str | None) -> str:
    """Return the words for a reason's code; empty for none."""
    return "" if reason is None else REASONS.get(reason) or reason.replace("_", " ")
