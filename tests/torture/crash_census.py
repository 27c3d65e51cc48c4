"""The places in the product's code that change a disk or a Toxiproxy, and which of them the traced runs came by."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import coverage

ROOT = Path(__file__).parents[2]
MODULES = (
    "chaos/kms_chaos/archive.py",
    "chaos/kms_chaos/durable.py",
    "chaos/kms_chaos/evidence/sealing.py",
    "chaos/kms_chaos/evidence/sending.py",
    "chaos/kms_chaos/faults/toxiproxy.py",
    "chaos/kms_chaos/halting.py",
    "chaos/kms_chaos/heal.py",
    "chaos/kms_chaos/journal_writer.py",
    "chaos/kms_chaos/lease_file.py",
    "chaos/kms_chaos/undo_record.py",
    "daemon/kms_watchdog/alarm_proofs.py",
    "daemon/kms_watchdog/drills/slot_ledger.py",
    "daemon/kms_watchdog/durable.py",
    "daemon/kms_watchdog/evidence/store.py",
    "daemon/kms_watchdog/history/tables.py",
    "daemon/kms_watchdog/override_store.py",
    "daemon/kms_watchdog/readiness/kept_file.py",
    "daemon/kms_watchdog/sinks/queue.py",
    "daemon/kms_watchdog/sqlite_file.py",
)
"""What drill, healer, archive, spool and ledgers write with."""
_FILES = frozenset(
    {"fsync", "rename", "link", "unlink", "ftruncate", "mkdir", "write", "write_all", "writestr", "commit"}
)
_ASKING = "_call"
"""What every request to Toxiproxy goes through."""
_CHANGES = ("INSERT", "UPDATE", "DELETE")


@dataclass(frozen=True, slots=True, order=True)
class Site:
    """One call in the code."""

    module: str
    line: int
    what: str
    function: str

    @property
    def name(self) -> str:
        """Return what it is called whatever its line is."""
        return f"{self.module.rpartition('/')[2]} {self.function}: {self.what}"

    def __str__(self) -> str:
        return f"{self.name}, line {self.line}"


def sites(modules: Sequence[str] = MODULES) -> tuple[Site, ...]:
    """Return the places in these modules that change a disk or a Toxiproxy."""
    return tuple(sorted(site for module in modules for site in _sites_of(module, (ROOT / module).read_text("utf-8"))))


def _sites_of(module: str, source: str) -> Iterator[Site]:
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (what := _what(node, asks=module.endswith("toxiproxy.py"))):
            around = [each for each in functions if each.lineno <= node.lineno <= (each.end_lineno or 0)]
            yield Site(module, node.lineno, what, max(around, key=lambda each: each.lineno).name if around else "")


def _what(call: ast.Call, *, asks: bool) -> str:
    """Return what a call changes; empty: nothing, as far as can be seen."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in _FILES or (asks and name == _ASKING):
        return name
    if name == "replace" and isinstance(call.func, ast.Attribute) and len(call.args) == 1 and not call.keywords:
        return name  # of a path; a text's takes two
    if name.startswith("execute") and call.args:
        sql = call.args[0].values[0] if isinstance(call.args[0], ast.JoinedStr) else call.args[0]
        text = str(sql.value) if isinstance(sql, ast.Constant) else ""
        return " ".join(text.split()[:3]) if text.startswith(_CHANGES) else ""
    return ""


def reached(data_files: Sequence[Path], wanted: Sequence[Site]) -> set[Site]:
    """Return the places that the runs of these files of coverage came by."""
    lines: dict[str, set[int]] = {}
    for data_file in data_files:
        data = coverage.CoverageData(str(data_file))
        data.read()
        for measured in data.measured_files():
            lines.setdefault(measured, set()).update(data.lines(measured) or ())
    return {site for site in wanted if site.line in lines.get(str(ROOT / site.module), ())}
