"""The journal's line format and its reader: append-only NDJSON, one hash chain, every line a `Record`.

A line is canonical JSON (sorted keys, no spaces, UTF-8) with at least `schema`, `seq`, `at_utc`, `t`, `event`, `prev`
and `hash`; `hash` is SHA-256 over the line's bytes without the member `hash`, and `prev` the hash of the line before
(64 zeros before the first), so an edit, a gap or a change of order shows (docs/evidence-format.md tells it to
strangers). `t` counts seconds since the run began on a monotonic clock; a healer, which is another process, continues
it from the wall clock.

Events, each with the fields that only it has (what follows Chaos Toolkit's events is named like them):

    run-started           run_id, drill, target, region, targets, regions, purposes, slot, cache_seconds,
                          training (true: drill is `training` and region empty, for a trainee may look; `drill_file`
                          and `targets` say what they are),
                          drill_file (the drill as it was read), config, config_fingerprint, versions,
                          revision (git's, or null), clock (source, kms_offset), verdict_schema, owner (pid, host),
                          previous (the drill before: run_id, head, state: closed | open | broken; null: none was
                          found), previous_sought_in, evidence (store, store_state, signing),
                          leave (started_by and approved_by, as STS tells it, reason, approval, until_utc),
                          lease (where, token)
    phase-started         phase: baseline | inject | hold | restore | recover | check
    undo-recorded         undo (the undo record; again whenever its deadline is moved)
    fault-injected        fault_id (unique in the run), fault (its kind), region, bite (what attempts show while it is
                          on); of a fault on a proxy also proxy, toxics, enabled (read back from the server); of one at
                          the clients' end also line (where they dial, what they are answered)
    fault-removed         fault_id, fault, region, by: drill | healer; of one on a proxy also proxy, toxics_left,
                          enabled (read back)
    restore-verified      proxies_left (names of ours still on the server; empty = gone), by, finding
    canary-result         result (`CanaryResult.to_json`)
    operation             op, lane: warm | cold, operation: encrypt | decrypt, purpose, ok, seconds (from when it was
                          due), region (whose KMS made or opened its data key, where known), asked (attempts),
                          cache_hit, error, message
    workload-ended        offered, operations (that ended), failed
    machine-stalled       seconds (by which a thread that only waits woke late: the drill's own machine stood still)
    attempt               region, operation, purpose, seconds, error_code, request_id, pinned, proxy
    service-attempt       service (beside KMS: cloudwatch, sts), region, seconds, error_code, proxy
    watchdog-started      pid (of a watchdog of the drill's own)
    watchdog-looked       pid, seconds (what the look took), answers, ready, health_code (HTTP's; 0: no answer), status,
                          regions (name → healthy), keys_usable, failover_up, history_since_utc, queued and accepted
                          (datums, by region), dropped, looked_up (connections opened on each of the drill's ways)
    watchdog-killed       pid, code (the process's exit code)
    watchdog-ended        pid, code
    cold-start            what: core, seconds, ok, error, within_seconds, purposes (those that it served)
    failed-over           from_region, to_region, operation, purpose
    breaker-moved         region, old, new, cause
    alarm-state           alarm, mode, region, state (CloudWatch's, or UNREADABLE), since_utc, reason, name, read_in
                          (region), last (whether it is the last reading)
    messages-checked      when: baseline | hold | check, region, sealed, opened, refused, wrong (ids not opened)
    context-refused       when, region, purpose, message, error_code (what KMS itself answered to a wrong context;
                          `accepted` when it did not refuse), request_id
    guard-checked         guard, held, detail; before the fault, and when one ends the drill
    lease-unsettled       error: what the drill lease could not be told at the end
    evidence-failing      what, error: what could not be stored; it stays on disk and is sent later
    evidence-recovered    what
    training-started      seed, among (the drills to choose from, where somebody named them)
    training-answered     question: region | fault, answer, right, seconds (since the fault began), answers (so far)
    training-ended        diagnosed, seconds (to the right diagnosis, or null), answers
    notify-failed         to (which receiver), phase: started | ended | aborted, error
    interrupted           reason
    verdict               verdict, claims
    healed                by: healer, reason: owner_dead | expired | asked, proxies, torn_line, finding
    closed                by: drill | healer, verdict (None when nobody judged)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kms_watchdog.json_text import read_json

SCHEMA = 1
GENESIS = "0" * 64
MAX_LINE_BYTES = 1 << 20
_OWN = frozenset({"schema", "seq", "at_utc", "t", "event", "prev", "hash"})


class JournalError(ValueError):
    """The journal is not whole: edited, out of order, of another schema, or torn where it must not be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line."""

    seq: int
    at_utc: datetime
    t: float
    event: str
    fields: Mapping[str, Any]
    prev: str
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """All whole lines, and what is left of a line whose writer died."""

    records: tuple[Record, ...]
    torn: bytes = b""

    @property
    def head(self) -> str:
        """The hash that the next line must name as `prev`."""
        return self.records[-1].hash if self.records else GENESIS

    @property
    def closed(self) -> bool:
        """Whether somebody has finished this journal."""
        return bool(self.records) and self.records[-1].event == "closed"


def canonical(values: Mapping[str, Any]) -> bytes:
    """Return `values` as canonical JSON: sorted keys, no spaces, UTF-8, no NaN."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def seal(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` with the `hash` that proves them."""
    return {**values, "hash": hashlib.sha256(canonical(values)).hexdigest()}


def content_hash(raw: bytes, proof: str) -> str:
    """Return the SHA-256 of a line's bytes without its member `hash`, whose value is `proof`.

    Bytes are hashed as they are, not as a parser would write them again: so a space more shows, and whoever verifies
    in another language need not write numbers as Python does.
    """
    return hashlib.sha256(raw.replace(b'"hash":"%s",' % proof.encode(), b"", 1)).hexdigest()


def line(
    *, seq: int, at_utc: datetime, t: float, event: str, fields: Mapping[str, Any], prev: str
) -> tuple[bytes, str]:
    """Return the line's bytes, newline included, and its hash.

    Raises:
        ValueError: `fields` names one of the line's own fields, or holds what JSON cannot.
    """
    if clash := _OWN & fields.keys():
        raise ValueError(f"a journal field may not be called {min(clash)}")
    head = {"schema": SCHEMA, "seq": seq, "at_utc": at_utc.isoformat(), "t": round(t, 6), "event": event, "prev": prev}
    sealed = seal({**fields, **head})
    return canonical(sealed) + b"\n", str(sealed["hash"])


def sequence_of(raw: bytes) -> int:
    """Return the `seq` of one line, whose hash is not looked at.

    Raises:
        JournalError: it has none.
    """
    found = _member(raw, "seq")
    if type(found) is not int:
        raise JournalError(f"not a journal record: {raw[:40]!r}")
    return found


def hash_of(raw: bytes) -> str:
    """Return the `hash` that one line states.

    Raises:
        JournalError: it states none.
    """
    return str(_member(raw, "hash"))


def _member(raw: bytes, name: str) -> Any:
    try:
        return read_json(raw)[name]
    except (KeyError, TypeError, ValueError) as e:
        raise JournalError(f"not a journal record: {raw[:40]!r}") from e


def parse(raw: bytes, *, prev: str, seq: int) -> Record:
    """Return the record in one line (without its newline), which must follow `prev` as number `seq`.

    Raises:
        JournalError: not a line of this chain.
    """
    try:
        values = read_json(raw)
        proof = values.pop("hash")
        body = {name: value for name, value in values.items() if name not in _OWN}
        record = Record(
            seq=values["seq"],
            at_utc=datetime.fromisoformat(values["at_utc"]),
            t=float(values["t"]),
            event=values["event"],
            fields=body,
            prev=values["prev"],
            hash=proof,
        )
        schema = values["schema"]
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise JournalError(f"line {seq}: not a journal record: {e}") from e
    if schema != SCHEMA:
        raise JournalError(f"line {seq}: schema {schema!r}, this version reads {SCHEMA}")
    if (record.seq, record.prev) != (seq, prev):
        said = f"number {record.seq!r} after {str(record.prev)[:12]!r}"
        raise JournalError(f"line {seq}: out of order: it says it is {said}")
    if content_hash(raw, str(proof)) != proof:
        raise JournalError(f"line {seq}: edited: its content does not match its hash")
    return record


def parse_all(raw: bytes) -> Journal:
    """Return the journal in `raw`; a last line without newline is kept apart as torn, never believed.

    Raises:
        JournalError: a whole line is not of this chain.
    """
    *whole, torn = raw.split(b"\n")
    return Journal(records=tuple(_chain(whole)), torn=torn)


def _chain(lines: Iterable[bytes]) -> Iterable[Record]:
    prev = GENESIS
    for seq, raw in enumerate(lines):
        record = parse(raw, prev=prev, seq=seq)
        prev = record.hash
        yield record


def read(path: Path) -> Journal:
    """Return the journal in `path`; one that is not there yet is empty.

    Raises:
        JournalError: it is not whole.
    """
    try:
        return parse_all(path.read_bytes())
    except FileNotFoundError:
        return Journal(records=())
