"""Runs the tests of one module against each of its mutants, in processes forked from one that has them all loaded."""

from __future__ import annotations

import gc
import importlib.util
import mmap
import os
import pickle
import resource
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from mutants import Mutant, mutants

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
_FOLDERS = {"kms_core": "core", "kms_watchdog": "daemon", "kms_alarms": "alarms", "kms_chaos": "chaos"}
"""Packages whose modules are mutated, and in which folder each is."""
_NEEDS_PROCESSES = frozenset({"local_aws", "toxiproxy_url", "own_toxiproxy", "real_toxiproxy_url"})
_SLACK, _LEAST_SECONDS, _LONGEST_IMPORT_SECONDS = 10.0, 5.0, 90.0
"""How much longer than without the change tests may take before the change counts as noticed: an endless loop."""
_MEMORY_BYTES = 6 << 30
_KILLED, _SURVIVED = 1, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one mutant."""

    mutant: Mutant
    killed: bool
    reached: bool
    """Whether a test runs the function at all."""


def full_name(module: str) -> str:
    """Return the name under which `module` of the plan is imported: one without a package is of `kms_chaos`."""
    return module if module.partition(".")[0] in _FOLDERS else f"kms_chaos.{module}"


def source_of(module: str) -> Path:
    """Return where `module` of the plan is, without importing it."""
    name = full_name(module)
    return ROOT / _FOLDERS[name.partition(".")[0]] / f"{name.replace('.', '/')}.py"


def test_file(name: str) -> Path:
    """Return where a file of tests in the plan is: one without a folder is of `tests/chaos`."""
    return TESTS / (name if "/" in name else f"chaos/{name}")


def run(module: str, tests: Sequence[str], jobs: int) -> list[Result]:
    """Run `tests` against every mutant of `module`.

    Raises:
        RuntimeError: the tests do not pass as it is.
    """
    path = source_of(module)
    found = mutants(path.read_text(encoding="utf-8"))
    files = [str(path) for path in map(test_file, tests) if path.exists()]
    with tempfile.TemporaryDirectory(prefix="kms-mutation-") as scratch:
        session = _Session(module, path, [one for one in found if one.function], jobs, Path(scratch))
        results = _answer(lambda: session.of(files), Path(scratch) / "answer") if files else None
        if results is None:
            raise RuntimeError(f"the tests of {module} do not pass as it is: {', '.join(tests)}")
        inside = {at: Result(mutant=session.found[at], killed=k, reached=r) for at, (k, r) in enumerate(results)}
        outside = [one for one in found if not one.function]
        work = [_imported_with(full_name(module), path, one, files, Path(scratch)) for one in outside]
        codes = _pool(work, [_LONGEST_IMPORT_SECONDS] * len(work), jobs)
    imported = [Result(mutant=m, killed=c != _SURVIVED, reached=True) for m, c in zip(outside, codes, strict=True)]
    return sorted([*inside.values(), *imported], key=lambda one: one.mutant.line)


def _arguments(scratch: Path) -> list[str]:
    off = ("randomly", "cacheprovider", "xdist")
    plugins = [word for name in off for word in ("-p", f"no:{name}")]
    seed = ["--hypothesis-seed=0", "--timeout=0"]
    return [*plugins, *seed, "-q", "-m", "not alone and not catalogue", f"--basetemp={scratch / str(os.getpid())}"]


class _Session:
    """A pytest plugin: collects the tests once, and forks for each mutant of a function."""

    def __init__(self, module: str, path: Path, found: list[Mutant], jobs: int, scratch: Path) -> None:
        self._name, self._path, self.found = full_name(module), path, found
        self._jobs, self._scratch = jobs, scratch
        self._results: list[tuple[bool, bool]] | None = None

    def of(self, files: Sequence[str]) -> list[tuple[bool, bool]] | None:
        """Return killed and reached of each mutant; None: the tests do not pass as they are."""
        pytest.main([*_arguments(self._scratch), *files], plugins=[self])
        return self._results

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = [one for one in session.items if not _NEEDS_PROCESSES & set(getattr(one, "fixturenames", ()))]
        first = _answer(lambda: _reached(items, self._path), self._scratch / "reached")
        if first is None or session.testsfailed:
            return True
        functions, work, times, reached = _functions(self._name, self._path), [], [], []
        killers = memoryview(mmap.mmap(-1, 4 * max(1, len(self.found)))).cast("i")  # shared with the forks
        for number, one in enumerate(self.found):
            assert one.function is not None
            chosen = [(seconds, at) for at, (names, seconds) in enumerate(first) if one.function[0] in names]
            quickest = {at: items[at] for _, at in sorted(chosen)}
            reached.append(bool(chosen))
            work.append(self._try(number, functions, quickest, killers))
            times.append(_LEAST_SECONDS + _SLACK * sum(seconds for seconds, _ in chosen))
        codes = _pool(work, times, self._jobs)
        self._results = [(code != _SURVIVED, seen) for code, seen in zip(codes, reached, strict=True)]
        return True

    def _try(
        self,
        number: int,
        functions: dict[tuple[str, int], list[FunctionType]],
        items: dict[int, Any],
        killers: memoryview,
    ) -> Callable[[], int]:
        """Return what tries one mutant; tests that noticed those before it come first, then the quickest."""
        one = self.found[number]

        def attempt() -> int:
            if not items:
                return _SURVIVED
            try:
                new = _inner(one.code(str(self._path)), one.function)
            except SyntaxError:
                return _KILLED  # no test need notice what cannot be written
            for function in functions[one.function]:  # type: ignore[index]
                function.__code__ = new
            _use_folder(self._scratch / f"mutant-{number}", next(iter(items.values())))
            hints = [at - 1 for at in reversed(killers[:number].tolist()) if at - 1 in items]
            for at in dict.fromkeys([*hints, *items]):
                if _fails(items[at]):
                    killers[number] = at + 1
                    return _KILLED
            return _SURVIVED

        return attempt


def _use_folder(folder: Path, item: Any) -> None:
    """Have the tests of this process make their files in `folder`: those of its siblings would collide with them."""
    folder.mkdir()
    item.config._tmp_path_factory._basetemp = folder.resolve()


def _fails(item: Any) -> bool:
    try:
        reports = runtestprotocol(item, log=False, nextitem=None)
    except BaseException:  # noqa: BLE001 - whatever it is, it was noticed
        return True
    return any(report.failed for report in reports)


def _reached(items: list[Any], path: Path) -> list[tuple[frozenset[str], float]] | None:
    """Return which functions of `path` each test runs, and for how many seconds it runs; None: one fails."""
    found, seen, where = [], set[str](), str(path)

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename == where:
            seen.add(frame.f_code.co_qualname.partition(".<locals>")[0])

    for item in items:
        seen.clear()
        threading.setprofile(note)
        sys.setprofile(note)
        try:
            reports = runtestprotocol(item, log=False, nextitem=None)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
        if failed := [report for report in reports if report.failed]:
            sys.__stderr__.write(f"{item.nodeid}\n{failed[0].longreprtext}\n")  # type: ignore[union-attr]
            return None
        found.append((frozenset(seen), sum(report.duration for report in reports)))
    return found


def _functions(name: str, path: Path) -> dict[tuple[str, int], list[FunctionType]]:
    """Return the functions of a module that are alive, by qualified name and first line."""
    found: dict[tuple[str, int], list[FunctionType]] = {}
    for one in gc.get_objects():
        if isinstance(one, FunctionType) and one.__code__.co_filename == str(path) and one.__module__ == name:
            found.setdefault((one.__code__.co_qualname, one.__code__.co_firstlineno), []).append(one)
    return found


def _inner(code: CodeType, function: tuple[str, int] | None) -> CodeType:
    for one in _all_code(code):
        if (one.co_qualname, one.co_firstlineno) == function:
            return one
    raise LookupError(function)


def _all_code(code: CodeType) -> Iterator[CodeType]:
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield one
            yield from _all_code(one)


class _Loader(SourceFileLoader):
    """Loads one module with a change in it."""

    mutant: Mutant

    def get_code(self, fullname: str) -> CodeType | None:
        return self.mutant.code(self.path)


def _imported_with(name: str, path: Path, one: Mutant, files: Sequence[str], scratch: Path) -> Callable[[], int]:
    """Return what runs `files` in an interpreter that has imported nothing of ours yet, the change in place."""

    class Finder:
        @staticmethod
        def find_spec(fullname: str, *_: Any) -> ModuleSpec | None:
            if fullname != name:
                return None
            loader = _Loader(fullname, str(path))
            loader.mutant = one
            return importlib.util.spec_from_file_location(fullname, str(path), loader=loader)

    def attempt() -> int:
        sys.meta_path.insert(0, Finder)  # type: ignore[arg-type]
        code = pytest.main([*_arguments(scratch), "-x", *files], plugins=[_WithoutProcesses()])
        return _SURVIVED if code == pytest.ExitCode.OK else _KILLED

    return attempt


class _WithoutProcesses:
    """Leaves out what starts processes, as the session does."""

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [one for one in items if not _NEEDS_PROCESSES & set(getattr(one, "fixturenames", ()))]


def _answer(ask: Callable[[], Any], path: Path) -> Any:
    """Return what `ask` returns in a process of its own; None when that process fails."""

    def attempt() -> int:
        path.write_bytes(pickle.dumps(ask()))
        return 0

    [code] = _pool([attempt], [3600.0], 1, quiet=False)
    return pickle.loads(path.read_bytes()) if code == 0 else None  # noqa: S301 - our own


def _pool(work: Sequence[Callable[[], int]], times: Sequence[float], jobs: int, *, quiet: bool = True) -> list[int]:
    """Return the exit code of each piece of work, done in a process of its own with so many seconds for it."""
    codes, running = [1] * len(work), {}
    for number, (attempt, seconds) in enumerate(zip(work, times, strict=True)):
        while len(running) >= jobs:
            _wait(running, codes)
        running[_fork(attempt, seconds, quiet=quiet)] = number
    while running:
        _wait(running, codes)
    return codes


def _wait(running: dict[int, int], codes: list[int]) -> None:
    pid, status = os.wait()
    if pid in running:
        _end_group(pid)
        codes[running.pop(pid)] = os.waitstatus_to_exitcode(status)


def _end_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)  # what a killed test left running
    except ProcessLookupError:
        return


def _fork(attempt: Callable[[], int], seconds: float, *, quiet: bool) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        if quiet:
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
            nothing = os.open(os.devnull, os.O_RDWR)
            for number in (1, 2):
                os.dup2(nothing, number)
        code = attempt()
    except BaseException:  # noqa: BLE001 - a child must not go on as its parent
        traceback.print_exc()
    finally:
        os._exit(code)
    return 0
