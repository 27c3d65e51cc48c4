"""Child processes that never outlive the process that started them, however that one ends.

    leashed = leash.start(["kms-watchdog", "run"], stdout=log)
    ...
    leashed.terminate(grace_seconds=5)

Between parent and child stands a guard, this very file run by path: it holds the reading end of a pipe whose writing
end only the parent has. When the pipe ends (the parent closed it, exited, or was killed with SIGKILL) the guard stops
the child's whole process group: SIGTERM, and SIGKILL after a grace. On Linux the kernel also sends the child SIGTERM if
the guard itself is killed. From a shell: `some-supervisor | python -m kms_local.leash --stdin -- command arguments`.

Standard library only, and nothing of ours: the guard must start in milliseconds.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

DEFAULT_GRACE_SECONDS = 5.0
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_LOOK_SECONDS = 0.05  # how often the guard looks whether a dying group is empty
_GUARD_MARGIN_SECONDS = 5.0  # how much longer than the grace a guard may take
_LOOKS_AFTER_KILL = 100  # a process that even SIGKILL does not end (it hangs in the kernel) is not waited for
_EXIT_CANNOT_START = 127
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_Stream = int | IO[bytes] | None


class LeashError(OSError):
    """The command could not be started."""


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    stdout: _Stream = None,
    stderr: _Stream = None,
) -> Leashed:
    """Start `argv` in a session of its own, on a leash.

    Raises:
        LeashError: the command cannot be started.
    """
    leash_read, leash_write = os.pipe()  # neither end is inherited by any other child
    status_read, status_write = os.pipe()
    flags = ["--leash-fd", str(leash_read), "--status-fd", str(status_write)]
    guard = subprocess.Popen(  # noqa: S603  starting what it is told is its purpose
        [sys.executable, "-I", "-S", __file__, *flags, "--", *argv],
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        pass_fds=(leash_read, status_write),
        start_new_session=True,
    )
    os.close(leash_read)
    os.close(status_write)
    with os.fdopen(status_read) as status:
        answer = status.readline().strip()
    if not answer.isdecimal():
        guard.wait()
        os.close(leash_write)
        raise LeashError(f"cannot start {argv[0]}: {answer or 'the guard ended'}")
    return Leashed(int(answer), guard, leash_write)


class Leashed:
    """A child on a leash."""

    def __init__(self, pid: int, guard: subprocess.Popen[bytes], leash: int) -> None:
        self.pid = pid  # the child's own, and its process group's
        self._guard = guard
        self._leash: int | None = leash

    @property
    def returncode(self) -> int | None:
        """The child's exit code, negative for a signal; None while it runs."""
        return self._guard.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the child and its whole group, and return its exit code.

        Raises:
            subprocess.TimeoutExpired: after `timeout` seconds.
        """
        returncode = self._guard.wait(timeout)
        self._let_go()
        return returncode

    def terminate(self, grace_seconds: float = DEFAULT_GRACE_SECONDS) -> int:
        """Stop the child's group, with SIGKILL after `grace_seconds`, and return the child's exit code."""
        if self._leash is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._leash, f"{grace_seconds}\n".encode())
        try:
            return self.wait(grace_seconds + _GUARD_MARGIN_SECONDS)
        except subprocess.TimeoutExpired:  # the guard itself is stuck, or was stopped
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._guard.kill()
            return self.wait()

    def _let_go(self) -> None:
        if self._leash is not None:
            os.close(self._leash)
            self._leash = None


def stop_with_parent(number: signal.Signals = signal.SIGTERM) -> bool:
    """Ask the kernel to send this process `number` when its parent dies; False where that is impossible.

    Linux only; "parent" is the *thread* that started this process, so a parent that starts it from a short-lived thread
    stops it too early.
    """
    return _prctl(_PR_SET_PDEATHSIG, int(number))


def _prctl(option: int, argument: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0) == 0)


# -- the guard: what runs between parent and child ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _GuardFlags:
    leash: int | None
    status: int | None
    grace_seconds: float
    argv: list[str]


class _Guard:
    """Watches over one child; single-threaded, woken by signals through a pipe."""

    def __init__(self, flags: _GuardFlags) -> None:
        self._leash = flags.leash
        self._grace_seconds = flags.grace_seconds
        self._wake, self._signals = _signal_pipe()
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # the child's orphans become ours, so that we see the group's end at once
        self._child = subprocess.Popen(  # noqa: S603  running what it is told is its purpose
            flags.argv,
            start_new_session=True,
            preexec_fn=stop_with_parent,  # noqa: PLW1509  one thread: safe
        )

    @property
    def child_pid(self) -> int:
        return self._child.pid

    def run(self) -> int:
        """Watch until the group is gone; return the child's exit code."""
        while self._child.poll() is None and not self._asked_to_stop():
            pass
        self._stop_group()
        return self._child.wait()

    def _asked_to_stop(self) -> bool:
        """Wait for something to happen, and say whether it was the end of the leash or a signal to stop."""
        watched = [self._wake] if self._leash is None else [self._wake, self._leash]
        ready, _, _ = select.select(watched, [], [])
        if self._wake in ready and any(number in _STOPPING for number in os.read(self._wake, 64)):
            return True
        return self._leash in ready and self._read_leash()

    def _read_leash(self) -> bool:
        """Take a message off the leash: a grace in seconds, or the end; either way it is time to stop."""
        message = os.read(self._leash, 64) if self._leash is not None else b""
        with contextlib.suppress(ValueError):
            self._grace_seconds = float(message)
        return True

    def _stop_group(self) -> None:
        """End what is left of the child's group, politely at first."""
        if not self._signal_group(signal.SIGTERM):
            return
        looks_after_kill: int | None = None
        signal.setitimer(signal.ITIMER_REAL, max(self._grace_seconds, _LOOK_SECONDS))
        while self._signal_group(0) and looks_after_kill != 0:
            ready, _, _ = select.select([self._wake], [], [], _LOOK_SECONDS)
            if ready and signal.SIGALRM in os.read(self._wake, 64):
                self._signal_group(signal.SIGKILL)
                looks_after_kill = _LOOKS_AFTER_KILL
            elif looks_after_kill is not None:
                looks_after_kill -= 1
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _signal_group(self, number: int) -> bool:
        """Signal the group, 0 only looks; say whether anybody is in it."""
        if self._child.poll() is not None:  # who is dead and not waited for would still count
            self._reap_orphans()
        try:
            os.killpg(self._child.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS says "permission" of a group of zombies
            return False
        return True

    def _reap_orphans(self) -> None:
        """Wait for the dead of the group that have become children of the guard."""
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-self._child.pid, os.WNOHANG)[0]:
                pass


def _signal_pipe() -> tuple[int, int]:
    """Return a pipe into which the number of every signal that concerns a guard is written."""
    wake, signals = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(signals, False)
    signal.set_wakeup_fd(signals, warn_on_full_buffer=False)
    for number in (*_STOPPING, signal.SIGCHLD, signal.SIGALRM):
        signal.signal(number, _ignore)
    return wake, signals


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Let the pipe speak."""


def _end_like(returncode: int) -> None:
    """End this process as the child ended, by the same signal if it was one."""
    if returncode >= 0:
        sys.exit(returncode)
    number = -returncode
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _parse(arguments: Sequence[str]) -> _GuardFlags:
    parser = argparse.ArgumentParser(
        prog="python -m kms_local.leash", description="Run a command that is stopped, its whole group, with its parent."
    )
    parser.add_argument("--stdin", action="store_true", help="stop the command when standard input ends")
    parser.add_argument(
        "--grace", type=float, default=DEFAULT_GRACE_SECONDS, help="seconds between SIGTERM and SIGKILL"
    )
    parser.add_argument("--leash-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--status-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("command", nargs="+")
    given = parser.parse_args(arguments)
    leash: int | None = sys.stdin.fileno() if given.stdin else given.leash_fd
    return _GuardFlags(leash=leash, status=given.status_fd, grace_seconds=given.grace, argv=given.command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run as a guard."""
    flags = _parse(sys.argv[1:] if arguments is None else arguments)
    if flags.leash is None:
        stop_with_parent()
    try:
        guard = _Guard(flags)
    except OSError as e:
        _tell(flags.status, e.strerror or str(e))
        sys.exit(_EXIT_CANNOT_START)
    _tell(flags.status, str(guard.child_pid))
    _end_like(guard.run())


def _tell(status: int | None, line: str) -> None:
    """Tell the parent, or the terminal if it is bad news and there is no such parent."""
    if status is not None:
        os.write(status, f"{line}\n".encode())
        os.close(status)
    elif not line.isdecimal():
        sys.stderr.write(f"cannot start the command: {line}\n")


if __name__ == "__main__":
    main()
