"""What holds for every test."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from kms_watchdog import aws

# Machines are busy: how long an example takes says nothing. All else stays, as the default and CI's profile have it.
settings.register_profile("unhurried", settings.default, deadline=None)
settings.load_profile("unhurried")


class TellsAtOnce:
    """Names each test that fails when it does: a run that is cut off would take what it knew with it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.failed:
            return
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        crash = getattr(report.longrepr, "reprcrash", None)
        lines = str(crash.message if crash else report.longrepr).splitlines()
        terminal.write_line(f"\n{report.when} of {report.nodeid} failed: {' '.join(lines[:3])[:500]}")


def pytest_configure(config: pytest.Config) -> None:
    """Let failures be told at once, by the process that has the terminal."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(TellsAtOnce(config))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let files that take long begin first, with `--no-loadscope-reorder`: one that is last is waited for alone."""
    items.sort(key=lambda item: -_minutes(item))


def _minutes(item: pytest.Item) -> float:
    mark = item.get_closest_marker("minutes")
    return mark.args[0] if mark else 0.0


@pytest.fixture(autouse=True)
def undo_logging() -> Iterator[None]:
    """Undo what a command run inside a test configured: the next test's logs are its own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def forget_credentials() -> Iterator[None]:
    """Forget the session that keeps the credentials it has found: the next test's local AWS has others."""
    yield
    aws._session.cache_clear()
