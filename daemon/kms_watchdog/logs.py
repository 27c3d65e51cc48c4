"""Logs: events, one JSON object a line, or a readable colour form on a terminal."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from kms_core.clock import Clock
from kms_watchdog.config import Log


def configure(settings: Log, clock: Clock) -> None:
    """Send every log event of this process to stderr, those of the standard library's loggers too."""
    on_terminal = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        _stamp(clock),
    ]
    tail = _console() if on_terminal else _json()
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
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("botocore", "boto3", "urllib3", "asyncio", "uvicorn", "tzlocal"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


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


def _console() -> list[Processor]:
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        _without_none,
        structlog.dev.ConsoleRenderer(timestamp_key="at_utc", pad_event_to=24),
    ]


def _in_order(_logger: Any, _name: str, event: EventDict) -> EventDict:
    """Put what every line has first; leave out what is not known."""
    first = {name: event.pop(name) for name in ("at_utc", "level", "event") if name in event}
    return first | {name: value for name, value in event.items() if value is not None}


def _without_none(_logger: Any, _name: str, event: EventDict) -> EventDict:
    return {name: value for name, value in event.items() if value is not None}
