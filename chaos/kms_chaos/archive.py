"""One archive for auditors: every run of a period as it was found, judged again, with the score and the controls.

The same input gives the same bytes (with the same zlib): no file's time, no order of a folder and no clock is in it.
A run whose journal is broken, or whose verdict is not what its journal proves, is put in as it was found, and marked:
to leave it out would hide it.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from kms_chaos import durable, proofs
from kms_chaos.export import scores
from kms_chaos.export.account import account
from kms_chaos.export.forms import FORMS
from kms_chaos.proofs import Doubt, Proof, Run
from kms_chaos.score import Declared, Score, score
from kms_watchdog import alarm_proofs
from kms_watchdog.drills.folder import began

SCHEMA = 1
CONTROLS = resources.files("kms_chaos") / "controls.md"
"""What maps results to the controls of standards; the same text as `docs/controls.md`."""
AGAIN = ("html", "json", "ctk")
"""The forms of each run's report that are made anew."""
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the first time that a ZIP can hold
_PERIOD = re.compile(r"(\d{4})(?:-(?:Q([1-4])|(0[1-9]|1[0-2])))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A year, a quarter or a month, in UTC."""

    name: str
    since: datetime
    until: datetime
    """The first instant that does not belong to it."""

    @classmethod
    def parse(cls, name: str) -> Period:
        """Return the period called `2026`, `2026-Q1` or `2026-03`.

        Raises:
            ValueError: it is none of these.
        """
        found = _PERIOD.fullmatch(name)
        if found is None or not 2000 <= int(found[1]) < 9999:  # noqa: PLR2004 - years that a drill can have
            raise ValueError(f"a period is a year, a quarter or a month: 2026, 2026-Q1 or 2026-03, not {name!r}")
        year, quarter, month = int(found[1]), int(found[2] or 0), int(found[3] or 0)
        first, months = (month, 1) if month else (quarter * 3 - 2, 3) if quarter else (1, 12)
        after = year * 12 + first - 1 + months
        return cls(
            name=name,
            since=datetime(year, first, 1, tzinfo=UTC),
            until=datetime(after // 12, after % 12 + 1, 1, tzinfo=UTC),
        )

    def as_of(self, now_utc: datetime) -> datetime:
        """Return when the score is to be taken: at the period's end, or at the end of today while it lasts."""
        tomorrow = datetime(now_utc.year, now_utc.month, now_utc.day, tzinfo=UTC) + timedelta(days=1)
        return min(self.until, tomorrow)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One run in the archive."""

    run_id: str
    title: str
    verdict: str
    """What its journal proves; empty when it proves nothing."""
    doubt: str
    """Why it does not count; empty when it does."""
    open: bool
    files: tuple[tuple[str, str], ...]
    """Name for people, and path in the archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """What was made."""

    entries: tuple[Entry, ...]
    sha256: str
    """Of the archive's bytes."""

    @property
    def doubtful(self) -> tuple[Entry, ...]:
        """The runs that cannot be believed; those that are merely not finished are not among them."""
        return tuple(entry for entry in self.entries if entry.doubt and not entry.open)


class NothingThereError(Exception):
    """No drill began in the period: an archive of nothing would look like evidence."""


@dataclass(slots=True)
class _Box:
    """A ZIP that is written, and what is in it."""

    file: zipfile.ZipFile
    sums: dict[str, tuple[int, str]] = field(default_factory=dict)

    def put(self, path: str, content: bytes) -> None:
        """Add one file."""
        info = zipfile.ZipInfo(path, _LONG_AGO)
        info.compress_type, info.external_attr, info.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
        self.file.writestr(info, content, compresslevel=9)
        self.sums[path] = len(content), hashlib.sha256(content).hexdigest()


def build(into: Path, state_dir: Path, period: Period, wanted: Declared, *, now_utc: datetime) -> Archive:
    """Write the archive of `period` to `into`, whole or not at all, and return what is in it.

    Raises:
        NothingThereError: no drill began in the period.
        OSError: a file cannot be read or written.
    """
    draft = into.with_name(f".{into.name}.draft")
    try:
        with zipfile.ZipFile(draft, "w") as file:
            entries = _fill(_Box(file), state_dir, period, wanted, now_utc)
        sha256 = hashlib.sha256(draft.read_bytes()).hexdigest()
        durable.move(draft, into)
    finally:
        draft.unlink(missing_ok=True)
    return Archive(entries=entries, sha256=sha256)


def _fill(box: _Box, state_dir: Path, period: Period, wanted: Declared, now_utc: datetime) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    counts: list[Proof] = []
    doubts: list[Doubt] = []
    for run in proofs.read(state_dir):
        inside = period.since <= _began(run, period) < period.until
        if inside:
            entries.append(_put_run(box, run))
        if isinstance(run.found, Proof):
            counts.append(run.found)
        elif inside:
            doubts.append(run.found)
    if not entries:
        raise NothingThereError(f"no drill began in {period.name} in {state_dir}")
    of_alarms, more_doubts = proofs.found_of_alarms(state_dir)
    standing = score(wanted, counts, (*doubts, *more_doubts), at_utc=period.as_of(now_utc), alarm_proofs=of_alarms)
    for found in alarm_proofs.folders(state_dir):  # what the score says of alarms rests on these too
        if found.journal.is_file():
            box.put(f"alarm-proofs/{found.run_id}.ndjson", found.journal.read_bytes())
    _put_summary(box, period, standing, entries)
    return tuple(entries)


def _began(run: Run, period: Period) -> datetime:
    """Return when a run began: by its journal, else by its name; one that tells neither belongs to every period."""
    if run.journal is not None and run.journal.records:
        return run.journal.records[0].at_utc
    return began(run.folder.run_id) or period.since


def _put_run(box: _Box, run: Run) -> Entry:
    run_id = run.folder.run_id
    files = []
    for path in sorted(run.folder.path.iterdir()):
        if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
            content = run.raw if path == run.folder.journal else path.read_bytes()
            files.append((path.name, f"runs/{run_id}/{path.name}"))
            box.put(files[-1][1], content)
    for name, where, content in _judged_again(run):
        files.append((name, where))
        box.put(where, content)
    doubt = run.found if isinstance(run.found, Doubt) else None
    return Entry(
        run_id=run_id,
        title=f"{run.judgement.drill} on {run.judgement.region}" if run.judgement else "",
        verdict=str(run.judgement.verdict) if run.judgement else "",
        doubt=doubt.why if doubt else "",
        open=bool(doubt and doubt.open),
        files=tuple(files),
    )


def _judged_again(run: Run) -> Iterator[tuple[str, str, bytes]]:
    if run.journal is None or run.judgement is None:
        return
    told = account(run.journal, run.judgement)
    for form in AGAIN:
        path = f"runs/{run.folder.run_id}/judged-again/{FORMS[form].file}"
        yield f"judged again: {FORMS[form].file}", path, FORMS[form].render(told).encode()


def _put_summary(box: _Box, period: Period, standing: Score, entries: list[Entry]) -> None:
    box.put("score.html", scores.html(standing).encode())
    box.put("score.md", scores.markdown(standing).encode())
    box.put("score.json", _json(standing.to_json()))
    box.put("controls.md", CONTROLS.read_bytes())
    environment = Environment(
        loader=PackageLoader("kms_chaos"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    bad = sum(bool(entry.doubt) and not entry.open for entry in entries)
    page = environment.get_template("archive.html.j2").render(
        period=period.name,
        since=f"{period.since:%Y-%m-%d}",
        until=f"{period.until:%Y-%m-%d}",
        entries=entries,
        bad=bad,
    )
    box.put("index.html", page.encode())
    listed = sorted(box.sums.items())
    box.put("SHA256SUMS", "".join(f"{sha256}  {path}\n" for path, (_, sha256) in listed).encode())
    runs = [{"run_id": e.run_id, "verdict": e.verdict or None, "not_counted": e.doubt or None} for e in entries]
    files = [{"path": path, "bytes": size, "sha256": sha256} for path, (size, sha256) in sorted(box.sums.items())]
    manifest = {
        "schema": SCHEMA,
        "period": period.name,
        "since_utc": period.since.isoformat(),
        "until_utc": period.until.isoformat(),
        "score_at_utc": standing.at_utc.isoformat(),
        "runs": runs,
        "files": files,
    }
    box.put("manifest.json", _json(manifest))


def _json(values: object) -> bytes:
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()
