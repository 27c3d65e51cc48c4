"""The status page: the status document drawn as HTML, with no asset from elsewhere."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from typing import Any

import jinja2

from kms_watchdog.results import PAIR, Kind
from kms_watchdog.sinks.history import TICKS
from kms_watchdog.web.words import reason_words

CHART_WIDTH, CHART_HEIGHT = 240, 56
_CONTENT_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


@dataclass(frozen=True, slots=True)
class Asset:
    """One file that the page links to."""

    body: bytes
    content_type: str

    @property
    def tag(self) -> str:
        """What tells one content from another, part of its address."""
        return hashlib.sha256(self.body).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Who looks at the page."""

    signed_in: bool = False
    may_sign_in: bool = False


class Page:
    """Templates and assets, read once."""

    def __init__(self) -> None:
        self.assets = _assets()
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("kms_watchdog.web", "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(
            duration=duration,
            milliseconds=milliseconds,
            clock=clock,
            ago=ago,
            chart=chart,
            tally=tally,
            strip=strip,
            place=place,
            words=reason_words,
        )
        environment.globals.update(key_checks=key_checks, worst=worst, titles_of=titles_of, PLACES_SHOWN=PLACES_SHOWN)
        environment.globals["asset"] = self._address
        self._whole = environment.get_template("page.html")
        self._fragment = environment.get_template("fragment.html")
        self._login = environment.get_template("login.html")

    def whole(self, document: Mapping[str, Any], viewer: Viewer) -> str:
        """Return the page."""
        return self._whole.render(document, viewer=viewer, page=in_order(document))

    def fragment(self, document: Mapping[str, Any], viewer: Viewer) -> str:
        """Return the part of the page that changes."""
        return self._fragment.render(document, viewer=viewer, page=in_order(document))

    def login(self, error: str) -> str:
        """Return the page that asks for the token, saying what was wrong with the last one."""
        return self._login.render(error=error)

    def _address(self, name: str) -> str:
        return f"/static/{name}?v={self.assets[name].tag}"


def duration(seconds: float | None) -> str:
    """Return a time span for people: `12 s`, `4 min`, `3 h`, `2 d`."""
    if seconds is None:
        return "never"
    seconds = max(0.0, seconds)
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f} min"
    return f"{seconds // _HOUR:.0f} h" if seconds < _DAY else f"{seconds // _DAY:.0f} d"


def ago(moment: str | None, now: str) -> str:
    """Return how long before `now` something was; both are ISO 8601."""
    if moment is None:
        return "never"
    return duration((_parse(now) - _parse(moment)).total_seconds())


def milliseconds(seconds: float | None) -> str:
    """Return a latency for people."""
    if seconds is None:
        return "–"  # noqa: RUF001 - a dash where a number would be
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"  # noqa: PLR2004 - three digits


def clock(moment: str | None) -> str:
    """Return date and time in UTC for people, to the second."""
    return f"{_parse(moment):%Y-%m-%d %H:%M:%S} UTC" if moment else "–"  # noqa: RUF001 - as above


def tally(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return what a canary's last looks say, in words."""
    counts = {
        outcome: _looks(run for run in runs if run["outcome"] == outcome) for outcome in ("OK", "FAILED", "BLIND")
    }
    said = [f"{counts['OK']} of the last {_looks(runs)} looks OK"]
    said += [f"{counts[name]} {name.lower()}" for name in ("FAILED", "BLIND") if counts[name]]
    return ", ".join(said)


def place(region: str | None) -> str:
    """Return a canary's region for people: of two, the way from one to the other."""
    return (region or "everywhere").replace(PAIR, " → ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Looks with one answer after another, in a drawing `TICKS` wide; the newest is at the right."""

    x: int
    width: int
    outcome: str
    title: str


def strip(runs: Sequence[Mapping[str, Any]]) -> list[Stretch]:
    """Return a canary's last looks as a drawing."""
    drawn, x = [], TICKS - min(TICKS, _looks(runs))
    for run in runs:
        reason = f" ({reason_words(run['reason'])})" if run["reason"] else ""
        times = f"{run['count']} looks, {clock(run['first_at_utc'])} to {clock(run['last_at_utc'])}"
        title = f"{run['outcome']}{reason}: {times}, at most {milliseconds(run['slowest_seconds'])}"
        drawn.append(Stretch(x=x, width=run["count"], outcome=run["outcome"].lower(), title=title))
        x += run["count"]
    return drawn


GRAVITY = ("down", "failing", "recovering", "stale", "blind", "unknown", "up")
"""What a canary may be shown as, worst first."""


def worst(shown: Iterable[str]) -> str:
    """Return the worst of what canaries are shown as; `unknown` of none."""
    return min(shown, key=GRAVITY.index, default="unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Canaries of one place in a table that has no room for each."""

    shown: str
    ok: int
    total: int
    troubled: tuple[Mapping[str, Any], ...]
    """Those that are not up."""


ROWS_SHOWN = 100
"""Of a table of keys or canaries: a page of thousands is no help, and takes seconds to draw."""
PLACES_SHOWN = 6
"""Keys that are named where many are in the same trouble."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """The rows of a long table that are shown, and how many are not."""

    rows: tuple[Mapping[str, Any], ...]
    more: int
    more_troubled: int
    """Of those that are not shown."""


def excerpt(rows: Sequence[Mapping[str, Any]], troubled: Callable[[Mapping[str, Any]], bool]) -> Excerpt:
    """Return all rows where there is room for them; else the `troubled` ones first, each part in its order."""
    if len(rows) <= ROWS_SHOWN:
        return Excerpt(rows=tuple(rows), more=0, more_troubled=0)
    bad = [row for row in rows if troubled(row)]
    well = [row for row in rows if not troubled(row)]
    return Excerpt(
        rows=(*bad, *well)[:ROWS_SHOWN],
        more=len(rows) - ROWS_SHOWN,
        more_troubled=max(0, len(bad) - ROWS_SHOWN),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class InOrder:
    """The document's canaries as the page goes through them; looked for anew in each row they would take minutes."""

    by_id: Mapping[str, Mapping[str, Any]]
    of_kind: Mapping[str, Sequence[Mapping[str, Any]]]
    of_key: Mapping[str, Sequence[Mapping[str, Any]]]
    round_trips: Mapping[tuple[str, str], Mapping[str, Any]]
    """By key and region."""
    shown: Mapping[str, Excerpt]
    """By kind."""
    keys: Excerpt
    below: Sequence[Mapping[str, Any]]
    """Canaries below paging that no region's outage explains."""
    crossings: Mapping[str, Mapping[str, Cell | None]]


def in_order(document: Mapping[str, Any]) -> InOrder:
    """Return the canaries of a status document in the orders that the page needs; each is gone through once."""
    canaries: Sequence[Mapping[str, Any]] = document["canaries"]
    of_kind, of_key = dict[str, list[Mapping[str, Any]]](), dict[str, list[Mapping[str, Any]]]()
    for canary in canaries:
        of_kind.setdefault(canary["canary"], []).append(canary)
        of_key.setdefault(canary["key"], []).append(canary)
    by_id = {canary["id"]: canary for canary in canaries}
    not_up = {key for key, found in of_key.items() if any(canary["shown"] != "up" for canary in found)}
    below = (by_id[name] for name in document["below_paging"])
    return InOrder(
        by_id=by_id,
        of_kind=of_kind,
        of_key=of_key,
        round_trips={(one["key"], one["region"]): one for one in of_kind.get(Kind.ROUND_TRIP, ())},
        shown={kind: excerpt(found, lambda canary: canary["shown"] != "up") for kind, found in of_kind.items()},
        keys=excerpt(document["keys"], lambda key: key["purpose"] in not_up),
        below=[canary for canary in below if not canary["because"]],
        crossings=crossings(of_kind.get(Kind.CROSS_REGION, ()), [region["region"] for region in document["regions"]]),
    )


def cell(canaries: Sequence[Mapping[str, Any]]) -> Cell:
    """Return what `canaries` amount to."""
    troubled = tuple(canary for canary in canaries if canary["shown"] != "up")
    return Cell(
        shown=worst(canary["shown"] for canary in canaries),
        ok=len(canaries) - len(troubled),
        total=len(canaries),
        troubled=troubled,
    )


def crossings(crossing: Sequence[Mapping[str, Any]], regions: Sequence[str]) -> dict[str, dict[str, Cell | None]]:
    """Return how what was sealed in one region (outer) opens in another (inner); empty if nobody asks that."""
    if not crossing:
        return {}
    found: dict[str, list[Mapping[str, Any]]] = {}
    for canary in crossing:
        found.setdefault(canary["region"], []).append(canary)
    return {
        sealed: {
            opened: cell(found[pair]) if (pair := f"{sealed}{PAIR}{opened}") in found else None for opened in regions
        }
        for sealed in regions
    }


KEY_KINDS = (Kind.ROUND_TRIP, Kind.GOLDEN, Kind.KEY_STATE, Kind.REPLICA_DRIFT, Kind.APPLICATION_ACCESS)
"""What is asked of each key in each region, in the order of the table of keys."""


def key_checks(of_key: Sequence[Mapping[str, Any]]) -> dict[str, Cell]:
    """Return by kind what the canaries of one key say in all regions, for the kinds that somebody asks."""
    found = {kind: [canary for canary in of_key if canary["canary"] == kind] for kind in KEY_KINDS}
    return {str(kind): cell(of_kind) for kind, of_kind in found.items() if of_kind}


def titles_of(kinds: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the name for people of each kind of canary there is."""
    return {kind["kind"]: kind["title"] for kind in kinds}


def _looks(runs: Iterable[Mapping[str, Any]]) -> int:
    return sum(run["count"] for run in runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A latency line, in the coordinates of the drawing; failures interrupt it."""

    line: str
    area: str
    failures: tuple[float, ...]
    top_seconds: float


def chart(latency: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Return the drawing of latencies, oldest first, equally spaced; None of fewer than two.

    The scale ends above the slowest good answer: one black hole of seconds would flatten everything else.
    """
    if len(latency) < 2:  # noqa: PLR2004 - a line needs two points
        return None
    top_seconds = max((point["seconds"] for point in latency if point["ok"]), default=1.0) * 1.15 or 1.0
    step = CHART_WIDTH / (len(latency) - 1)
    spots = [
        (round(i * step, 1), round(CHART_HEIGHT * (1 - min(point["seconds"] / top_seconds, 1.0)), 1), point["ok"])
        for i, point in enumerate(latency)
    ]
    runs = [tuple(run) for ok, run in itertools.groupby(spots, key=lambda spot: spot[2]) if ok]
    return Chart(
        line=" ".join(_path(run) for run in runs),
        area=" ".join(f"{_path(run)} L{run[-1][0]},{CHART_HEIGHT} L{run[0][0]},{CHART_HEIGHT} Z" for run in runs),
        failures=tuple(x for x, _, ok in spots if not ok),
        top_seconds=top_seconds,
    )


def _path(run: Sequence[tuple[float, float, bool]]) -> str:
    return "M" + " L".join(f"{x},{y}" for x, y, _ in run)


def _parse(moment: str) -> datetime:
    return datetime.fromisoformat(moment)


def _assets() -> dict[str, Asset]:
    folder = resources.files("kms_watchdog.web") / "static"
    return {
        file.name: Asset(file.read_bytes(), _CONTENT_TYPES["." + file.name.rpartition(".")[2]])
        for file in folder.iterdir()
    }
