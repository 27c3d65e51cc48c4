"""Verify evidence: find the runs in a tree of files, check each, then the chain that they make. Reads, and no more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from kms_chaos.evidence import run_checks
from kms_chaos.evidence.finding import Finding, Result, worst
from kms_chaos.evidence.run_checks import RunFiles, Trust
from kms_watchdog.drills import journal

_JOURNAL, _SEGMENTS = "journal.ndjson", "segments"


class Tree(Protocol):
    """Files by their relative names, with `/` between the parts: a folder, or a store."""

    def sizes(self, prefix: str = "") -> Mapping[str, int]:
        """Return all names that begin with `prefix`."""

    def get(self, name: str) -> bytes:
        """Return one file's content."""

    def remarks(self, prefix: str = "") -> Mapping[str, str]:
        """Return what somebody did to what was kept, by name."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found, run by run and of their chain."""

    runs: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def result(self) -> Result:
        """The answer to all of it; no run at all is unclear."""
        return worst(self.findings) if self.runs else Result.UNCLEAR


def verify(tree: Tree, trust: Trust, *, name: str = "", first: str | None = None) -> Verification:
    """Check every run in `tree`, and their chain if there are several.

    Args:
        tree: one run's folder, or one that holds runs at any depth: a state folder, a store.
        trust: whose signatures count.
        name: what the tree itself is called: the name of a single run's folder.
        first: the run with which the chain may begin though it names one before; None: with one that names none.
    """
    links: list[_Link] = []
    found: list[Finding] = []
    for folder in _folders(tree.sizes()):
        run = _load(tree, folder, name)  # one at a time: years of drills are gigabytes
        links.append(_Link.of(run))
        found += run_checks.check(run, trust)
    links.sort(key=lambda link: (link.started_at_utc, link.run_id))
    order = {link.run_id: place for place, link in enumerate(links)}
    found.sort(key=lambda finding: order[finding.run])
    found += [
        Finding(run="", check="store", result=Result.BAD, detail=f"{what}: {remark}")
        for what, remark in tree.remarks().items()
    ]
    if len(links) > 1 or first:
        found += _chain(links, first)
    return Verification(tuple(link.run_id for link in links), tuple(found))


def _folders(names: Iterable[str]) -> list[str]:
    """Return the folders that hold a journal, or segments of one."""
    found = set()
    for name in names:
        folder, _, file = name.rpartition("/")
        if file == _JOURNAL:
            found.add(folder)
        elif folder.rpartition("/")[2] == _SEGMENTS:
            found.add(folder.rpartition("/")[0])
    return sorted(found)


def _load(tree: Tree, folder: str, name: str) -> RunFiles:
    prefix = f"{folder}/" if folder else ""
    inside = [each.removeprefix(prefix) for each in tree.sizes(prefix)]
    wanted = [each for each in inside if "/" not in each or each.startswith(f"{_SEGMENTS}/")]
    return RunFiles(folder=folder or name, files={each: tree.get(prefix + each) for each in wanted})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    """What the chain of runs needs of one, and no more."""

    run_id: str
    started_at_utc: str
    previous: Mapping[str, str] | None
    is_chained: bool
    """Whether its first record speaks of a drill before it at all."""
    head: str
    hashes: bytes = field(repr=False)
    """Every line's hash, 32 bytes each."""

    @classmethod
    def of(cls, run: RunFiles) -> Self:
        """Return what is left of `run` in the chain."""
        first = run.records[0] if run.records else None
        before = first.fields.get("previous") if first else None
        return cls(
            run_id=run.run_id,
            started_at_utc=first.at_utc.isoformat() if first else "",
            previous=before if isinstance(before, dict) else None,
            is_chained=first is not None and "previous" in first.fields,
            head=run.records[-1].hash if run.records else journal.GENESIS,
            hashes=b"".join(bytes.fromhex(record.hash) for record in run.records),
        )

    def holds(self, line_hash: str) -> bool:
        """Return whether one of its lines has this hash, or no line was there yet to be named."""
        try:
            return line_hash == journal.GENESIS or bytes.fromhex(line_hash) in self.hashes
        except ValueError:
            return False


def _chain(links: Sequence[_Link], first: str | None) -> Iterator[Finding]:
    """Step 7: each run names the one before it, which is there and ends as it says; no two name the same."""
    known = {link.run_id: link for link in links}
    named: dict[str, str] = {}
    wrong = False
    for link in links:
        for result, detail in _follows(link, known, named, begins=link is links[0], is_first=link.run_id == first):
            wrong = True
            yield Finding(run=link.run_id, check="chain", result=result, detail=detail)
    if not wrong:
        detail = f"{len(links)} drills, none missing between them"
        yield Finding(run="", check="chain", result=Result.GOOD, detail=detail)


def _follows(
    link: _Link, known: Mapping[str, _Link], named: dict[str, str], *, begins: bool, is_first: bool
) -> Iterator[tuple[Result, str]]:
    if link.previous is None:
        if link.is_chained and not begins:
            yield Result.UNCLEAR, "names no drill before it, though there are earlier ones: it could not see them"
        return
    if is_first:
        return
    before, head = str(link.previous.get("run_id")), str(link.previous.get("head"))
    if (other := named.setdefault(before, link.run_id)) != link.run_id:
        yield Result.UNCLEAR, f"names {before} as the drill before it, as {other} does: one could not see the other"
    earlier = known.get(before)
    if earlier is None:
        yield Result.BAD, f"drill {before} is missing: this one names it as the one before"
    elif link.previous.get("state") == "closed" and earlier.head != head:
        yield Result.BAD, f"drill {before} was edited since: its journal ended with another line"
    elif not earlier.holds(head):
        yield Result.BAD, f"drill {before} was edited since: the line that this one names is not in it"


class FolderTree:
    """A folder on this machine, read only."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def sizes(self, prefix: str = "") -> Mapping[str, int]:
        """As `Tree.sizes`; hidden files are drafts and none."""
        files = (path for path in self._root.rglob("*") if path.is_file() and not path.name.startswith("."))
        found = {path.relative_to(self._root).as_posix(): path.stat().st_size for path in files}
        return {name: found[name] for name in sorted(found) if name.startswith(prefix)}

    def get(self, name: str) -> bytes:
        """As `Tree.get`."""
        return (self._root / name).read_bytes()

    def remarks(self, prefix: str = "") -> Mapping[str, str]:  # noqa: ARG002 - a port's signature
        """As `Tree.remarks`: a folder has no memory."""
        return {}
