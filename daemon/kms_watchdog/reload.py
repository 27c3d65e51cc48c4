"""SIGHUP: the configuration is read again while the watchdog runs; a bad one changes nothing.

Canaries, intervals, targets, the core's settings, CloudWatch, the schedule of drills and the log change at once. What
the process was built around cannot (`FIXED`): the new file is refused then, with a line that names it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, cast

import structlog

from kms_core import ConfigurationError
from kms_core.clock import Clock
from kms_watchdog import metrics
from kms_watchdog.config import ConfigError, Log, Settings
from kms_watchdog.daemon import Daemon
from kms_watchdog.state_folder import StateError
from kms_watchdog.web.app import Watched

log = structlog.get_logger("daemon")

FIXED = (("state", "dir"), ("http",), ("prometheus", "enabled"), ("replicas", "place"))


class Reloading:
    """The daemon that runs now. `reload`, `supervise` and `stop` are called in the main thread; all else from any."""

    def __init__(
        self,
        daemon: Daemon,
        *,
        load: Callable[[], Settings],
        build: Callable[[Settings, Daemon], Daemon],
        set_log: Callable[[Log], object],
        hurry: Callable[[], bool] = lambda: False,
    ) -> None:
        """Begin with `daemon`.

        Args:
            daemon: what runs first; it need not have begun.
            load: reads and checks the configuration.
            build: makes the daemon that takes over from another.
            set_log: makes the process log as it is told to.
            hurry: whether the process shall end, so that a reload under way must wait for nothing.
        """
        self._hurry = hurry
        self._daemon, self._load, self._build, self._set_log = daemon, load, build, set_log
        self._clock: Clock = daemon.clock
        self._threads_ended = True
        """Of all daemons that another took over from: one of their looks may hang still."""
        self._tell(ok=True)

    def __getattr__(self, name: str) -> Any:
        """Return what the daemon that runs now has by that name: whoever serves it need not know of reloads."""
        return getattr(self._daemon, name)

    @property
    def watched(self) -> Watched:
        """What is served, whichever daemon runs."""
        return cast("Watched", self)

    def reload(self) -> bool:
        """Read the configuration again and go on with it; return whether it was taken. The old one stays if not."""
        try:
            settings = self._load()
            if refused := unchangeable(self._daemon.settings, settings):
                raise ConfigError(f"{refused}: cannot change without a restart")  # noqa: TRY301 - one way to refuse
            daemon = self._build(settings, self._daemon)
        except (ConfigError, ConfigurationError, StateError) as e:
            log.error("config.refused", why=" ".join(str(e).split()))  # noqa: TRY400 - the line says it all
            self._tell(ok=False)
            return False
        except Exception as e:  # whatever else keeps a part from being built must not end the daemon that runs well
            log.exception("config.refused", why=type(e).__name__)
            self._tell(ok=False)
            return False
        self._set_log(settings.log)
        ended = daemon.take_over(self._daemon, hurry=self._hurry)
        self._daemon = daemon
        self._threads_ended = self._threads_ended and ended
        self._tell(ok=True)
        log.info("config.reloaded", canaries=len(daemon.canaries), threads_ended=ended)
        return True

    def supervise(self) -> None:
        """Look after the scheduler from outside it."""
        self._daemon.supervise()

    def end_drills(self) -> bool:
        """Tell drills to restore and end; return whether all have."""
        return self._daemon.end_drills()

    def stop(self, *, spent_seconds: float = 0.0) -> bool:
        """Stop the daemon that runs now; return whether every thread is known to have ended, of those before it too."""
        return self._daemon.stop(spent_seconds=spent_seconds) and self._threads_ended

    def _tell(self, *, ok: bool) -> None:
        exposition = self._daemon.exposition
        exposition.put(metrics.CONFIG_RELOAD_OK, value=ok)
        if ok:
            exposition.put(metrics.CONFIG_RELOADED, value=self._clock.now_utc().timestamp())


def unchangeable(before: Settings, after: Settings) -> str:
    """Return the first key that differs and may not; empty: none does."""
    for path in FIXED:
        old, new = (reduce(getattr, path, settings) for settings in (before, after))
        if old != new:
            fields = type(old).model_fields if len(path) == 1 else ()
            below = next((f".{name}" for name in fields if getattr(old, name) != getattr(new, name)), "")
            return ".".join(path) + below
    return ""
