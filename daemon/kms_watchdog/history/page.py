"""The digest as one self-contained HTML file. No script, nothing loaded from anywhere."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kms_watchdog.history import plots
from kms_watchdog.history.digest import Digest
from kms_watchdog.history.sections import sections, tiles


def templates() -> Environment:
    """Return what fills in a sheet: tiles, pictures and tables; all that is put in is escaped."""
    return Environment(
        loader=PackageLoader("kms_watchdog.history"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


def render(digest: Digest) -> str:
    """Return the file's text."""
    # matplotlib's own output, which escapes what it is given
    pictures = {"availability": plots.availability(digest), "latency": plots.latency(digest)} if digest.by_hour else {}
    return (
        templates()
        .get_template("digest.html.j2")
        .render(
            d=digest,
            tiles=tiles(digest),
            sections=sections(digest),
            pictures={name: Markup(svg) for name, svg in pictures.items()},  # noqa: S704 - see above
        )
    )
