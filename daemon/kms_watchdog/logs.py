"""Logs: events, one JSON object a line, or a readable colour form on a terminal."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from kms_core.clock import Clock
from kms_watchdog.config import Log
from kms_watchdog.terminal import one_line

LEVELS = ("debug", "info", "warning", "error", "critical")


def configure(settings: Log, clock: Clock) -> None:
    """Send every log event of this process to stderr, those of the standard library's loggers too.

    Colours are for terminals alone, and for those without NO_COLOR (no-color.org).
    """
    on_terminal = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        _stamp(clock),
    ]
    colours = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    tail = _console(colours=colours) if on_terminal else _json()
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=tail))
    root = logging.getLogger()
    root.handlers[:] = [handler, *(other for other in root.handlers if isinstance(other, _LineCounter))]
    root.setLevel(level)
    for chatty in ("botocore", "boto3", "urllib3", "asyncio", "uvicorn", "tzlocal"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def count_lines(tell: Callable[[str], object]) -> Callable[[], None]:
    """Have `tell` given the level of every line from now on; return what ends that. `tell` must not log."""
    counter = _LineCounter(tell)
    logging.getLogger().addHandler(counter)
    return lambda: logging.getLogger().removeHandler(counter)


class _LineCounter(logging.Handler):
    def __init__(self, tell: Callable[[str], object]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Tell the level: the highest of the known ones that the line reaches."""
        reached = [level for level in LEVELS if logging.getLevelNamesMapping()[level.upper()] <= record.levelno]
        self._tell(reached[-1] if reached else LEVELS[0])


def _stamp(clock: Clock) -> Processor:
    def stamp(_logger: Any, _name: str, event: EventDict) -> EventDict:
        event["at_utc"] = clock.now_utc().isoformat(timespec="milliseconds")
        return event

    return stamp


def _json() -> list[Processor]:
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _in_order,
        structlog.processors.JSONRenderer(),
    ]


def _console(*, colours: bool) -> list[Processor]:
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        _without_none,
        _one_line,
        structlog.dev.ConsoleRenderer(
            timestamp_key="at_utc",
            pad_event_to=24,
            colors=colours,
            # The default draws the values of local variables when rich is installed: key material among them.
            exception_formatter=structlog.dev.plain_traceback,
        ),
    ]


def _in_order(_logger: Any, _name: str, event: EventDict) -> EventDict:
    """Put what every line has first; leave out what is not known."""
    first = {name: event.pop(name) for name in ("at_utc", "level", "event") if name in event}
    return first | {name: value for name, value in event.items() if value is not None}


def _without_none(_logger: Any, _name: str, event: EventDict) -> EventDict:
    return {name: value for name, value in event.items() if value is not None}


def _one_line(_logger: Any, _name: str, event: EventDict) -> EventDict:
    """Spell out what would begin another line, or act on the terminal: some words come from servers and files."""
    return {name: one_line(value) if isinstance(value, str) else value for name, value in event.items()}
