"""`kms-watchdog run`: the daemon, until SIGTERM or SIGINT; SIGHUP reloads the configuration."""

from __future__ import annotations

import functools
import os
import queue
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Self

import click
import structlog

from kms_core import ConfigurationError, SystemClock
from kms_core.clock import Clock
from kms_watchdog import logs
from kms_watchdog.commands.options import Stop, chosen_estate, config_option, load_settings
from kms_watchdog.config import Settings, load_document
from kms_watchdog.daemon import Daemon
from kms_watchdog.reload import Reloading
from kms_watchdog.service_manager import ServiceManager
from kms_watchdog.state_folder import StateError, StateFolder
from kms_watchdog.web.app import application
from kms_watchdog.web.page import Page
from kms_watchdog.web.server import ListenError, WebServer, bind, url_of

log = structlog.get_logger("daemon")

SUPERVISE_SECONDS = 1.0
NOT_RESTORED = 75
"""EX_TEMPFAIL: a drill is still restoring; the next start heals what it leaves behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """How the daemon ended."""

    threads_ended: bool
    drills_restored: bool
    """Whether every drill that it started has undone its faults and ended."""


@click.command(
    "run",
    epilog="""\b
Examples:
  kms-watchdog run --config watchdog.toml
  kms-watchdog run --estate staging
  kill -HUP "$(cat /var/lib/kms-watchdog/daemon.lock)"      # reads the configuration again""",
)
@config_option
def command(config_path: Path) -> None:
    """Run the watchdog in the foreground until SIGTERM or SIGINT.

    Logs go to stderr. The address of the status page is in the log event `daemon.listening` and in http.json in the
    state folder. SIGHUP reads the configuration again: a bad one changes nothing and is told in the log and in
    config_last_reload_successful. Under systemd it tells when it is ready, and every second that it is alive.

    Exit code 0: stopped as asked; 2: it could not start, with one line that says why; 75: stopped while a drill was
    still restoring, which the next start heals.
    """
    settings, clock = load_settings(config_path), SystemClock()
    estate = load_document(config_path, chosen_estate()).document.estate
    logs.configure(settings.log, clock)

    def again() -> Settings:
        try:
            return load_settings(config_path)
        except Stop as e:
            raise ConfigurationError(e.message) from e

    try:
        stopped = serve(settings, config_path.resolve(), clock, estate=estate, load=again)
    except (StateError, ListenError, ConfigurationError) as e:
        raise Stop(str(e)) from e
    sys.stdout.flush()
    sys.stderr.flush()
    if not stopped.drills_restored:
        os._exit(NOT_RESTORED)
    if not stopped.threads_ended:
        os._exit(0)  # a canary still hangs on a dead region: the interpreter would wait for its thread


def serve(settings: Settings, config_path: Path, clock: Clock, *, estate: str, load: Callable[[], Settings]) -> Stopped:
    """Run until asked to stop; return how it ended. `load` reads the configuration again.

    Raises:
        StateError, ListenError, kms_core.errors.ConfigurationError: it cannot start; nothing is left behind.
    """
    folder, manager = StateFolder(settings.state.dir), ServiceManager(os.environ)
    folder.prepare()

    def build(settings: Settings, before: Daemon | None = None) -> Daemon:
        return Daemon(settings, config_path, folder, clock, estate=estate, before=before)

    with ExitStack() as stack:
        stack.enter_context(folder.owned())
        listener = bind(*settings.http.address)
        stack.callback(listener.close)
        signals = stack.enter_context(_Signals(clock))
        log.info("daemon.starting", config=str(config_path), sqlite=sqlite3.sqlite_version, pid=os.getpid())
        running = Reloading(
            build(settings),
            load=load,
            build=build,
            set_log=functools.partial(logs.configure, clock=clock),
            hurry=lambda: signals.ending,
        )
        server = WebServer(application(running.watched, Page(), with_metrics=settings.prometheus.enabled), listener)
        server.start()
        running.start()
        url = url_of(listener)
        stack.callback(folder.forget_url)
        _tell_url(folder, url)
        log.info("daemon.listening", url=url)
        manager.ready()
        while (asked := signals.next(SUPERVISE_SECONDS)) is None or asked.number not in _ENDING:
            if asked is not None:
                running.reload()
            running.supervise()
            manager.tell_alive(running.alive)
        log.info("daemon.stopping")
        manager.stopping()
        restored = running.end_drills()
        server.stop()
        ended = running.stop(spent_seconds=clock.monotonic() - asked.at)
        log.info("daemon.stopped", threads_ended=ended, drills_restored=restored)
        return Stopped(threads_ended=ended, drills_restored=restored)


def _tell_url(folder: StateFolder, url: str) -> None:
    try:
        folder.tell_url(url)
    except StateError as e:  # it watches all the same; whoever reads the file finds none
        log.error("daemon.address_not_told", why=str(e))  # noqa: TRY400 - the text says it all


_ENDING = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class _Signal:
    """A signal, and the monotonic time at which it came."""

    number: int
    at: float


class _Signals:
    """SIGTERM, SIGINT and SIGHUP wait in a queue instead of raising in the middle of something."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.ending = False
        """Whether a signal that ends has come, seen or not."""
        self._received: queue.SimpleQueue[_Signal] = queue.SimpleQueue()  # which may be put to from a handler
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in (*_ENDING, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type] # what signal() returned

    def next(self, seconds: float) -> _Signal | None:
        """Return what to do next; None: no signal has come in `seconds`.

        Of many that wait, the first that ends goes before all others, and any number of SIGHUP is one: a reload takes
        seconds.
        """
        waiting: list[_Signal] = []
        with suppress(queue.Empty):
            waiting.append(self._received.get(timeout=seconds))
            while True:
                waiting.append(self._received.get_nowait())
        ending = (one for one in waiting if one.number in _ENDING)
        return next(ending, waiting[0] if waiting else None)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.ending = self.ending or number in _ENDING
        self._received.put(_Signal(number, self._clock.monotonic()))
