"""The table of prices: dated, each price with its source and whether anybody verified it, and replaceable by a file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).with_name("prices.toml")
SCHEMA = 1


class PricesError(ValueError):
    """The file is no table of prices; the message is one line that names it."""


class Priced(StrEnum):
    """What has a price; each must be in the table, and nothing else."""

    KMS_KEY = "kms_key"
    KMS_ROTATION = "kms_rotation"
    KMS_REQUEST = "kms_request"
    METRIC = "metric"
    CLOUDWATCH_REQUEST = "cloudwatch_request"
    ALARM = "alarm"
    HIGH_RESOLUTION_ALARM = "high_resolution_alarm"
    COMPOSITE_ALARM = "composite_alarm"
    DASHBOARD = "dashboard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What so many of a thing cost."""

    usd: float
    per: int
    unit: str
    source: str
    verified: bool
    """Whether somebody has compared it with a bill or the page that is its source."""

    def of(self, count: float) -> float:
        """Return the dollars for `count`."""
        return count * self.usd / self.per


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """The whole table."""

    dated: date
    region: str
    by_name: Mapping[Priced, Price]

    def of(self, priced: Priced, count: float) -> float:
        """Return the dollars for `count` of something."""
        return self.by_name[priced].of(count)


def read(path: Path = SHIPPED) -> Prices:
    """Return the table in `path`.

    Raises:
        PricesError: it cannot be read, or is none.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise PricesError(f"{path}: cannot be read: {e.strerror}") from e
    except (ValueError, RecursionError) as e:  # as is UnicodeDecodeError
        raise PricesError(f"{path}: not TOML: {e}") from e
    if found.get("schema") != SCHEMA:
        raise PricesError(f"{path}: schema {found.get('schema')!r}, this version reads {SCHEMA}")
    if found.get("currency") != "USD":
        raise PricesError(f"{path}: currency must be USD, not {found.get('currency')!r}")
    if type(found.get("dated")) is not date:
        raise PricesError(f"{path}: dated must be a date, such as 2026-01-31, not {found.get('dated')!r}")
    table = found.get("prices")
    if not isinstance(table, dict):
        raise PricesError(f"{path}: there is no table [prices]")
    if unknown := sorted(table.keys() - set(Priced)):
        raise PricesError(f"{path}: prices.{unknown[0]}: unknown; there are {', '.join(Priced)}")
    by_name = {name: _price(path, name, table.get(name)) for name in Priced}
    return Prices(dated=found["dated"], region=str(found.get("region", "")), by_name=by_name)


def _price(path: Path, name: Priced, values: Any) -> Price:
    if not isinstance(values, dict):
        raise PricesError(f"{path}: prices.{name} is missing")
    wrong = [field for field, kinds in _FIELDS.items() if type(values.get(field)) not in kinds]
    if wrong:
        raise PricesError(f"{path}: prices.{name}.{wrong[0]}: missing, or not {_FIELDS[wrong[0]][-1].__name__}")
    if not 0 <= values["usd"] < float("inf") or values["per"] < 1:
        raise PricesError(f"{path}: prices.{name}: usd must be 0 or more, and per 1 or more")
    return Price(**{field: values[field] for field in _FIELDS})


_FIELDS: Mapping[str, tuple[type, ...]] = {
    "usd": (int, float),
    "per": (int,),
    "unit": (str,),
    "source": (str,),
    "verified": (bool,),
}
