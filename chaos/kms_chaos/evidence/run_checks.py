"""Check one run's files against each other: its journal, verdict, segments, manifest and signature. Pure.

The steps are those of docs/evidence-format.md, section 8, under the same numbers.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kms_chaos.evidence import checking
from kms_chaos.evidence.finding import Finding, Result
from kms_chaos.evidence.lines import flaws
from kms_chaos.evidence.sealing import LOCAL_ONLY, PURPOSE
from kms_chaos.evidence.segments import segment_name
from kms_watchdog.drills import journal
from kms_watchdog.drills.journal import Record
from kms_watchdog.json_text import read_json

_Found = Iterator[tuple[str, Result, str]]
GOOD, BAD, UNCLEAR = Result.GOOD, Result.BAD, Result.UNCLEAR


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What the reader trusts, and what he is content with."""

    public_key: Any = None
    """As `checking.load` returns it; None: nobody said whose signature is right."""
    ask: Callable[[str, str, bytes, bytes], bool] | None = None
    """Asks KMS whether key (ARN), algorithm, signature, message belong together; None: offline."""
    unsigned_will_do: bool = False


@dataclass(frozen=True, kw_only=True)  # no slots: what is derived is kept
class RunFiles:
    """One run's files by their names within its folder, such as `segments/…`, and where the folder is."""

    folder: str
    files: Mapping[str, bytes]

    @cached_property
    def segments(self) -> tuple[tuple[str, bytes], ...]:
        """The segments, in order of their numbers."""
        return tuple((n.partition("/")[2], self.files[n]) for n in sorted(self.files) if n.startswith("segments/"))

    @cached_property
    def lines(self) -> bytes:
        """The journal, or what the segments hold of it."""
        return self.files.get("journal.ndjson", b"".join(content for _, content in self.segments))

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """The lines that the chain holds for: all, or those before the first flaw."""
        found, prev = [], journal.GENESIS
        for seq, raw in enumerate(self.lines.split(b"\n")[:-1]):
            try:
                found.append(journal.parse(raw, prev=prev, seq=seq))
            except journal.JournalError:
                break
            prev = found[-1].hash
        return tuple(found)

    @property
    def started_at_utc(self) -> str:
        """When its first line was written; empty when there is none."""
        return self.records[0].at_utc.isoformat() if self.records else ""

    @property
    def run_id(self) -> str:
        """The run's name: what its first record says, else its folder's."""
        said = self.records[0].fields.get("run_id") if self.records else None
        return str(said or self.folder.rpartition("/")[2] or self.folder)


def check(run: RunFiles, trust: Trust) -> tuple[Finding, ...]:
    """Return what is found of one run."""
    steps = (_journal, _identity, _verdict, _segments, _manifest)
    found = [each for step in steps for each in step(run)]
    found += _signature(run, trust)
    return tuple(Finding(run=run.run_id, check=name, result=result, detail=detail) for name, result, detail in found)


def _journal(run: RunFiles) -> _Found:
    """Step 1: every line's hash, number and predecessor; and somebody has closed it."""
    wrong = flaws(run.lines)
    for flaw in wrong:
        yield "journal", BAD, flaw
    torn = run.lines.rpartition(b"\n")[2]
    if not run.records and not wrong:
        yield "journal", UNCLEAR, "there is none"
    elif not wrong and (torn or run.records[-1].event != "closed"):
        yield "journal", UNCLEAR, f"open: its last line is seq {run.records[-1].seq}, {run.records[-1].event}"
    elif not wrong:
        yield "journal", GOOD, f"{len(run.records)} lines, closed by the {run.records[-1].fields.get('by')}"


def _identity(run: RunFiles) -> _Found:
    """Step 2: it is a drill's journal, and lies under its own name."""
    if not run.records:
        return
    first, name = run.records[0], run.folder.rpartition("/")[2]
    if first.event != "run-started":
        yield "identity", BAD, f"begins with {first.event}, not with run-started"
    elif name and name != first.fields.get("run_id"):
        yield "identity", BAD, f"lies in the folder {name}, but is of {first.fields.get('run_id')}"


def _verdict(run: RunFiles) -> _Found:
    """Step 3: verdict.json says what the journal's own verdict says, and was reached from the line before it."""
    said = next((record for record in run.records if record.event == "verdict"), None)
    if "verdict.json" not in run.files:
        return
    try:
        given = read_json(run.files["verdict.json"])
        claims = {claim["name"]: claim["verdict"] for claim in given["claims"]}
        content = (given["verdict"], claims, given["figures"], given["journal_head"])
    except (ValueError, KeyError, TypeError):
        yield "verdict", BAD, "verdict.json cannot be read"
        return
    if said is None:
        yield "verdict", UNCLEAR, "verdict.json is there, but the journal holds no verdict"
    elif content != (said.fields.get("verdict"), said.fields.get("claims"), said.fields.get("figures"), said.prev):
        yield "verdict", BAD, f"verdict.json is not what the journal says in seq {said.seq}"
    else:
        yield "verdict", GOOD, str(given["verdict"])


def _segments(run: RunFiles) -> _Found:
    """Step 4: numbered from 0 without a gap, each what its name says, and together the beginning of the journal."""
    if not run.segments:
        return
    wrong = [
        f"segment {name} is missing or was edited: {segment_name(number, content)} was expected"
        for number, (name, content) in enumerate(run.segments)
        if not _is_named(name, number, content)
    ]
    for each in wrong:
        yield "segments", BAD, each
    if not wrong and not run.lines.startswith(b"".join(content for _, content in run.segments)):
        yield "segments", BAD, "the journal is not what was streamed while the drill ran"
    elif not wrong:
        yield "segments", GOOD, f"{len(run.segments)} streamed"


def _is_named(name: str, number: int, content: bytes) -> bool:
    try:
        return segment_name(number, content) == name
    except journal.JournalError:
        return False


def _manifest(run: RunFiles) -> _Found:
    """Step 5: every file that it lists is there and unchanged, and no other."""
    if "manifest.json" not in run.files:
        if run.records and run.records[-1].event == "closed":
            yield "manifest", UNCLEAR, "there is none: the run was never sealed"
        return
    try:
        given = read_json(run.files["manifest.json"])
        listed = {str(name): (each["bytes"], each["sha256"]) for name, each in given["files"].items()}
        about = (given["run_id"], given["started_at_utc"], given["journal_head"], given["records"])
    except (ValueError, KeyError, TypeError, AttributeError):
        yield "manifest", BAD, "manifest.json cannot be read"
        return
    wrong = list(_unlike(run, listed))
    if about != (run.run_id, run.started_at_utc, run.records[-1].hash if run.records else "", len(run.records)):
        wrong.append("manifest.json is of another journal")
    yield from (("manifest", BAD, each) for each in wrong)
    if not wrong:
        yield "manifest", GOOD, f"{len(listed)} files"


def _unlike(run: RunFiles, listed: Mapping[str, tuple[int, str]]) -> Iterator[str]:
    there = {name for name in run.files if "/" not in name} - {"manifest.json"} - LOCAL_ONLY
    for name in sorted(listed.keys() | there):
        content = run.files.get(name)
        if content is None:
            yield f"{name} is missing"
        elif name not in listed:
            yield f"{name} is not in the manifest"
        elif (len(content), hashlib.sha256(content).hexdigest()) != listed[name]:
            yield f"{name} is not what the manifest says"


def _signature(run: RunFiles, trust: Trust) -> _Found:
    """Step 6: somebody whom the reader trusts vouches for this journal and the files beside it."""
    if "signature.json" not in run.files:
        yield _unsigned(run, trust)
        return
    try:
        given = read_json(run.files["signature.json"])
        message = str(given["statement"]).encode()
        algorithm, key = str(given["algorithm"]), str(given["key"])
        signature, stated = base64.b64decode(given["signature"], validate=True), read_json(message)
        wrong = list(_misstated(run, stated))
    except (ValueError, KeyError, TypeError, AttributeError):
        yield "signature", BAD, "signature.json cannot be read"
        return
    yield from (("signature", BAD, each) for each in wrong)
    if not wrong:
        yield _vouched(trust, algorithm, key, signature, message, signed_at=str(stated.get("signed_at_utc")))


def _misstated(run: RunFiles, stated: Mapping[str, Any]) -> Iterator[str]:
    """Yield where what was signed is not what is here."""
    head = run.records[-1].hash if run.records else ""
    if stated["purpose"] != PURPOSE:
        yield f"what was signed is no drill's evidence: {stated['purpose']}"
    if (stated["run_id"], stated["journal_head"], stated["records"]) != (run.run_id, head, len(run.records)):
        yield f"another journal was signed: {stated['run_id']}, whose head is {str(stated['journal_head'])[:12]}"
    for name, digest in stated["files"].items():
        content = run.files.get(name)
        if content is None:
            yield f"{name} was signed and is missing"
        elif hashlib.sha256(content).hexdigest() != digest:
            yield f"{name} is not what was signed"


def _unsigned(run: RunFiles, trust: Trust) -> tuple[str, Result, str]:
    promised = (run.records[0].fields.get("evidence") or {}).get("signing") if run.records else None
    if promised:
        closed = run.records[-1].event == "closed"
        return "signature", BAD if closed else UNCLEAR, f"absent, though the journal says that {promised['kind']} signs"
    if trust.public_key is not None:
        return "signature", BAD, "absent: the run was not signed"
    if trust.unsigned_will_do:
        return "signature", GOOD, "none; the chain alone shows accidents and careless edits, not a forger"
    return "signature", UNCLEAR, "none: whoever could write the folder could have written all of it"


def _vouched(
    trust: Trust, algorithm: str, key: str, signature: bytes, message: bytes, *, signed_at: str
) -> tuple[str, Result, str]:
    who = f"{algorithm} by {key}, {signed_at}"
    if trust.public_key is not None and not algorithm.startswith("HMAC"):
        if checking.is_by(trust.public_key, algorithm, signature, message):
            return "signature", GOOD, who
        return "signature", BAD, f"not by the key that was given: it says {who}"
    if trust.ask is not None:
        good = trust.ask(key, algorithm, signature, message)
        return "signature", GOOD if good else BAD, f"KMS {'confirms' if good else 'does not confirm'} {who}"
    how = "--ask-kms" if algorithm.startswith("HMAC") else "--public-key"
    return "signature", UNCLEAR, f"not checked: {who}; {how} says whether it is right"
