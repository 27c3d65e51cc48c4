"""The demo's processes: started on a leash, stopped in reverse order, each with a log of its own."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Self

from kms_core.clock import Clock
from kms_local import leash
from kms_local.admin_client import AdminError
from kms_local.demo.configuration import DemoFolder, configuration, credentials, read_endpoints
from kms_local.demo.roles import hand_over_roles

READY_SECONDS = 30.0
COMMAND_SECONDS = 60.0
STOP_SECONDS = 15.0  # a drill restores first, a daemon flushes its sinks
_LOOK_SECONDS = 0.05


class StageError(RuntimeError):
    """Something did not start or failed; the message names it and its log."""


class Stage:
    """Everything the demo starts. Leaving the context stops it all, newest first."""

    def __init__(self, folder: DemoFolder, clock: Clock) -> None:
        self._folder, self._clock = folder, clock
        self._stack = ExitStack()
        self._environment = dict(os.environ)
        self._daemon: leash.Leashed | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start_aws(self) -> None:
        """Start the local AWS, and write the configuration that points at it."""
        process = self._start("aws", "kms_local", "serve", "--dir", str(self._folder.aws))
        self._wait_for(self._folder.endpoints, process, "aws")
        endpoints = read_endpoints(self._folder)
        self._environment |= credentials(endpoints)
        self._environment.pop("AWS_PROFILE", None)
        self._folder.configuration.write_text(configuration(endpoints, self._folder), encoding="utf-8")

    def command(self, module: str, *arguments: str) -> None:
        """Run one command to its end.

        Raises:
            StageError: it failed.
        """
        name = f"{module.removeprefix('kms_')}-{arguments[0]}"
        code = self._start(name, module, *arguments, *self._config()).wait(COMMAND_SECONDS)
        if code != 0:
            raise self._failed(name, f"ended with exit code {code}")

    def hand_over_roles(self) -> None:
        """Give the local AWS the roles of the configuration; the keys must exist.

        Raises:
            StageError: it does not take them.
        """
        try:
            hand_over_roles(self._folder)
        except AdminError as e:
            raise self._failed("aws", f"does not take the roles: {e}") from e

    def start_pager(self) -> str:
        """Start who is told by the alarms; return the address to subscribe."""
        url_file = self._folder.path / "pager.url"
        pager = self._start("pager", "kms_local", "pager", "--url-file", str(url_file))
        self._wait_for(url_file, pager, "pager")
        return url_file.read_text(encoding="utf-8")

    def start_daemon(self) -> str:
        """Start the watchdog; return the address of its status page."""
        self._daemon = self._start("daemon", "kms_watchdog", "run", *self._config())
        address = self._folder.state / "http.json"
        self._wait_for(address, self._daemon, "daemon")
        return str(json.loads(address.read_text(encoding="utf-8"))["url"]).rstrip("/")

    def daemon_is_alive(self) -> None:
        """Do nothing.

        Raises:
            StageError: the daemon has ended.
        """
        if self._daemon is None or self._daemon.returncode is not None:
            raise self._failed("daemon", "has ended")

    def drill(self, name: str) -> int:
        """Run a drill on this terminal; return its exit code."""
        process = self._leashed(sys.executable, "-m", "kms_chaos", "run", name, *self._config())
        return process.wait()

    def wait_for_daemon(self) -> None:
        """Wait until the daemon ends, which it does when it is told to."""
        if self._daemon is not None:
            self._daemon.wait()

    def _config(self) -> tuple[str, str]:
        return "--config", str(self._folder.configuration)

    def _start(self, name: str, module: str, *arguments: str, **environment: str) -> leash.Leashed:
        return self._program(name, sys.executable, "-m", module, *arguments, **environment)

    def _program(self, name: str, *argv: str, **environment: str) -> leash.Leashed:
        """Start a program whose log is called `name`, with what its environment has besides everybody's."""
        log = self._stack.enter_context(self._folder.log(name).open("ab"))
        return self._leashed(*argv, output=log, **environment)

    def _leashed(self, *argv: str, output: IO[bytes] | None = None, **environment: str) -> leash.Leashed:
        process = leash.start(argv, env=self._environment | environment, stdout=output, stderr=output)
        self._stack.callback(process.terminate, STOP_SECONDS)
        return process

    def _wait_for(self, path: Path, process: leash.Leashed, name: str) -> None:
        deadline, never = self._clock.monotonic() + READY_SECONDS, threading.Event()
        while not path.exists():
            if process.returncode is not None:
                raise self._failed(name, f"ended with exit code {process.returncode}")
            if self._clock.monotonic() > deadline:
                raise self._failed(name, f"was not ready after {READY_SECONDS:.0f} s")
            self._clock.wait(never, _LOOK_SECONDS)

    def _failed(self, name: str, how: str) -> StageError:
        log = self._folder.log(name)
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
        return StageError(f"{name} {how}{f': {said[-1]}' if said else ''} (log: {log})")
