"""`kms-watchdog run`: the daemon, until SIGTERM or SIGINT."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import click
import structlog

from kms_core import ConfigurationError, SystemClock
from kms_core.clock import Clock
from kms_watchdog import logs
from kms_watchdog.commands.options import Stop, config_option, load_settings
from kms_watchdog.config import Settings
from kms_watchdog.daemon import Daemon
from kms_watchdog.state_folder import StateError, StateFolder
from kms_watchdog.web.app import application
from kms_watchdog.web.page import Page
from kms_watchdog.web.server import ListenError, WebServer, bind, url_of

log = structlog.get_logger("daemon")

WAKE_SECONDS = 60.0


@click.command("run", epilog="Example:  kms-watchdog run --config watchdog.toml")
@config_option
def command(config_path: Path) -> None:
    """Run the watchdog in the foreground until SIGTERM or SIGINT.

    Logs go to stderr. The address of the status page is in the log event `daemon.listening` and in http.json in the
    state folder. Exit code 0: stopped as asked; 2: it could not start, with one line that says why.
    """
    settings = load_settings(config_path)
    clock = SystemClock()
    logs.configure(settings.log, clock)
    try:
        ended = serve(settings, config_path.resolve(), clock)
    except (StateError, ListenError, ConfigurationError) as e:
        raise Stop(str(e)) from e
    sys.stdout.flush()
    sys.stderr.flush()
    if not ended:
        os._exit(0)  # a canary still hangs on a dead region: the interpreter would wait for its thread


def serve(settings: Settings, config_path: Path, clock: Clock) -> bool:
    """Run until asked to stop; return whether every thread has ended.

    Raises:
        StateError, ListenError, kms_core.errors.ConfigurationError: it cannot start; nothing is left behind.
    """
    folder = StateFolder(settings.state.dir)
    folder.prepare()
    stopping = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(folder.owned())
        listener = bind(*settings.http.address)
        stack.callback(listener.close)
        stack.enter_context(_StopOnSignal(stopping))
        log.info("daemon.starting", config=str(config_path), sqlite=sqlite3.sqlite_version, pid=os.getpid())
        daemon = Daemon(settings, config_path, folder, clock)
        server = WebServer(application(daemon, Page(), with_metrics=settings.prometheus.enabled), listener)
        server.start()
        daemon.start()
        url = url_of(listener)
        folder.tell_url(url)
        stack.callback(folder.forget_url)
        log.info("daemon.listening", url=url)
        while not clock.wait(stopping, WAKE_SECONDS):
            pass
        log.info("daemon.stopping")
        server.stop()
        ended = daemon.stop()
        log.info("daemon.stopped", threads_ended=ended)
        return ended


class _StopOnSignal:
    """SIGTERM and SIGINT set an event instead of raising in the middle of something."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._before: dict[int, object] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._stop)

    def __exit__(self, *_exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type] # what signal() returned

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping.set()
