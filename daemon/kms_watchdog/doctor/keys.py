"""One region's view of one key: alias, state, policy, and whether it would work, without using it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kms_core.message import parse_header
from kms_watchdog.canaries.application_access import NORMAL_CONTEXT
from kms_watchdog.config import CANARY_CONTEXT
from kms_watchdog.doctor.questions import Questions, Read, Told
from kms_watchdog.doctor.refusal import refusal
from kms_watchdog.doctor.seen import MISSING, Fact, Subject
from kms_watchdog.doctor.subjects import Wanted
from kms_watchdog.estate.access import (
    ALIASES,
    KEY_TAGS,
    AccessFault,
    Caller,
    KeyAccess,
    Wrong,
    asks_for,
    judge,
)
from kms_watchdog.estate.kms_admin import KeyInRegion
from kms_watchdog.estate.observed import KeyReader, Target, alias_target_of, key_of
from kms_watchdog.estate.policy import Policy, PolicyError, parse_policy
from kms_watchdog.estate.roles import Roles


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedKey:
    """A data key that was wrapped long ago under the canary's context, to ask whether it would open."""

    key_id: str
    ciphertext: bytes = field(repr=False)
    context: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks, as far as STS told."""

    role: str = ""
    """Empty: no role, or not known."""
    known: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLook:
    """Looks at keys in one region."""

    questions: Questions
    reader: KeyReader
    kms: Any
    """A client of boto3's, for dry runs."""

    def alias(self, wanted: Wanted) -> Read[Target | None] | None:
        """Note where the key's alias leads in this region, and return it; None: nobody said.

        Raises:
            SilentError: there is no use in asking on.
        """
        if not wanted.alias:
            return None
        return self.questions.of(wanted.purpose).read(
            Subject.ALIAS,
            f"DescribeKey {wanted.alias}",
            lambda: alias_target_of(self.reader, self.questions.region, wanted.alias),
            partial(_told_of_alias, wanted.alias),
        )

    def key(self, wanted: Wanted, key_id: str, target: Target | None) -> KeyInRegion | None:
        """Note the state of the key with this id, and return it; None: it is not there, or nobody said.

        Raises:
            SilentError: there is no use in asking on.
        """
        read = self.questions.of(wanted.purpose).read(
            Subject.KEY,
            f"the state of {key_id} (DescribeKey)",
            lambda: key_of(self.reader, self.questions.region, key_id, target),
            partial(_told_of_key, key_id),
        )
        return read.value if read else None

    def would_work(
        self, wanted: Wanted, key: str, wrapped: WrappedKey | None, callers: tuple[Caller, ...], asker: Asker
    ) -> None:
        """Note whether the canary's two requests would work, by dry runs.

        Raises:
            SilentError: there is no use in asking on.
        """
        about = self.questions.of(wanted.purpose)
        facts: dict[str, Fact] = {"role": asker.role, "expected": is_expected(asker, callers)}
        context = {**CANARY_CONTEXT, "kind": "doctor"}
        about.dry_run(
            "GenerateDataKey",
            key,
            lambda: self.kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=context, DryRun=True),
            facts,
        )
        if wrapped is not None and wrapped.key_id == key:
            opens = {"CiphertextBlob": wrapped.ciphertext, "EncryptionContext": dict(wrapped.context)}
            about.dry_run("Decrypt", key, lambda: self.kms.decrypt(KeyId=key, DryRun=True, **opens), facts)

    def access(self, wanted: Wanted, key: KeyInRegion, of_roles: Sequence[Policy]) -> KeyAccess | None:
        """Note whether the key's policy and grants could be read, and return them.

        Aliases and tags are read only where the key's policy, or `of_roles`, asks for them.

        Raises:
            SilentError: there is no use in asking on.
        """
        about = self.questions.of(wanted.purpose)
        try:
            read = about.read(
                Subject.POLICY,
                f"GetKeyPolicy, ListGrants {key.key_id}",
                partial(self._access, key, of_roles),
                _told_of_access,
            )
        except PolicyError as e:
            about.note(Subject.POLICY, f"GetKeyPolicy {key.key_id}", f"cannot be judged: {e}", code="PolicyError")
            return None
        return read.value if read else None

    def _access(self, key: KeyInRegion, of_roles: Sequence[Policy]) -> KeyAccess:
        reader, region, key_id = self.reader, key.region, key.key_id
        policy = parse_policy(reader.policy(region, key_id), of_resource=True)
        asking = (*of_roles, policy)
        aliases = reader.aliases(region, key_id) if asks_for(ALIASES, asking) else ()
        tags = tuple(reader.tags(region, key_id).items()) if asks_for(KEY_TAGS, asking) else ()
        return KeyAccess(key=key, policy=policy, grants=reader.grants(region, key_id), aliases=aliases, tags=tags)

    def judged(self, wanted: Wanted, access: KeyAccess, callers: tuple[Caller, ...], roles: Roles) -> None:
        """Note what the policies of the key and of the roles say together."""
        about = self.questions.of(wanted.purpose)
        asked = f"the policies of {', '.join(caller.role for caller in callers)} with the key's"
        found = tuple((caller, roles.get(caller.role)) for caller in callers)
        faults = judge(access, found, normal=NORMAL_CONTEXT, canary=tuple(CANARY_CONTEXT.items()))
        if not faults:
            about.note(Subject.ACCESS, asked, "each may use it as it should, and no more")
        for fault in faults:
            about.note(Subject.ACCESS, asked, fault.text, code=_code(fault), facts=_facts(fault))


def is_expected(asker: Asker, callers: tuple[Caller, ...]) -> bool:
    """Say whether who asks should be able to do what a canary does; of who is not known nothing else is believed."""
    return not asker.known or any(caller.role == asker.role and (caller.uses or caller.watches) for caller in callers)


def wrapped_in(message: bytes, context: Mapping[str, str]) -> WrappedKey | None:
    """Return the data key that `message` holds, wrapped; None: it names no key of KMS.

    Raises:
        MessageError: it is no message.
    """
    first = parse_header(message).encrypted_data_keys[0]
    arn = first.provider_info.decode("ascii", "replace")
    key_id = arn.rpartition(":key/")[2]
    return WrappedKey(key_id=key_id, ciphertext=first.ciphertext, context=context) if ":key/" in arn else None


def _told_of_alias(alias: str, target: Target | None) -> Told:
    if target is None:
        return Told(f"{alias} does not exist", {"target": ""})
    account_id = target.key.arn.split(":")[4] if target.key else ""
    return Told(f"leads to {target.key_id}", {"target": target.key_id, "account_id": account_id})


def _told_of_key(key_id: str, key: KeyInRegion | None) -> Told:
    if key is None:
        return Told(f"{key_id} is not there", {"key_id": key_id, "state": MISSING})
    kind = key.multi_region_type or "a key of one region"
    until = f", deletion on {key.deletion_at_utc:%Y-%m-%d}" if key.deletion_at_utc else ""
    facts: dict[str, Fact] = {
        "key_id": key.key_id,
        "state": key.state,
        "account_id": key.arn.split(":")[4],
        "multi_region_type": key.multi_region_type,
        "primary_region": key.primary_region,
    }
    return Told(f"{key.key_id} is {key.state}{until} ({kind})", facts)


def _told_of_access(access: KeyAccess) -> Told:
    return Told(f"{len(access.policy.statements)} statements, {len(access.grants)} grants")


def _code(fault: AccessFault) -> str:
    return {Wrong.MISSING: "AccessMissing", Wrong.EXCESS: "AccessExcess", Wrong.UNREADABLE: "Unreadable"}[fault.wrong]


def _facts(fault: AccessFault) -> dict[str, Fact]:
    return {"wrong": str(fault.wrong), "refused_by": str(refusal(fault.text).kind or "")}
