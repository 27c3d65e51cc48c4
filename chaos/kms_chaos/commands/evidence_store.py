"""`kms-chaos evidence push|public-key|golden`: what is waiting goes to the store, and golden messages both ways."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from kms_chaos.commands.options import BAD, REFUSED, UNCLEAR, config_option, explained, load
from kms_chaos.drill import DrillError
from kms_chaos.evidence import golden, sending
from kms_chaos.evidence.segments import Cut
from kms_chaos.evidence.signing import SigningError, SigningRefusedError, signer
from kms_core.clock import SystemClock
from kms_watchdog.config import Settings
from kms_watchdog.evidence.choice import open_store
from kms_watchdog.evidence.store import Store, StoreError, StoreRefusedError
from kms_watchdog.golden_store import GoldenError, VisitedGoldenStore
from kms_watchdog.state_folder import StateError, StateFolder


@contextmanager
def _told() -> Iterator[None]:
    """Turn what can go wrong with store and key into one line and the exit code that it deserves."""
    with explained():
        try:
            yield
        except (StoreRefusedError, SigningRefusedError, StateError) as e:
            _stop(e, REFUSED)
        except (StoreError, SigningError, GoldenError) as e:
            _stop(e, UNCLEAR)


def _stop(error: Exception, code: int) -> None:
    click.echo(f"kms-chaos: {' '.join(str(error).split())}", err=True)
    raise SystemExit(code) from error


def _checked_store(settings: Settings) -> Store:
    store = open_store(settings, SystemClock())
    if store is None:
        raise DrillError("drills.evidence.store is not configured: there is nowhere to send evidence")
    store.check()
    return store


@click.command("push")
@config_option
def push_command(config: Path) -> None:
    """Sign and send what drills could not, as when the store was out of reach. Harmless when nothing is waiting.

    \b
    Exit codes: 0 all of it is where it belongs; 1 some is not; 2 usage; 3 the store is out of reach; 4 it is not fit.
    """  # noqa: D301 - click wants the backspace character itself: it keeps lines as they are
    with _told():
        settings, clock = load(config), SystemClock()
        store, by = _checked_store(settings), signer(settings)
        done = list(sending.send_waiting(settings.state.dir, store, by, clock, Cut.of(settings)))
    for sent in done:
        click.echo(f"{sent.run_id}: {sent.error or ('sent' if sent.finished else 'its lines sent; it is not closed')}")
    if not done:
        click.echo("nothing is waiting")
    if any(sent.error for sent in done):
        raise SystemExit(UNCLEAR if any(sent.store_failed for sent in done) else BAD)


@click.command("public-key")
@config_option
def public_key_command(config: Path) -> None:
    """Print the public key of what signs evidence, as PEM, for `kms-chaos verify --public-key`."""
    with _told():
        by = signer(load(config))
        if by is None:
            raise DrillError("drills.evidence.signing is not configured: nothing is signed")
        click.echo(by.public_key().decode(), nl=False)


@click.group("golden")
def golden_group() -> None:
    """Keep golden messages in the evidence store too: ciphertext and hashes, so that they outlive the state folder."""


@golden_group.command("push")
@config_option
def golden_push(config: Path) -> None:
    """Send the golden messages that the store does not have; a daemon may be running."""
    with _told():
        settings = load(config)
        kept = VisitedGoldenStore(StateFolder(settings.state.dir), SystemClock())
        moved = golden.push(kept, _checked_store(settings), settings.keys)
    click.echo(f"{moved.moved} sent, {moved.there} there already")


@golden_group.command("pull")
@config_option
def golden_pull(config: Path) -> None:
    """Fetch the golden messages that the state folder does not have; before the daemon starts."""
    with _told():
        settings = load(config)
        folder = StateFolder(settings.state.dir)
        moved = golden.pull(folder, _checked_store(settings), settings.keys, SystemClock())
    click.echo(f"{moved.moved} fetched, {moved.there} there already")


COMMANDS = (push_command, public_key_command, golden_group)
"""What belongs to `kms-chaos evidence`."""
