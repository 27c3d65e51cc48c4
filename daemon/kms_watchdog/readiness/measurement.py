"""The last measurement, kept in the state folder for whoever asks whether speed was ever looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kms_watchdog.readiness.kept_file import KeptFile
from kms_watchdog.readiness.sign_offs import moment
from kms_watchdog.readiness.timeouts import CONNECTIONS, OPERATIONS, RULE, Figures, Timeouts
from kms_watchdog.state_folder import StateError

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A measurement of all regions, and the time-outs that it asks for."""

    estate: str
    account_id: str
    measured_at_utc: datetime
    host: str
    """The machine that asked: from elsewhere the figures are others."""
    purpose: str
    requests: int
    usd: float
    figures: tuple[Figures, ...]
    proposed: Timeouts

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, but for the schema's number."""
        values = asdict(self)
        values |= {"measured_at_utc": self.measured_at_utc.isoformat(), "figures": [asdict(f) for f in self.figures]}
        return {**values, "proposed": self.proposed.to_json(), "rule": RULE}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Measurement:
        """Return what `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        texts = {name: str(values[name]) for name in ("estate", "account_id", "host", "purpose")}
        return cls(
            **texts,
            measured_at_utc=moment(values["measured_at_utc"]),
            requests=int(values["requests"]),
            usd=float(values["usd"]),
            figures=tuple(_figures(one) for one in values["figures"]),
            proposed=Timeouts.from_json(values["proposed"]),
        )

    @property
    def regions(self) -> frozenset[str]:
        """Those that were measured, with every operation over every connection."""
        found = {(one.region, one.operation, one.connection) for one in self.figures}
        all_of_it = {(operation, kind) for operation in OPERATIONS for kind in CONNECTIONS}
        named = {one.region for one in self.figures}
        return frozenset(region for region in named if {(region, *what) for what in all_of_it} <= found)


class MeasurementFile:
    """`STATE/measurement.json`: the newest one alone."""

    def __init__(self, state_dir: Path) -> None:
        self._file = KeptFile(state_dir / "measurement.json", schema=SCHEMA)

    def read(self) -> Measurement | None:
        """Return the last one; None: there is none.

        Raises:
            StateError: the file cannot be read, or is none of ours.
        """
        found = self._file.read()
        try:
            return Measurement.from_json(found) if found is not None else None
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise StateError(f"{self._file.path}: not as it was written; move it away and measure again") from e

    def keep(self, measurement: Measurement) -> None:
        """Put it in the place of the one before, on disk before this returns.

        Raises:
            StateError: it cannot be written.
        """
        self._file.change(lambda _: measurement.to_json())


def _figures(values: Mapping[str, Any]) -> Figures:
    if values["operation"] not in OPERATIONS or values["connection"] not in CONNECTIONS:
        raise ValueError("no figures of ours")
    numbers = {name: float(values[name]) for name in ("p50_seconds", "p99_seconds")}
    return Figures(
        region=str(values["region"]),
        operation=values["operation"],
        connection=values["connection"],
        count=int(values["count"]),
        **numbers,
    )
