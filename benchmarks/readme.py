"""The page: what each benchmark is about, in prose that people wrote, and its latest figures from the history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import plots
from benchmarks.benchmark import Benchmark, Section, Size
from benchmarks.history import Entry, comparable, shown

FOLDER = Path(__file__).parent
PAGE = "README.md"
_NOTES = FOLDER / "notes"
_HEAD = "<!-- Made by `python -m benchmarks readme` of history/ and notes/: change those. -->"
_SHOWN_BEFORE = 30
"""Measurements that a picture goes back."""


def files(benchmarks: Mapping[str, Benchmark], histories: Mapping[str, Sequence[Entry]]) -> dict[str, str]:
    """Return the page and its pictures, by their paths in this folder; `histories` are by benchmark."""
    found: dict[str, str] = {}
    parts = [_HEAD, _note("head")]
    for section in Section:
        parts.append(f"## {section}")
        for name, benchmark in benchmarks.items():
            if benchmark.section is section:
                entries = histories.get(name, ())
                picture = _picture(benchmark, entries)
                if picture:
                    found[f"plots/{name}.svg"] = picture
                parts += _chapter(name, benchmark, shown(entries), with_picture=bool(picture))
    parts += ["## The machines", *_machines(histories.values())]
    found[PAGE] = "\n\n".join(part for part in parts if part) + "\n"
    return found


def write(folder: Path, made: Mapping[str, str]) -> None:
    """Write the page and its pictures; a picture that is not made any more goes."""
    pictures = folder / "plots"
    pictures.mkdir(exist_ok=True)
    for old in pictures.glob("*.svg"):
        if f"plots/{old.name}" not in made:
            old.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")


def _chapter(name: str, benchmark: Benchmark, entry: Entry | None, *, with_picture: bool) -> Iterator[str]:
    yield f"### {benchmark.title} (`{name}`)"
    if benchmark.goals:
        yield "Goals:\n\n" + "\n".join(f"* {goal}" for goal in benchmark.goals)
    yield _note(name)
    if entry is None:
        yield "*The history has no measurement yet.*"
        return
    yield _measured(entry)
    if with_picture:
        yield f"![{benchmark.title}](plots/{name}.svg)"
    for summary in entry.tables:
        yield f"**{summary.table.title}**"
        yield summary.as_text()
        if summary.table.notes:
            yield "\n".join(f"* {note}" for note in summary.table.notes)
        if summary.table.missed:
            yield "\n".join(f"* **Goal not reached**: {goal}" for goal in summary.table.missed)


def _measured(entry: Entry) -> str:
    runs = "one run" if entry.runs == 1 else f"medians of {entry.runs} runs, in brackets the least and the most"
    said = f"*{entry.at_utc[:10]}, {entry.commit}, size `{entry.size}`: {runs}; {entry.seconds:,.0f} s; "
    said += f"load {entry.load['before']:g} before, {entry.load['most']:g} at the most, our own included.*"
    doubts = []
    if entry.size is not Size.FULL:
        doubts.append("not the size that the goals are stated for")
    if entry.busy:
        doubts.append("others were busy on the machine")
    return f"{said} **To be taken again: {', and '.join(doubts)}.**" if doubts else said


def _picture(benchmark: Benchmark, entries: Sequence[Entry]) -> str:
    entry = shown(entries)
    if entry is None or not any(plots.rows_of(entry, bars) for bars in benchmark.bars):
        return ""
    upto = entries[: entries.index(entry)]
    drawn = [bars for bars in benchmark.bars if plots.rows_of(entry, bars)]
    return plots.drawn(entry, comparable(upto, entry)[-_SHOWN_BEFORE:], drawn)


def _machines(histories: Iterable[Sequence[Entry]]) -> Iterator[str]:
    """Return what the shown figures were measured on, each machine once."""
    known: dict[str, list[str]] = {}
    for entries in histories:
        if (entry := shown(entries)) is not None:
            of = entry.machine
            memory = f"{of['memory_gib']:g} GiB" if of["memory_gib"] else "memory unknown"
            packages = ", ".join(f"{name} {version}" for name, version in of["packages"].items())
            text = (
                f"{of['processor']}, {of['cores']} cores, {memory}; {of['system']}; Python {of['python']}; {packages}"
            )
            known.setdefault(text, []).append(f"`{entry.benchmark}`")
    for text, names in known.items():
        yield f"* {text}: {', '.join(names)}"


def _note(name: str) -> str:
    path = _NOTES / f"{name}.md"
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""
