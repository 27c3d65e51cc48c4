"""The reader of traces and the model of a disk: what they must see, and writers with a fault that they must find."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import crash_faulty
import pytest
from crash_disk import MODELS, Disk, DiskError, Tree, put, tree_of
from crash_faulty import FAULTY
from crash_figures import Protocol, table
from crash_sites import Crash, crashes, look_at_each, steps_are_kept
from crash_strace import traced, why_not
from crash_trace import Op, Reader, TraceError
from crash_writers import WRITERS

FOLDER = Path("/f")
"""The folder of logs that are written by hand."""


def hexed(text: str) -> str:
    return "".join(f"\\x{each:02x}" for each in text.encode())


def read(*lines: str, ports: Sequence[int] = ()) -> list[Op]:
    """Read a log in which {…} stands for a string as strace writes it."""
    log = [line.replace("{", "\0").replace("}", "\0").split("\0") for line in lines]
    return Reader(FOLDER, ports=ports).read(
        ["".join(hexed(part) if odd % 2 else part for odd, part in enumerate(parts)) for parts in log]
    )


OPENED = '7 openat(AT_FDCWD</>, "{/f/a}", O_WRONLY|O_CREAT|O_APPEND|O_CLOEXEC, 0644) = 3<{/f/a}>'


def test_calls_of_several_threads_are_in_the_order_in_which_they_were_done() -> None:
    """A sync keeps what was done when it began, not what came while it ran."""
    ops = read(
        OPENED,
        "7 clone(child_stack=0x7f, flags=CLONE_VM|CLONE_FILES|CLONE_THREAD) = 8",
        '8 write(3<{/f/a}>, "{one}", 3) = 3',
        "8 fsync(3<{/f/a}> <unfinished ...>",
        '7 write(3<{/f/a}>, "{two}", 3) = 3',
        "8 <... fsync resumed>) = 0",
    )

    assert [(op.kind, op.content, op.at) for op in ops] == [
        ("create", b"", 0), ("write", b"one", -1), ("write", b"two", -1), ("fsync", b"", 0),
    ]  # fmt: skip
    assert ops[-1].began == 2


def test_names_and_what_is_said_are_seen_and_what_is_elsewhere_is_not() -> None:
    """Links and renames lead somewhere; a child's stdout is not ours; a call that failed did nothing."""
    ops = read(
        OPENED,
        '7 write(1<pipe:[9]>, "{told}", 4) = 4',
        "7 vfork() = 9",
        '9 write(1<pipe:[9]>, "{a child}", 7) = 7',
        '7 rename("{/f/a}", "{/f/b}") = 0',
        '7 linkat(AT_FDCWD</f>, "{/f/b}", AT_FDCWD</f>, "{/f/c}", 0) = 0',
        '7 unlink("{/f/none}") = -1 ENOENT (No such file or directory)',
        '7 mkdir("{/elsewhere}", 0777) = 0',
        "7 ftruncate(3<{/f/b}>, 2) = 0",
        "9 +++ exited with 0 +++",
    )

    assert [(op.kind, op.path, op.to, op.at) for op in ops] == [
        ("create", "a", "", 0), ("said", "", "", 0), ("rename", "a", "b", 0), ("link", "b", "c", 0),
        ("truncate", "b", "", 2),
    ]  # fmt: skip


def test_a_request_is_sent_when_its_last_part_is_handed_over() -> None:
    """It may be obeyed before the call returns; and one that goes elsewhere is nobody's business."""
    to = "5<TCP:[127.0.0.1:4000->127.0.0.1:8474]>"
    ops = read(
        OPENED,
        f'7 sendto({to}, "{{POST /proxies HTTP/1.1\r\nContent-Length: 2\r\n\r\n}}", 47, 0, NULL, 0) = 47',
        f'7 sendto({to}, "{{ab}}", 2, 0, NULL, 0 <unfinished ...>',
        '8 write(3<{/f/a}>, "{x}", 1) = 1',
        "7 <... sendto resumed>) = 2",
        f'7 sendto({to.replace("8474", "443")}, "{{GET / HTTP/1.1\r\nHost: x\r\n\r\n}}", 26, 0, NULL, 0) = 26',
        ports=[8474],
    )

    assert [(op.kind, op.method, op.path, op.content) for op in ops] == [
        ("create", "", "a", b""), ("request", "POST", "/proxies", b"ab"), ("write", "", "a", b"x"),
    ]  # fmt: skip


def test_a_plain_write_goes_where_its_descriptor_is() -> None:
    """On from the last one, or where it was set to; one at an offset of its own moves nothing."""
    ops = read(
        OPENED.replace("O_APPEND|", ""),
        '7 write(3<{/f/a}>, "{abc}", 3) = 3',
        '7 pwrite64(3<{/f/a}>, "{X}", 1, 9) = 1',
        '7 write(3<{/f/a}>, "{def}", 3) = 2',
        "7 lseek(3<{/f/a}>, 1, SEEK_SET) = 1",
        '7 write(3<{/f/a}>, "{g}", 1) = 1',
    )

    assert [(op.at, op.content) for op in ops[1:]] == [(0, b"abc"), (9, b"X"), (3, b"de"), (1, b"g")]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("nothing of strace's", id="no-line"),
        pytest.param('7 symlink("{/f/a}", "{/f/b}") = 0', id="a-call-that-is-not-modelled"),
        pytest.param('7 rename("{/f/a}", "{/g/b}") = 0', id="out-of-the-folder"),
        pytest.param("7 mmap(NULL, 9, PROT_READ|PROT_WRITE, MAP_SHARED, 3<{/f/a}>, 0) = 0x7f", id="through-memory"),
    ],
)
def test_what_is_not_understood_is_said(line: str) -> None:
    """Nothing is left out in silence."""
    with pytest.raises(TraceError):
        read(line)


WRITTEN = Op(kind="write", path="a", content=b"abcd", at=-1)


def disk(*ops: Op, tree: Tree | None = None) -> Disk:
    made = Disk(tree or {})
    for number, op in enumerate(ops):
        made.do(Op(**{**_fields(op), "began": number}))
    return made


def _fields(op: Op) -> dict[str, Any]:
    return {name: getattr(op, name) for name in op.__slots__}


def test_what_a_power_cut_takes_is_what_was_not_synced() -> None:
    """Content goes with the file's sync, its name with the folder's; each model takes another part."""
    made = disk(Op(kind="create", path="a"), WRITTEN, Op(kind="fsync", path="a"))

    assert [made.after(model) for model in MODELS] == [{"a": b"abcd"}, {}, {"a": b"abcd"}, {}, {"a": b"abcd"}]
    made.do(Op(kind="fsync", path=".", began=3))
    made.do(Op(kind="write", path="a", content=b"efgh", at=-1))
    assert [made.after(model)["a"] for model in MODELS] == [
        b"abcdefgh", b"abcd", b"abcd", b"abcdefgh", b"abcdef",
    ]  # fmt: skip


def test_a_sync_keeps_what_was_done_when_it_began() -> None:
    """What was written while it ran may be gone."""
    made = disk(Op(kind="create", path="a"), Op(kind="fsync", path="."), WRITTEN)
    made.do(Op(kind="fsync", path="a", began=2))
    assert made.after("cut") == {"a": b""}

    made.do(Op(kind="fsync", path="a", began=3))
    assert made.after("cut") == {"a": b"abcd"}


def test_a_rename_is_there_or_not_and_a_hole_is_zeros() -> None:
    """Never both names, never none; what is written behind the end of what was lost is where it was to be."""
    made = disk(Op(kind="create", path="b"), Op(kind="rename", path="b", to="a"), tree={"a": b"old", "d": None})

    assert (made.after("kill"), made.after("cut")) == ({"a": b"", "d": None}, {"a": b"old", "d": None})
    seen = {tuple(sorted(made.drawn(random.Random(seed)).items())) for seed in range(40)}
    assert all(dict(each)["a"] in {b"old", b""} for each in seen)
    later = disk(Op(kind="write", path="a", content=b"xy", at=5), tree={"a": b"old"})
    assert later.after("kill") == {"a": b"old\0\0xy"}
    with pytest.raises(DiskError):
        disk(Op(kind="rename", path="d/none", to="d/new"), tree={"d": None})


def test_a_folder_is_put_and_read_back(tmp_path: Path) -> None:
    """What a model says is what is there."""
    tree: Tree = {"d": None, "d/e": None, "d/e/a": b"x", "b": b""}

    put(tree, tmp_path / "f")

    assert tree_of(tmp_path / "f") == tree


def test_a_crash_is_tried_before_the_first_operation_and_after_each() -> None:
    """And the same state once, with the same promises."""
    figures = Protocol(name="p")
    ops = [Op(kind="create", path="a"), WRITTEN, Op(kind="said", content=b"1"), Op(kind="create", path="a")]

    found = list(crashes(ops, {}, figures, drawn=0, seed=1))

    assert [each.number for each in found if each.model == "kill"] == [0, 1, 2, 3]
    assert figures.operations == {"create": 1, "write": 1}
    assert figures.crashes.total() == 4 * len(MODELS)
    assert figures.states == len(found) < figures.crashes.total()
    assert len({(frozenset(each.tree.items()), each.said) for each in found}) == len(found)


def tried(name: str, folder: Path, *, drawn: int = 2) -> Protocol:
    """Trace one of `crash_faulty`'s writers, and crash it everywhere."""
    figures, writer = Protocol(name=name), FAULTY[name]
    put(writer.begins_with, folder / "traced")
    script = str(Path(crash_faulty.__file__))
    ops, code = traced([script, name, str(folder / "traced")], folder / "traced", log=folder / "strace")
    assert code == 0, (folder / "strace.err").read_text()
    found = crashes(ops, writer.begins_with, figures, drawn=drawn, seed=1)
    look_at_each(found, steps_are_kept(writer, ops), folder / "crashed", figures)
    return figures


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "can be traced")
@pytest.mark.parametrize(
    ("name", "model"),
    [
        pytest.param("replaced", "", id="nothing-is-wrong-with-what-is-replaced-as-it-should-be"),
        pytest.param("unsynced", "names", id="renamed-before-its-content-was-synced"),
        pytest.param("unnamed", "cut", id="its-folder-was-not-synced"),
        pytest.param("in-place", "kill", id="written-over-in-place"),
        pytest.param("appended", "", id="nothing-is-wrong-with-lines-that-are-told-of-once-synced"),
        pytest.param("hasty", "cut", id="lines-that-are-told-of-before-they-are-synced"),
    ],
)
def test_a_writer_with_a_mistake_is_found(tmp_path: Path, name: str, model: str) -> None:
    """By the crash that shows it; only one of these mistakes would be seen by killing the writer."""
    figures = tried(name, tmp_path)

    found_by = {finding.split()[1] for finding in figures.findings}
    assert (model in found_by) if model else (figures.findings == [] and figures.wrong == 0), figures.findings
    assert ("kill" in found_by) == (model == "kill")


def test_what_the_product_raises_after_a_crash_is_a_finding(tmp_path: Path) -> None:
    """And what it moves aside: a database that was damaged by a crash is none that survived it."""
    figures = Protocol(name="p")
    state: Tree = {"state": None, "state/history.db.damaged-1": b"", "state/slots.db": b"no database" * 100}
    crash = Crash(model="kill", number=1, last="write", tree=state, said=(), requests=())

    look_at_each(
        iter([crash]), steps_are_kept(WRITERS["slots"], [Op(kind="said", content=b"[]")]), tmp_path / "f", figures
    )
    look_at_each(iter([crash]), lambda _folder, _crash: [str(1 / 0)], tmp_path / "f", figures)

    assert figures.wrong == 2
    assert "moved aside" in figures.findings[0]
    assert "ZeroDivisionError" in figures.findings[1]
    assert "p              0" in table({"p": figures})
