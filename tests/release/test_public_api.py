"""What others may rely on is written down, and is not taken away without a new version."""

from __future__ import annotations

import ast
import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import command_api
import public_api
import pytest
from committed_api import FILES, FOLDER, ROOT, ApiFile, may_break, project_version, refusal, version_of

MODULE = f"{public_api.MODULE}small\n"
BEFORE = """\
LIMIT = 3
class Core:
    region: str
    def encrypt(self, plaintext: bytes, *, purpose: str = 'general') -> bytes: ...
def opened(message: bytes, key: str) -> bytes: ...
"""


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_nothing_that_others_rely_on_was_taken_away(file: ApiFile) -> None:
    """Removed or changed incompatibly: only under a version that says so (docs/release.md)."""
    committed = (FOLDER / file.name).read_text(encoding="utf-8")

    assert refusal(file, committed, file.text(project_version()), project_version()) == ""


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_is_written_down_is_what_there_is(file: ApiFile) -> None:
    """Something new is new for everybody who reads it: `.venv/bin/python tests/release api` writes it down."""
    assert (FOLDER / file.name).read_text(encoding="utf-8") == file.text(project_version())


@pytest.mark.parametrize(
    ("was", "is_now", "told"),
    [
        pytest.param("LIMIT = 3\n", "", "small.LIMIT: Public object was removed", id="constant-removed"),
        pytest.param("LIMIT = 3", "LIMIT = 4", "small.LIMIT: Value was changed: 3 -> 4", id="constant-changed"),
        pytest.param("class Core", "class Heart", "small.Core: Public object was removed", id="class-renamed"),
        pytest.param("    region: str\n", "", "small.Core.region: Public object was removed", id="field-removed"),
        pytest.param("def opened(", "def open_(", "small.opened: Public object was removed", id="function-renamed"),
        pytest.param(", key: str", "", "small.opened: Parameter was removed: key", id="parameter-removed"),
        pytest.param("key: str", "arn: str", "small.opened: Parameter was removed: key", id="parameter-renamed"),
        pytest.param(
            "key: str",
            "key: str, by: str",
            "small.opened: Parameter was added as required: by",
            id="parameter-required",
        ),
        pytest.param(
            "'general'", "'pii'", "small.Core.encrypt: Parameter default was changed: purpose", id="default-changed"
        ),
        pytest.param(
            " = 'general'", "", "small.Core.encrypt: Parameter is now required: purpose", id="default-removed"
        ),
        pytest.param(
            "message: bytes, key: str",
            "key: str, message: bytes",
            "small.opened: Positional parameter was moved: message",
            id="parameters-swapped",
        ),
        pytest.param(
            "message: bytes, key",
            "message: bytes, *, key",
            "small.opened: Parameter kind was changed: key",
            id="keyword-only",
        ),
    ],
)
def test_what_breaks_a_caller_is_told(was: str, is_now: str, told: str) -> None:
    """By name, and what became of it."""
    assert was in BEFORE

    assert told in public_api.breaking_changes(MODULE + BEFORE, MODULE + BEFORE.replace(was, is_now))


@pytest.mark.parametrize(
    ("was", "is_now"),
    [
        pytest.param("LIMIT = 3\n", "LIMIT = 3\nLEAST = 1\n", id="constant"),
        pytest.param("key: str)", "key: str, by: str = '')", id="optional-parameter"),
        pytest.param("    region: str\n", "    region: str\n    zone: str\n", id="field"),
    ],
)
def test_what_is_added_breaks_nobody(was: str, is_now: str) -> None:
    """It is to be written down, and that is all."""
    assert was in BEFORE

    assert public_api.breaking_changes(MODULE + BEFORE, MODULE + BEFORE.replace(was, is_now)) == []


def test_a_module_that_is_gone_is_told() -> None:
    """With all that was in it, in one line."""
    assert public_api.breaking_changes(MODULE + BEFORE, "") == ["small: the module was removed"]


@pytest.mark.parametrize(
    ("path", "was", "is_now", "told"),
    [
        pytest.param(
            "_facade_bulk.py", "def encrypt_many(", "def encrypt_all(", "kms_core.core.Core.encrypt_many", id="base"
        ),
        pytest.param(
            "core.py", "def pinned(", "def pin(", "kms_core.core.Core.pinned", id="declared-for-types-in-base"
        ),
        pytest.param("__init__.py", '    "Sealed",\n', "", "kms_core.Sealed: Public object was removed", id="export"),
        pytest.param(
            "config.py",
            "data_key_ttl_seconds: float = 300.0",
            "data_key_ttl_seconds: float = 600.0",
            "kms_core.config.CoreConfig.__init__: Parameter default was changed: data_key_ttl_seconds",
            id="setting",
        ),
        pytest.param("_health.py", "    breaker: BreakerState\n", "", "kms_core.RegionHealth.breaker", id="field"),
    ],
)
def test_the_cores_own_source_is_read_so(tmp_path: Path, path: str, was: str, is_now: str, told: str) -> None:
    """Also what a public class has from a private one, and what the package hands on from a private module."""
    shutil.copytree(ROOT / "core", tmp_path / "core")
    source = tmp_path / "core/kms_core" / path
    assert was in source.read_text()
    source.write_text(source.read_text().replace(was, is_now))

    now = public_api.listing(["kms_core"], tmp_path / "core")

    changes = public_api.breaking_changes(public_api.listing(["kms_core"], ROOT / "core"), now)
    assert [one for one in changes if one.startswith(told)], changes


def promised(node: ast.stmt, of: object) -> Iterator[tuple[object, str]]:
    """Yield what a statement of a listing promises to be there: names of `of`, and the methods of its classes."""
    match node:
        case ast.ClassDef(name=name, body=body):
            yield of, name
            yield from ((getattr(of, name), one.name) for one in body if isinstance(one, ast.FunctionDef))
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
            yield of, name
        case ast.Assign(targets=[ast.Name(id=name)]):
            yield of, name
        case ast.ImportFrom(names=[ast.alias(name=name)]):
            yield of, name


@pytest.mark.parametrize("file", ["kms_core.txt", "kms_local.txt"])
def test_what_is_promised_is_there_at_run_time(file: str) -> None:
    """The source is read without running it: what is listed is held against what an import gives."""
    _, *parts = (FOLDER / file).read_text(encoding="utf-8").split(public_api.MODULE)

    for part in parts:
        name, _, code = part.partition("\n")
        module = importlib.import_module(name)
        missing = [
            (of, one) for node in ast.parse(code).body for of, one in promised(node, module) if not hasattr(of, one)
        ]
        assert missing == []


def test_what_is_private_is_not_promised() -> None:
    """Neither modules nor names that an underscore begins, nor what a class has for itself."""
    text = public_api.listing(["kms_core"], ROOT / "core")

    assert "module kms_core._" not in text
    assert "def _" not in text.replace("def __", "")


def tool(*parameters: click.Parameter, **others: click.Parameter) -> str:
    group = click.Group("tool", commands={"run": click.Command("run", params=list(parameters))})
    for name, parameter in others.items():
        group.add_command(click.Command(name, params=[parameter]))
    return command_api.listing({"tool": group})


HOW = click.Choice(["text", "html"])
COMMAND = tool(
    click.Argument(["drill"]),
    click.Option(["--format", "-f"], type=HOW, default="text"),
    click.Option(["--region"], multiple=True),
    click.Option(["--quiet"], hidden=True),
)


def test_a_command_is_listed_with_what_it_takes() -> None:
    """What is hidden is not promised."""
    assert COMMAND.splitlines() == [
        "tool",
        "tool run",
        "tool run DRILL: text, required",
        "tool run --format,-f: text | html, default text",
        "tool run --region: text, repeatable",
    ]


@pytest.mark.parametrize(
    ("was", "is_now", "told"),
    [
        pytest.param("tool run --region: text, repeatable\n", "", "tool run --region: removed", id="option-removed"),
        pytest.param("--format,-f", "--format", "tool run -f: removed", id="spelling-removed"),
        pytest.param(
            "text | html", "text", "tool run -f: text | html, default text -> text, default text", id="choice"
        ),
        pytest.param(
            "default text",
            "default html",
            "tool run -f: text | html, default text -> text | html, default html",
            id="default",
        ),
        pytest.param(", repeatable", "", "tool run --region: text, repeatable -> text", id="only-once"),
        pytest.param(
            "--region: text, repeatable\n",
            "--region: text, repeatable\ntool run --why: text, required\n",
            "tool run --why: new, and required",
            id="new-and-required",
        ),
        pytest.param(
            ", repeatable",
            ", repeatable, required",
            "tool run --region: text, repeatable -> text, repeatable, required",
            id="now-required",
        ),
    ],
)
def test_what_breaks_a_script_is_told(was: str, is_now: str, told: str) -> None:
    """A command line in somebody's cron is a caller too."""
    assert was in COMMAND

    assert told in command_api.breaking_changes(COMMAND, COMMAND.replace(was, is_now))


def test_what_a_command_takes_more_breaks_no_script() -> None:
    """A choice, an option, and a new command with whatever it asks for."""
    now = tool(
        click.Argument(["drill"], required=False),
        click.Option(["--format", "-f"], type=click.Choice(["text", "html", "json"]), default="text"),
        click.Option(["--region"], multiple=True),
        click.Option(["--json"], is_flag=True),
        approve=click.Option(["--reason"], required=True),
    )

    assert command_api.breaking_changes(COMMAND, now) == []


@pytest.mark.parametrize(
    ("before", "now", "allowed"),
    [
        ("0.1.0", "0.1.0", False),
        ("0.1.0", "0.1.1", False),
        ("0.1.9", "0.2.0", True),
        ("0.2.0", "1.0.0", True),
        ("1.2.0", "1.3.0", False),
        ("1.9.0", "2.0.0", True),
        ("1.0.0", "0.9.0", False),
    ],
)
def test_which_version_may_take_something_away(before: str, now: str, *, allowed: bool) -> None:
    """As SemVer has it; below 1.0 the second number decides."""
    assert may_break(before, now) is allowed


def test_a_new_version_may_take_something_away_and_an_old_one_not() -> None:
    """What is told names the file, the versions and each name."""
    file = ApiFile("small.txt", "small", lambda: MODULE, public_api.breaking_changes)
    committed = f"# small, version 0.1.0: what others may rely on.\n\n{MODULE}{BEFORE}"

    assert version_of(committed) == "0.1.0"
    assert refusal(file, committed, file.text("0.2.0"), "0.2.0") == ""
    assert refusal(file, committed, file.text("0.1.1"), "0.1.1").splitlines() == [
        "docs/api/small.txt: incompatible with 0.1.0, so 0.1.1 will not do:",
        "  small.LIMIT: Public object was removed",
        "  small.Core: Public object was removed",
        "  small.opened: Public object was removed",
    ]
