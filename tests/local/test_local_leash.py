"""Leashes: children that never outlive the process that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kms_local import leash

PYTHON = sys.executable

STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdout.write(f"{os.getpid()}\\n"); sys.stdout.flush()
signal.pause()
"""
FAMILY = """
import os, subprocess, sys, signal
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
sys.stdout.write(f"{child.pid}\\n"); sys.stdout.flush()
child.wait()
"""
PARENT = """
import subprocess, sys
from kms_local import leash
leashed = leash.start([sys.executable, "-c", {child!r}], stdout=sys.stdout)
leashed.wait()
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("code", [0, 1, 3, 42])
def test_the_exit_code_passes_through(code: int) -> None:
    """What the child exits with is what one gets."""
    leashed = leash.start([PYTHON, "-c", f"raise SystemExit({code})"])

    assert leashed.wait(20) == code
    assert leashed.returncode == code


def test_a_signal_passes_through() -> None:
    """A child that dies of a signal looks as if there were no guard between."""
    leashed = leash.start([PYTHON, "-c", "import signal; signal.pause()"])
    os.kill(leashed.pid, signal.SIGKILL)

    assert leashed.wait(20) == -signal.SIGKILL


def test_output_directory_and_environment_pass_through(tmp_path: Path) -> None:
    """stdout, cwd and env are the child's."""
    with (tmp_path / "out").open("wb") as out:
        script = "import os; print(os.getcwd(), os.environ['COLOUR'])"
        leashed = leash.start([PYTHON, "-c", script], env={"COLOUR": "blue"}, cwd=tmp_path, stdout=out)
        assert leashed.wait(20) == 0

    assert (tmp_path / "out").read_text().split() == [str(tmp_path.resolve()), "blue"]


def test_a_command_that_does_not_exist_is_an_error() -> None:
    """`start` says so at once, instead of a child that dies later."""
    with pytest.raises(leash.LeashError, match="no-such-command"):
        leash.start(["/nowhere/no-such-command"])


def test_terminate_ends_the_whole_family(tmp_path: Path, eventually: Callable[..., None]) -> None:
    """Grandchildren end too."""
    with (tmp_path / "out").open("wb") as out:
        leashed = leash.start([PYTHON, "-c", FAMILY], stdout=out)
    eventually(lambda: (tmp_path / "out").read_text().endswith("\n"))
    grandchild = int((tmp_path / "out").read_text())

    assert leashed.terminate(grace_seconds=5) == -signal.SIGTERM
    assert not alive(grandchild)


def test_a_stubborn_child_is_killed_after_the_grace(tmp_path: Path, eventually: Callable[..., None]) -> None:
    """Who ignores SIGTERM gets SIGKILL."""
    with (tmp_path / "out").open("wb") as out:
        leashed = leash.start([PYTHON, "-c", STUBBORN], stdout=out)
    eventually(lambda: (tmp_path / "out").read_text().endswith("\n"))

    assert leashed.terminate(grace_seconds=0.2) == -signal.SIGKILL


def test_terminating_twice_is_harmless() -> None:
    """A child that has ended already keeps its exit code."""
    leashed = leash.start([PYTHON, "-c", "raise SystemExit(3)"])
    assert leashed.wait(20) == 3

    assert leashed.terminate() == 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_when_the_parent_dies_the_child_dies(number: signal.Signals, eventually: Callable[..., None]) -> None:
    """Even SIGKILL of the parent takes the child, and the child's children, with it."""
    parent = subprocess.Popen([PYTHON, "-c", PARENT.format(child=FAMILY)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    grandchild = int(parent.stdout.readline())
    assert alive(grandchild)

    parent.send_signal(number)

    parent.wait(10)
    eventually(lambda: not alive(grandchild))
    parent.stdout.close()


def test_when_the_guard_dies_the_child_dies(eventually: Callable[..., None]) -> None:
    """On Linux the kernel ends the child even if its guard is killed."""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux tells a child of its parent's death")
    leashed = leash.start([PYTHON, "-c", "import signal; signal.pause()"])

    leashed._guard.kill()  # no public name reaches the guard, on purpose

    eventually(lambda: not alive(leashed.pid))
    leashed.wait(10)


def test_from_a_shell_the_end_of_stdin_ends_the_command() -> None:
    """`python -m kms_local.leash --stdin -- command` runs until its standard input ends."""
    leashed = subprocess.Popen(
        [PYTHON, "-m", "kms_local.leash", "--stdin", "--", PYTHON, "-c", "import signal; signal.pause()"],
        stdin=subprocess.PIPE,
    )
    assert leashed.stdin is not None
    assert leashed.poll() is None

    leashed.stdin.close()

    assert leashed.wait(20) == -signal.SIGTERM


def test_a_child_that_ends_leaves_nothing_running(tmp_path: Path) -> None:
    """When the child is done, what it left in its group is stopped as well."""
    script = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']);"
        "print(child.pid)"
    )
    with (tmp_path / "out").open("wb") as out:
        leashed = leash.start([PYTHON, "-W", "ignore", "-c", script], stdout=out)

    assert leashed.wait(20) == 0
    assert not alive(int((tmp_path / "out").read_text()))
