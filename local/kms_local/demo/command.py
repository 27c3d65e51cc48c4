"""The command: its flags, its steps in order, its exit code, and the promise that nothing is left running."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
from rich.console import Console

from kms_core.clock import SystemClock
from kms_local.demo.canaries import wait_until_green
from kms_local.demo.configuration import DemoFolder
from kms_local.demo.parent import end_with_parent
from kms_local.demo.stage import Stage, StageError

EXIT_USAGE = 2
EXIT_INTERRUPTED = 3
DRILL = "region-blackhole"
_EPILOG = """\b
Examples:
  kms-local demo           stay up after the drill, until Ctrl-C
  kms-local demo --once    end after the drill, with its exit code: 0 held, 1 broke, 3 could not tell
"""


class Stopped(BaseException):
    """A signal asked the demo to end."""


@click.command("demo", epilog=_EPILOG)
@click.option("--once", is_flag=True, help="End after the drill, with the drill's own exit code.")
@click.option(
    "--dir",
    "parent",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".state/demo"),
    show_default=True,
    help="Where each run gets a folder of its own; reports and logs stay there.",
)
@click.option("--stop-with-parent", is_flag=True, help="End when the process that started this one ends.")
def command(*, once: bool, parent: Path, stop_with_parent: bool) -> None:
    """Run the watchdog over three local regions, break one of them on purpose, and judge what happened."""
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    with signals():
        if stop_with_parent:
            end_with_parent()
        try:
            sys.exit(_run(console, parent, once=once))
        except Stopped:
            sys.exit(EXIT_INTERRUPTED)
        except StageError as e:
            click.echo(f"kms-local demo: {e}", err=True)
            sys.exit(EXIT_USAGE)


def _run(console: Console, parent: Path, *, once: bool) -> int:
    clock = SystemClock()
    folder = DemoFolder.create(parent, clock.now_utc())
    with Stage(folder, clock) as stage:
        _say(console, "a local AWS: KMS, CloudWatch, SNS in three regions over TLS, and a Toxiproxy")
        stage.start_aws()
        _say(console, "three multi-Region keys, replicas, aliases, rotation: kms-watchdog provision apply")
        stage.command("kms_watchdog", "provision", "apply", "--yes", "--steps", "keys,aliases,rotation")
        _say(console, "the roles that may use them, as the product renders them for IAM")
        stage.hand_over_roles()
        _say(console, "the alarms, live and drill: kms-alarms apply")
        stage.command("kms_alarms", "apply", "--yes")
        _say(console, "somebody who listens to them: kms-alarms subscribe (it writes to pager.log)")
        stage.command("kms_alarms", "subscribe", stage.start_pager())
        stage.command("kms_alarms", "render", "--into", str(folder.alarms))
        _say(console, "the daemon: kms-watchdog run")
        url = stage.start_daemon()
        _say(console, f"canaries in every region, through the crypto core ([link={url}]{url}[/link])")
        wait_until_green(console, url, clock, stage.daemon_is_alive)
        _say(console, f"the drill: kms-chaos run {DRILL}")
        code = stage.drill(DRILL)
        if not once:
            _stay(console, stage, url)
    return code


def _stay(console: Console, stage: Stage, url: str) -> None:
    console.print(f"\nStill running: status page {url}/ and metrics {url}/metrics. Ctrl-C ends it.")
    try:
        stage.wait_for_daemon()
    except Stopped:
        console.print("Stopping.")


def _say(console: Console, step: str) -> None:
    console.print(f"[bold cyan]»[/] {step}")


@contextmanager
def signals() -> Iterator[None]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into `Stopped`; ignore those that come while everything is stopped."""
    asked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in asked:
            signal.signal(number, signal.SIG_IGN)
        raise Stopped

    before = {number: signal.signal(number, stop) for number in asked}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
