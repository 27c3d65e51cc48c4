"""The last metrics of a command that ends before a scrape comes: pushed, or left in a file, where that is configured.

What fails is one line in the log. It changes no verdict and no exit code, and holds up nobody beyond its timeout.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from urllib.parse import urlsplit

import structlog

from kms_watchdog import metrics
from kms_watchdog.config import Settings, fingerprint
from kms_watchdog.drills.folder import DrillFolder
from kms_watchdog.drills.follow import Follower
from kms_watchdog.health import Subject
from kms_watchdog.results import Mode
from kms_watchdog.sinks.prometheus import Exposition, PrometheusSink
from kms_watchdog.sinks.series import round_series

log = structlog.get_logger("metrics")

ROUND_JOB, DRILL_JOB = "kms-watchdog-once", "kms-chaos"
"""The `job` of each command's metrics: neither takes the other's place, nor that of a scraped daemon."""
_DECLARED = tuple(metric for metric in metrics.PROMETHEUS if metric.labels)
"""A metric without labels would say 0 for a daemon that is not there."""
_MAX_ERROR_LENGTH = 200


def is_wanted(settings: Settings) -> bool:
    """Return whether metrics are to be left anywhere."""
    return settings.prometheus.push_url is not None or settings.prometheus.textfile is not None


def round_sink(settings: Settings, subjects: Sequence[Subject]) -> PrometheusSink:
    """Return what counts one round of live canaries, every series at 0."""
    exposition = Exposition(_DECLARED)
    by_key = settings.prometheus.counted_by_key
    exposition.create(round_series(subjects, settings.estate.regions, counted_by_key=by_key))
    sink = PrometheusSink(exposition, regions=settings.estate.regions, modes=[Mode.LIVE], counted_by_key=by_key)
    sink.begin()
    return sink


def leave_round(sink: PrometheusSink, settings: Settings) -> None:
    """Push and write what a round has found."""
    _leave(sink, settings, job=ROUND_JOB, grouping={})


def leave_drill(where: DrillFolder, settings: Settings) -> None:
    """Push and write what the journal of a drill says, as the daemon would show it."""
    if not is_wanted(settings):
        return
    sink = PrometheusSink(
        Exposition(_DECLARED),
        regions=settings.estate.regions,
        modes=[Mode.DRILL],
        counted_by_key=settings.prometheus.counted_by_key,
    )
    sink.begin()
    follower = Follower(settings.state.dir, results=[sink], events=[sink], drills=[sink])
    follower.follow_only(where)
    (view,) = follower.runs()
    _leave(sink, settings, job=DRILL_JOB, grouping={"drill": view.drill})


def _leave(sink: PrometheusSink, settings: Settings, *, job: str, grouping: Mapping[str, str]) -> None:
    sink.exposition.put(metrics.BUILD_INFO, version("kms-watchdog"), fingerprint(settings), value=1)
    grouping = {"instance": settings.monitor, **grouping}
    for place, leave in _places(sink.exposition, settings, job, grouping):
        if error := _within(settings.prometheus.push_timeout_seconds, leave):
            log.error("metrics.push_failed", to=place, error=error)


def _places(
    exposition: Exposition, settings: Settings, job: str, grouping: Mapping[str, str]
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Return where to, without credentials, and how."""
    to = settings.prometheus
    if to.push_url is not None:
        url = to.push_url.get_secret_value()
        seconds = to.push_timeout_seconds
        host = urlsplit(url).netloc.rpartition("@")[2]
        yield host, lambda: exposition.push(url, job=job, grouping=grouping, timeout_seconds=seconds)
    if (textfile := to.textfile) is not None:
        yield str(textfile), lambda: exposition.write_textfile(textfile)


def _within(seconds: float, act: Callable[[], None]) -> str:
    """Do `act` in a thread, and return what went wrong; empty when all is well.

    A server that sends a byte now and then never lets a timeout of the socket pass: hence a deadline of our own.
    """
    failed: list[str] = []

    def run() -> None:
        try:
            act()
        except Exception as e:  # noqa: BLE001 - the thread's border: HTTP has errors beyond OSError, and all are reported
            failed.append(" ".join(f"{type(e).__name__}: {e}".split())[:_MAX_ERROR_LENGTH])

    thread = threading.Thread(target=run, name="metrics-push", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        return f"not within {seconds:g} s"
    return failed[0] if failed else ""
