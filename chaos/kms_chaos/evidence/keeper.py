"""What the engine knows of evidence: open it before anything is touched, stream while the drill runs, finish."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import structlog

from kms_chaos.evidence import provenance, sending
from kms_chaos.evidence.segments import Cut, Segments, Streaming
from kms_chaos.evidence.signing import Signer, signer
from kms_chaos.journal_writer import JournalWriteError, JournalWriter
from kms_chaos.run import Run
from kms_watchdog.config import fingerprint
from kms_watchdog.evidence.choice import open_store
from kms_watchdog.evidence.store import Store, StoreError, StoreRefusedError

log = structlog.get_logger("evidence")

_READY = "ready"


class Keeper:
    """Keeps one run's evidence. Nothing that fails here changes a verdict; it is told, and done later."""

    def __init__(self, run: Run, store: Store | None, state: str, by: Signer | None) -> None:
        self._run, self._store, self._state, self._signer = run, store, state, by
        self._cut = Cut.of(run.settings)
        self._segments: Segments | None = None

    @classmethod
    def open(cls, run: Run) -> Self:
        """Look at store and key. Call it in the main thread, before anything is touched.

        Raises:
            StoreRefusedError: what would be kept there could be lost or changed, or it may not be used.
            SigningRefusedError: the key cannot sign this run.
        """
        by = signer(run.settings, run.hurt)
        store, state = open_store(run.settings, run.clock), _READY
        try:
            if store is not None:
                store.check()
        except StoreRefusedError:
            raise
        except StoreError as e:
            state = str(e)  # an outage of the store is no reason to leave a drill undone
        return cls(run, store, state, by)

    def about(self) -> dict[str, Any]:
        """Return what the run's first record says of evidence and of where the run comes from."""
        run = self._run
        before, sought = provenance.previous(run.settings.state.dir, self._store, but=run.run_id)
        return {
            "previous": before.to_json() if before else None,
            "previous_sought_in": list(sought),
            "evidence": {
                "store": self._store.place if self._store else None,
                "store_state": self._state if self._store else "state folder only",
                "signing": self._signer.about() if self._signer else None,
            },
            "revision": provenance.revision(),
            "config_fingerprint": fingerprint(run.settings),
            "clock": provenance.clock_source(run.settings, run.clock),
        }

    @contextmanager
    def streaming(self, writer: JournalWriter, record: Callable[..., None]) -> Iterator[None]:
        """Stream the journal for the block; `record(event, **fields)` writes into it, and not after the block."""
        if self._store is None:
            yield
            return

        def tell(what: str, error: str) -> None:
            with suppress(JournalWriteError):  # whoever runs the drill meets the same error, and ends it
                if error:
                    record("evidence-failing", what=what, error=error)
                else:
                    record("evidence-recovered", what=what)

        segments = Segments(self._store, self._run.run_id, self._run.folder.journal, self._cut)
        with Streaming(
            segments, upto=lambda: writer.bytes_on_disk, seconds=self._cut.seconds, clock=self._run.clock, tell=tell
        ) as stream:
            yield
        self._segments = segments if stream.is_over else None

    def finish(self) -> None:
        """Seal and send this run, and what earlier runs could not send; what fails is told in the log."""
        run, store, by = self._run, self._store, self._signer
        done = [sending.finish(run.folder, store, by, run.clock, self._cut, self._segments)]
        if store is not None and not done[0].store_failed:
            done += sending.send_waiting(run.settings.state.dir, store, by, run.clock, self._cut)
        for sent in done:
            if sent.error:
                log.error("evidence.failed", run_id=sent.run_id, error=sent.error, later="kms-chaos evidence push")
