"""The drill lease of one state folder: a file's lock that the kernel lets go of, and a token on disk that grows."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from kms_chaos import durable
from kms_chaos.guards.before import only_drill
from kms_chaos.guards.checking import RefusedError
from kms_chaos.halt import Halt
from kms_chaos.lease import FaultNote, FencedError, LeaseUnreachableError, SlotState
from kms_watchdog.drills.folder import drills_dir
from kms_watchdog.json_text import read_json

SCHEMA = 1
_STARTED: SlotState = "STARTED"
_DONE: SlotState = "DONE"


class FileLease:
    """Holds the lock on STATE/drills; its token, slots and fault note are in STATE/drills/lease.json."""

    renew_seconds = 5.0

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._path = drills_dir(state_dir) / "lease.json"
        self._lock = ExitStack()
        self.where = str(self._path)
        self.token = 0

    def acquire(self, halt: Halt) -> None:
        """Take the lock and the next token.

        Raises:
            RefusedError: another drill has the lock, or the last token cannot be read.
        """
        del halt  # nothing is waited for: a dead holder's lock is free
        with ExitStack() as stack:
            stack.enter_context(only_drill(self._state_dir))
            try:
                values = self._read()
                token = int(values["token"]) + 1
                self._write({**values, "token": token})
            except LeaseUnreachableError as e:
                raise RefusedError(f"the drill lease: {e}") from e
            self.token = token
            self._lock = stack.pop_all()

    def renew(self) -> None:
        """Do as `check`: the lock does not run out."""
        self.check()

    def check(self, seconds: float = 0.0) -> None:
        """See that the token on disk is still ours; the lock is as long as this process lives.

        Raises:
            FencedError: it is not, or cannot be read.
        """
        del seconds
        try:
            found = self._read()["token"]
        except LeaseUnreachableError as e:
            raise FencedError(str(e)) from e
        if not self.token or found != self.token:
            raise FencedError(f"{self._path} has token {found}, ours is {self.token}")

    def claim_slot(self, slot: str, *, again: bool = False) -> bool:
        """Claim a slot; see `DrillLease`."""
        self.check()
        values = self._read()
        known = values["slots"].get(slot)
        if known and not (again and known["state"] != _DONE and known["token"] < self.token):
            return False
        self._write(_with_slot(values, slot, _STARTED, self.token))
        return True

    def slot_state(self, slot: str) -> SlotState:
        """Return what is known of a slot."""
        known = self._read()["slots"].get(slot)
        return _DONE if known and known["state"] == _DONE else _STARTED if known else ""

    def finish_slot(self, slot: str) -> None:
        """Note that the slot's drill came to its verdict."""
        self.check()
        self._write(_with_slot(self._read(), slot, _DONE, self.token))

    def record_fault(self, note: FaultNote) -> None:
        """Note what this drill may break."""
        self.check()
        self._write({**self._read(), "fault": {**asdict(note), "expires_at_utc": note.expires_at_utc.isoformat()}})

    def open_fault(self) -> FaultNote | None:
        """Return what an earlier holder noted and nobody settled."""
        found = self._read()["fault"]
        if found is None or found["token"] >= self.token:
            return None
        return FaultNote(**{**found, "expires_at_utc": datetime.fromisoformat(found["expires_at_utc"])})

    def settle_fault(self, run_id: str) -> None:
        """Note that everything of `run_id` is undone, as its owner.

        Who is not, leaves the note: the run's own journal in this folder, which must be closed, says the same.
        """
        values = self._read()
        if self.token and values["token"] == self.token and (values["fault"] or {}).get("run_id") == run_id:
            self._write({**values, "fault": None})

    def release(self) -> None:
        """Let go of the lock."""
        self.token = 0
        self._lock.close()

    def _read(self) -> dict[str, Any]:
        try:
            values = read_json(self._path.read_text(encoding="utf-8"))
            if values["schema"] != SCHEMA or type(values["token"]) is not int:
                raise LeaseUnreachableError(f"{self._path} is of another schema than {SCHEMA}")
            return {"schema": SCHEMA, "token": values["token"], "slots": values["slots"], "fault": values["fault"]}
        except FileNotFoundError:
            return {"schema": SCHEMA, "token": 0, "slots": {}, "fault": None}
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise LeaseUnreachableError(f"{self._path} cannot be read: {type(e).__name__}: {e}") from e

    def _write(self, values: dict[str, Any]) -> None:
        try:
            durable.write(self._path, json.dumps(values, indent=1).encode() + b"\n")
        except OSError as e:
            raise LeaseUnreachableError(f"{self._path} cannot be written: {e}") from e


def _with_slot(values: dict[str, Any], slot: str, state: str, token: int) -> dict[str, Any]:
    return {**values, "slots": {**values["slots"], slot: {"state": state, "token": token}}}
