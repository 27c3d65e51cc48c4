"""The causes that the doctor knows: one table, the nearest to the root first. Pure.

Ids are stable: scripts and tickets name them. Each cause says what it means, what to do first, and which runbook goes
on from there; a test sees that every runbook exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

RUNBOOKS = "alarms/runbooks"
"""Where the pages are, in this repository and under `[http] runbooks_url`."""


class CauseId(StrEnum):
    """The closed list, in the order in which causes explain each other: what stands above may be why the rest is."""

    CLOCK_OFF = "clock-off"
    NO_CREDENTIALS = "no-credentials"
    CREDENTIALS_EXPIRED = "credentials-expired"
    CREDENTIALS_REFUSED = "credentials-refused"
    CREDENTIALS_NOT_GIVEN = "credentials-not-given"
    WRONG_ACCOUNT = "wrong-account"
    CA_BUNDLE = "ca-bundle"
    CERTIFICATE_NAME = "certificate-name"
    CERTIFICATE_EXPIRED = "certificate-expired"
    TLS_FAILS = "tls-fails"
    ENDPOINT_OF_ANOTHER_REGION = "endpoint-of-another-region"
    FAILOVER_PATH_CLOSED = "failover-path-closed"
    NAME_UNKNOWN = "name-unknown"
    PROXY_REFUSES = "proxy-refuses"
    CONNECTION_REFUSED = "connection-refused"
    CONNECTION_TIMES_OUT = "connection-times-out"
    CONNECTION_BREAKS = "connection-breaks"
    ENDPOINT_POLICY_REFUSES = "endpoint-policy-refuses"
    NO_ANSWER_IN_TIME = "no-answer-in-time"
    KMS_FAILS = "kms-fails"
    THROTTLED = "throttled"
    ANSWER_TRUNCATED = "answer-truncated"
    KEY_PENDING_DELETION = "key-pending-deletion"
    KEY_DISABLED = "key-disabled"
    REPLICA_CREATING = "replica-creating"
    KEY_STATE = "key-state"
    KEY_MISSING = "key-missing"
    REPLICA_MISSING = "replica-missing"
    KEY_OF_ANOTHER_ACCOUNT = "key-of-another-account"
    KEY_NOT_MULTI_REGION = "key-not-multi-region"
    ALIAS_MISSING = "alias-missing"
    ALIAS_ELSEWHERE = "alias-elsewhere"
    KEY_POLICY_REFUSES = "key-policy-refuses"
    IDENTITY_POLICY_REFUSES = "identity-policy-refuses"
    BOUNDARY_REFUSES = "boundary-refuses"
    ORGANIZATION_REFUSES = "organization-refuses"
    SESSION_POLICY_REFUSES = "session-policy-refuses"
    ACCESS_REFUSED = "access-refused"
    ROLE_MISSING = "role-missing"
    ACCESS_EXCESS = "access-excess"
    CERTIFICATE_ENDS = "certificate-ends"
    SLOW = "slow"
    KEY_NOT_CONFIGURED = "key-not-configured"
    NOT_A_USER_OF_THE_KEY = "not-a-user-of-the-key"
    # what no look from outside can find: a code alone tells of it
    CONTEXT_OR_BYTES = "context-or-bytes"
    CONTEXT_UNUSABLE = "context-unusable"
    MESSAGE_DAMAGED = "message-damaged"
    MESSAGE_OF_ANOTHER_PURPOSE = "message-of-another-purpose"
    MESSAGE_LEGACY = "message-legacy"
    MESSAGE_NOT_A_MESSAGE = "message-not-a-message"
    MESSAGE_NOT_STREAMABLE = "message-not-streamable"
    REQUEST_WRONG = "request-wrong"
    GRANT_TOKEN = "grant-token"  # noqa: S105 - the name of a cause
    OWN_LIMIT = "own-limit"
    CORE_NOT_USABLE = "core-not-usable"
    CONFIGURATION_WRONG = "configuration-wrong"
    NOTHING_WRONG = "nothing-wrong"
    OTHER_ALARM = "other-alarm"
    NOT_IN_THE_TABLE = "not-in-the-table"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One row."""

    meaning: str
    first: str
    """What to do first; how to go on is in the runbook."""
    page: str
    """The runbook's file, without its folder."""
    seen: bool = True
    """Whether looking can find it; otherwise a code alone tells of it."""
    harmless: bool = False
    """Whether it is as it should be, and worth a line only where somebody wonders."""
    undecided: bool = False
    """Whether it says where to ask, and not what is wrong."""

    @property
    def runbook(self) -> str:
        """The runbook's path in this repository."""
        return f"{RUNBOOKS}/{self.page}"


_CONNECTION, _ACCESS, _UNUSABLE, _BLIND = (
    "connection-fails.md",
    "application-access.md",
    "key-unusable.md",
    "canary-blind.md",
)
_REFUSALS = "refusal-proves-nothing.md"

CAUSES: Mapping[CauseId, Cause] = {
    CauseId.CLOCK_OFF: Cause(
        meaning="This machine's clock is wrong: AWS refuses signatures that are five minutes off, and certificates"
        " seem expired or not yet valid.",
        first="Mend the time service here (chrony, systemd-timesyncd), not the credentials.",
        page="clock-off.md",
    ),
    CauseId.NO_CREDENTIALS: Cause(
        meaning="boto3 finds no credentials in this process's environment: nothing can be asked.",
        first="Give the task its role, or name a profile. AWS_ROLE_ARN alone gives nothing: it is read only together"
        " with AWS_WEB_IDENTITY_TOKEN_FILE.",
        page=_BLIND,
    ),
    CauseId.CREDENTIALS_EXPIRED: Cause(
        meaning="The credentials were good once: their session is over.",
        first="Log in again, or find out why the role's credentials were not renewed.",
        page=_BLIND,
    ),
    CauseId.CREDENTIALS_REFUSED: Cause(
        meaning="AWS does not know these credentials, or the signature made with them: deleted, of another partition,"
        " a secret that does not fit, a session token left out.",
        first="See which credentials are found first (`doctor --prerequisites`); a right key with a wrong clock looks"
        " like this too.",
        page=_BLIND,
    ),
    CauseId.CREDENTIALS_NOT_GIVEN: Cause(
        meaning="Whoever gives this process its credentials (STS, SSO, the container's or instance's metadata) does"
        " not, or not in time: KMS was never asked.",
        first="Ask STS of another region; the global STS endpoint lives in us-east-1 alone.",
        page=_BLIND,
    ),
    CauseId.WRONG_ACCOUNT: Cause(
        meaning="The credentials are of another account than `[estate] account_id`: keys of the same aliases there are"
        " other keys.",
        first="Take the right profile or role. Do not change account_id to make the message go away.",
        page=_BLIND,
    ),
    CauseId.CA_BUNDLE: Cause(
        meaning="The certificate that answers is signed by nobody whom this process trusts: a wrong or missing CA"
        " bundle, or a proxy that opens TLS.",
        first="See who signed it (the evidence names ours), then `[estate] ca_bundle` and AWS_CA_BUNDLE. Never switch"
        " verification off.",
        page=_CONNECTION,
    ),
    CauseId.CERTIFICATE_NAME: Cause(
        meaning="The certificate that answers is for another name: another server, or an endpoint's name that is not"
        " in its certificate.",
        first="Compare the configured endpoint with the names in the certificate.",
        page=_CONNECTION,
    ),
    CauseId.CERTIFICATE_EXPIRED: Cause(
        meaning="The certificate has expired, or is not yet valid, and the clock is not why.",
        first="Find out whose certificate it is: AWS renews its own in time.",
        page="certificate-expiry.md",
    ),
    CauseId.TLS_FAILS: Cause(
        meaning="The TLS handshake fails: a proxy, a firewall, or a server that is none.",
        first="See what answers at that address.",
        page=_CONNECTION,
    ),
    CauseId.ENDPOINT_OF_ANOTHER_REGION: Cause(
        meaning="The endpoint in use for this region is another region's: signatures are for the wrong region, and the"
        " ARNs of one are not found in the other.",
        first="Correct `[endpoints]`, or take AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_KMS away: they are one address for"
        " all regions.",
        page=_CONNECTION,
    ),
    CauseId.FAILOVER_PATH_CLOSED: Cause(
        meaning="The region at home is reached and no other one is: failover has nowhere to go. A VPC endpoint serves"
        " its own region's name alone.",
        first="Give the subnets NAT, or an interface endpoint for KMS of each other region (cross-Region PrivateLink).",
        page=_CONNECTION,
    ),
    CauseId.NAME_UNKNOWN: Cause(
        meaning="The endpoint's name does not resolve here.",
        first="Ask the resolver by hand: `getent hosts NAME`. One region alone: its DNS, as in October 2025.",
        page=_CONNECTION,
    ),
    CauseId.PROXY_REFUSES: Cause(
        meaning="The HTTP proxy in between does not let us through.",
        first="HTTPS_PROXY and NO_PROXY: is KMS meant to go that way?",
        page=_CONNECTION,
    ),
    CauseId.CONNECTION_REFUSED: Cause(
        meaning="Nobody listens at that address, or a firewall says no.",
        first="Undo the last change of endpoints, security groups or ports.",
        page=_CONNECTION,
    ),
    CauseId.CONNECTION_TIMES_OUT: Cause(
        meaning="Packets vanish on the way, or have none: no connection and no handshake in time.",
        first="Routes, NAT, security groups, network ACLs; then whether the region itself is out.",
        page=_CONNECTION,
    ),
    CauseId.CONNECTION_BREAKS: Cause(
        meaning="The connection comes about, and breaks.",
        first="Look at what stands in between: proxy, load balancer, firewall with short limits.",
        page=_CONNECTION,
    ),
    CauseId.ENDPOINT_POLICY_REFUSES: Cause(
        meaning="The policy of the VPC endpoint on the way refuses, whatever key and role may.",
        first="Read the endpoint's policy: it must allow the actions, keys and principals of this estate.",
        page=_CONNECTION,
    ),
    CauseId.NO_ANSWER_IN_TIME: Cause(
        meaning="The region takes the connection and does not answer in time.",
        first="Leave it to the failover; `kms-watchdog evacuate REGION` keeps calls away until it is well.",
        page="region-unhealthy.md",
    ),
    CauseId.KMS_FAILS: Cause(
        meaning="KMS there answers with faults of its own (5xx).",
        first="Nothing is wrong with the key. Calls go to the other regions; look at AWS's health page.",
        page="high-error-rate.md",
    ),
    CauseId.THROTTLED: Cause(
        meaning="The account is over its request quota in that region, which all who use KMS there share.",
        first="Wait and cache: the data-key cache is the only saving, KMS has no batch call. Do not send the load to"
        " the next region: it has a quota, too.",
        page="throttled.md",
    ),
    CauseId.ANSWER_TRUNCATED: Cause(
        meaning="Answers are cut off; botocore reports such a one as a success without members.",
        first="Look at what stands in between; the core believes none of them.",
        page="high-error-rate.md",
    ),
    CauseId.KEY_PENDING_DELETION: Cause(
        meaning="The key is scheduled for deletion, and cannot be used from that moment on.",
        first="At once: CancelKeyDeletion, then EnableKey, by KmsBreakGlassRole. When the window ends, all that was"
        " sealed is lost.",
        page="key-pending-deletion.md",
    ),
    CauseId.KEY_DISABLED: Cause(
        meaning="The key is disabled in that region; its relatives elsewhere are not.",
        first="Find out who disabled it and why (CloudTrail, DisableKey). Was it meant to revoke? Then it must be"
        " disabled in all regions; if not, EnableKey.",
        page=_UNUSABLE,
    ),
    CauseId.REPLICA_CREATING: Cause(
        meaning="The replica is still being made; that takes seconds, rarely minutes.",
        first="Wait. `kms-watchdog provision apply` waits for it.",
        page=_UNUSABLE,
    ),
    CauseId.KEY_STATE: Cause(
        meaning="The key is in a state in which it cannot be used.",
        first="Read the state in the evidence; who changed it is in CloudTrail.",
        page=_UNUSABLE,
    ),
    CauseId.REPLICA_MISSING: Cause(
        meaning="The key was never replicated to that region, or its replica was deleted.",
        first="`kms-watchdog provision plan` shows it, `provision apply` replicates it. Never make a new key: old data"
        " would not open under it.",
        page=_UNUSABLE,
    ),
    CauseId.KEY_MISSING: Cause(
        meaning="No region has such a key.",
        first="Is it the right id, alias or account? A key's ARN holds good in its own region alone.",
        page="key-usable-nowhere.md",
    ),
    CauseId.KEY_OF_ANOTHER_ACCOUNT: Cause(
        meaning="The name leads to a key of another account.",
        first="Stop sealing under it until it is understood.",
        page="alias-wrong.md",
    ),
    CauseId.KEY_NOT_MULTI_REGION: Cause(
        meaning="The key is one of a single region, which cannot be changed: nothing it sealed opens elsewhere.",
        first="Make a multi-Region key beside it and seal anew; keep the old one to open what is stored.",
        page="replica-drift.md",
    ),
    CauseId.ALIAS_MISSING: Cause(
        meaning="The alias does not exist in that region. Aliases are per region; replication copies none.",
        first="`kms-watchdog provision apply --steps aliases` makes it.",
        page="alias-wrong.md",
    ),
    CauseId.ALIAS_ELSEWHERE: Cause(
        meaning="The alias leads to another key in that region than in the others: what is sealed there does not open"
        " elsewhere.",
        first="Find out which is right before anything is changed (CloudTrail, UpdateAlias).",
        page="alias-wrong.md",
    ),
    CauseId.KEY_POLICY_REFUSES: Cause(
        meaning="The key's own policy in that region refuses. Key policies are per region and never copied.",
        first="Compare it with the other regions': `kms-watchdog provision plan` names the difference.",
        page=_ACCESS,
    ),
    CauseId.IDENTITY_POLICY_REFUSES: Cause(
        meaning="The role's own policy refuses, or does not allow it. IAM is global: it is so in every region named.",
        first="Compare with `kms-watchdog provision policies`. An alias ARN as Resource allows nothing on a key;"
        " kms:ViaService never matches a direct call.",
        page=_ACCESS,
    ),
    CauseId.BOUNDARY_REFUSES: Cause(
        meaning="The role's permissions boundary does not allow it.",
        first="Read the boundary: it must allow what the role's policy allows.",
        page=_ACCESS,
    ),
    CauseId.ORGANIZATION_REFUSES: Cause(
        meaning="A policy of the organization (service or resource control policy) refuses.",
        first="It is not seen from this account: ask whoever keeps the organization.",
        page=_ACCESS,
    ),
    CauseId.SESSION_POLICY_REFUSES: Cause(
        meaning="The policy given when the session was opened refuses.",
        first="Look at who calls AssumeRole, and with which Policy.",
        page=_ACCESS,
    ),
    CauseId.ACCESS_REFUSED: Cause(
        meaning="Access is refused, and the answer does not say by which policy.",
        first="Run `doctor` as the role in question; the key policies and role policies it can read are in the"
        " evidence.",
        page=_ACCESS,
    ),
    CauseId.ROLE_MISSING: Cause(
        meaning="A role that the configuration names does not exist.",
        first="`kms-watchdog provision policies --into FOLDER` writes its policies.",
        page=_ACCESS,
    ),
    CauseId.ACCESS_EXCESS: Cause(
        meaning="Somebody may use a key who should not. It breaks nothing, and is a hole.",
        first="Tell security; then take it away where the evidence says.",
        page=_ACCESS,
    ),
    CauseId.CERTIFICATE_ENDS: Cause(
        meaning="The server's certificate ends soon, and its renewal is overdue.",
        first="Whose certificate is it? AWS renews its own weeks before.",
        page="certificate-expiry.md",
    ),
    CauseId.SLOW: Cause(
        meaning="Answers come, and take longer than the core calls slow.",
        first="The core counts slow answers as failures of the region, and turns to another.",
        page="high-latency.md",
    ),
    CauseId.KEY_NOT_CONFIGURED: Cause(
        meaning="The configuration does not know this key: nothing watches it, and no purpose uses it.",
        first="Compare with `[keys]`; its state is in the evidence all the same.",
        page="replica-drift.md",
        harmless=True,
    ),
    CauseId.NOT_A_USER_OF_THE_KEY: Cause(
        meaning="The credentials in use here are of nobody who is to use the key: its policy keeps them out, and"
        " should.",
        first="Run this, or the application, as the role that uses the key; do not widen the policy.",
        page=_ACCESS,
        harmless=True,
    ),
    CauseId.CONTEXT_OR_BYTES: Cause(
        meaning="The encryption context is not, to the letter, the one it was sealed with, or the bytes were changed."
        " KMS says no more, and it is so in every region.",
        first="`kms-watchdog doctor --message FILE` shows which context keys the message has; compare them with the"
        " caller's.",
        page="golden-fails.md",
        seen=False,
    ),
    CauseId.CONTEXT_UNUSABLE: Cause(
        meaning="The context that the caller gave cannot be used: empty, no strings, or keys that begin with"
        " aws-crypto-.",
        first="The error's text says which; it is the caller's to mend.",
        page=_REFUSALS,
        seen=False,
    ),
    CauseId.MESSAGE_DAMAGED: Cause(
        meaning="The message was cut off or changed after it was sealed.",
        first="`kms-watchdog doctor --message FILE`; then see whether storage has an older version.",
        page="golden-fails.md",
        seen=False,
    ),
    CauseId.MESSAGE_OF_ANOTHER_PURPOSE: Cause(
        meaning="None of the message's wrapped keys is the key of the purpose that it was to be opened for.",
        first="`kms-watchdog doctor --message FILE --key PURPOSE` says whose it is.",
        page="golden-fails.md",
        seen=False,
    ),
    CauseId.MESSAGE_LEGACY: Cause(
        meaning="The message is of a suite that is not opened here: version 1, which does not commit to its key, or an"
        " unknown one.",
        first="Version 1 only with `[core] accept_legacy_suites`; better: open and seal it anew.",
        page="golden-fails.md",
        seen=False,
    ),
    CauseId.MESSAGE_NOT_A_MESSAGE: Cause(
        meaning="These bytes are no message of this format; base64 must be decoded first.",
        first="`kms-watchdog doctor --message FILE` says what they begin with.",
        page="golden-fails.md",
        seen=False,
    ),
    CauseId.MESSAGE_NOT_STREAMABLE: Cause(
        meaning="A message of this kind may not be released piece by piece.",
        first="Open it whole: `Core.decrypt`.",
        page="golden-fails.md",
        seen=False,
    ),
    CauseId.REQUEST_WRONG: Cause(
        meaning="The request itself is wrong: a bug, or a key of another usage.",
        first="It fails alike in every region: look at the caller's last change.",
        page="unclassified-errors.md",
        seen=False,
    ),
    CauseId.GRANT_TOKEN: Cause(
        meaning="The grant token does not hold, or not yet: grants take up to five minutes. Nothing here uses grants.",
        first="Find out who calls with one.",
        page=_ACCESS,
        seen=False,
    ),
    CauseId.OWN_LIMIT: Cause(
        meaning="A limit of our own: every worker of the region was busy, or another region was faster. It says nothing"
        " of KMS.",
        first="Look at latency and load of the process that said it.",
        page="high-latency.md",
        seen=False,
    ),
    CauseId.CORE_NOT_USABLE: Cause(
        meaning="The core was closed before the call, or the process forked after the core was made.",
        first="Make the core in the process that uses it, after the fork; close it last.",
        page="unclassified-errors.md",
        seen=False,
    ),
    CauseId.CONFIGURATION_WRONG: Cause(
        meaning="The configuration cannot be right, whatever happens later.",
        first="`kms-watchdog check-config` names file, key and what is expected.",
        page="reload-failed.md",
        seen=False,
    ),
    CauseId.NOTHING_WRONG: Cause(
        meaning="No failure: it would have worked.",
        first="A dry run ends so by design, and is billed and counted like any request.",
        page=_REFUSALS,
        seen=False,
        harmless=True,
    ),
    CauseId.OTHER_ALARM: Cause(
        meaning="A canary's own word for something that the doctor does not look at.",
        first="`kms-watchdog status` and `kms-watchdog once` show it in detail.",
        page="check-fails.md",
        seen=False,
        undecided=True,
    ),
    CauseId.NOT_IN_THE_TABLE: Cause(
        meaning="The code is in no table here, so the core counts it as unclassified.",
        first="Look it up in the API reference of the service that gave it, and file it.",
        page="unclassified-errors.md",
        seen=False,
        undecided=True,
    ),
}

RANK: Mapping[CauseId, int] = {cause: i for i, cause in enumerate(CauseId)}
"""How near to the root: the lower the nearer."""
