"""People's word on regions: avoid one, or prefer one, until a time that always comes.

Written to a file or to SSM parameters, read in the background: no call waits for them. An avoided region is asked
last, never not at all, so the last region is never closed.

    {"overrides": [{"region": "us-east-1", "kind": "avoid", "until_utc": "2026-01-01T12:00:00Z", "reason": "INC-7"}]}

or the same as TOML, `[[overrides]]`.
"""

from __future__ import annotations

import datetime as dt
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from kms_core._ssm_boto3 import SsmParameters

OverrideKind = Literal["avoid", "prefer"]
_FIELDS = frozenset({"region", "kind", "until_utc", "reason"})


class OverridesUnreadableError(Exception):
    """What people wrote cannot be read; the last that could be stays in force until it expires.

    Args:
        reason: what is wrong, for the person who wrote it.
        readable: what could be read all the same, and is in force; None: nothing could.
    """

    def __init__(self, reason: str, *, readable: Sequence[RegionOverride] | None = None) -> None:
        super().__init__(reason)
        self.readable = readable


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionOverride:
    """One order of a person.

    Raises:
        ValueError: a field is missing or cannot be right.
    """

    region: str
    kind: OverrideKind
    until_utc: dt.datetime
    """Aware. However far it is, a process follows an override for a day at most from when it first read it."""
    reason: str

    def __post_init__(self) -> None:
        if not all(isinstance(text, str) and text for text in (self.region, self.reason)):
            raise ValueError("an override needs a region and a reason")
        if self.kind not in get_args(OverrideKind):
            raise ValueError(f"an override's kind is avoid or prefer, not {self.kind!r}")
        if self.until_utc.tzinfo is None:
            raise ValueError("an override's until_utc needs its zone, such as a Z at the end")


class OverrideSource(Protocol):
    """Where overrides are written."""

    @property
    def name(self) -> str:
        """What an event calls it."""
        ...

    def read(self) -> Sequence[RegionOverride]:
        """Return all that are written now; called in a background thread, may take its time.

        Raises:
            OverridesUnreadableError: they cannot be read.
        """
        ...


class FileOverrides:
    """A JSON file, or by its name `.toml` a TOML file. No file: no overrides."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self._path)

    def read(self) -> tuple[RegionOverride, ...]:
        """Return what the file says now."""
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return ()
        except (OSError, UnicodeDecodeError) as e:
            raise OverridesUnreadableError(f"{self._path}: {e}") from e
        return parse_overrides(text, "toml" if self._path.suffix == ".toml" else "json")


class SsmOverrides:
    """A parameter of this name in the SSM of several regions, holding JSON; no parameter: no overrides.

    All that are found are in force: so one is written where SSM works. One region that can be read is enough; what a
    region said last holds while it cannot be read.

    Args:
        parameter: its name, the same in every region.
        regions: where it may be.
        endpoints: region to endpoint URL, where it is not AWS's own.
        ca_bundle: PEM file to trust; None: the system's own.
    """

    def __init__(
        self,
        parameter: str,
        regions: Sequence[str],
        *,
        endpoints: dict[str, str] | None = None,
        ca_bundle: str | None = None,
    ) -> None:
        self._parameter = parameter
        self._parameters = {
            region: SsmParameters(region, (endpoints or {}).get(region), ca_bundle) for region in regions
        }
        self._said: dict[str, tuple[RegionOverride, ...]] = {}

    @property
    def name(self) -> str:
        """The parameter's name."""
        return f"ssm:{self._parameter}"

    def read(self) -> tuple[RegionOverride, ...]:
        """Return what the parameters of all regions say now."""
        silent, garbled = [], []
        for region, parameters in self._parameters.items():
            try:
                text = parameters.value(self._parameter)
                self._said[region] = parse_overrides(text, "json") if text is not None else ()
            except OSError as e:
                silent.append(str(e))
            except OverridesUnreadableError as e:
                garbled.append(f"{region}: {e}")
        found = tuple(dict.fromkeys(override for said in self._said.values() for override in said))
        if garbled or len(silent) == len(self._parameters):
            raise OverridesUnreadableError("; ".join(garbled + silent), readable=found)
        return found


def parse_overrides(text: str, form: Literal["json", "toml"]) -> tuple[RegionOverride, ...]:
    """Return the overrides that `text` holds.

    Raises:
        OverridesUnreadableError: it is not of that form, or one of them cannot be right; none is taken then.
    """
    try:
        document = tomllib.loads(text) if form == "toml" else json.loads(text)
        return tuple(_override(members) for members in document["overrides"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        raise OverridesUnreadableError(f"not a list of overrides: {e}") from e


def _override(members: dict[str, Any]) -> RegionOverride:
    if members.keys() != _FIELDS:
        raise ValueError(f"an override has exactly {', '.join(sorted(_FIELDS))}")
    until = members["until_utc"]
    until_utc = until if isinstance(until, dt.datetime) else dt.datetime.fromisoformat(until)
    return RegionOverride(**(members | {"until_utc": until_utc}))
