"""A review as headed tables, which Markdown and HTML only dress. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kms_watchdog.auditing.audit import Audit, Kind
from kms_watchdog.history.markdown import sheet
from kms_watchdog.history.page import templates
from kms_watchdog.history.sections import NOTHING, Section, Tile
from kms_watchdog.iam.catalogue import Severity

_WORDS = {Kind.NOW: "review", Kind.QUARTERLY: "quarterly review", Kind.ANNUAL: "annual audit"}
_SHOWN_CHANGES = 200


def markdown(audit: Audit) -> str:
    """Return it as Markdown."""
    return sheet(f"Audit of {audit.estate}: {_about(audit)}", _tiles(audit), _sections(audit))


def html(audit: Audit) -> str:
    """Return it as one self-contained HTML file; no script, nothing loaded from anywhere."""
    return (
        templates()
        .get_template("audit.html.j2")
        .render(audit=audit, about=_about(audit), tiles=tuple(_tiles(audit)), sections=tuple(_sections(audit)))
    )


def _about(audit: Audit) -> str:
    compared = f"compared with {audit.last_at_utc:%Y-%m-%d %H:%M}" if audit.last_at_utc else "the first one"
    return (
        f"{_WORDS[audit.kind]} of account {audit.account_id} on {audit.made_at_utc:%Y-%m-%d %H:%M} UTC, {compared};"
        f" asked by {audit.by}"
    )


def _tiles(audit: Audit) -> Iterator[Tile]:
    grave = sum(one.rule.severity is Severity.HIGH for one in audit.findings)
    yield Tile(str(len(audit.bad)), "findings", f"{grave} of them high")
    new = sum(one.is_new for one in audit.bad)
    yield Tile(str(new) if audit.last_at_utc else NOTHING, "new", f"{len(audit.gone)} gone since the last review")
    yield Tile(str(len(audit.seen.not_told)), "questions unanswered", "the review is whole only with none")
    yield Tile(str(len(audit.seen.changes)), "changes to keys", "in 90 days, done or refused")


def _sections(audit: Audit) -> Iterator[Section]:
    seen = audit.seen
    yield Section(
        "Findings",
        ("Severity", "Id", "Where", "What", "To do"),
        tuple(
            (
                f"{one.rule.severity}{' (new)' if one.is_new else ''}",
                f"{one.rule.id} {one.rule.name}",
                one.where,
                f"{one.what + ': ' if one.what else ''}{one.rule.means}",
                one.rule.remedy,
            )
            for one in audit.findings
        ),
        nothing="Nothing wrong in what could be read.",
    )
    yield Section(
        "Could not be read",
        ("What", "Why"),
        tuple(seen.not_told.items()),
        "Not a finding, and no all-clear either: ask again, with the rights of KmsAuditRole.",
        nothing="All questions were answered.",
    )
    yield Section(
        "Gone since the last review",
        ("What",),
        tuple((one,) for one in audit.gone),
        nothing="Nothing." if audit.last_at_utc else "There is no earlier review.",
    )
    yield Section(
        "Keys",
        ("Purpose", "Region", "Key", "State", "Rotates", "Last rotated"),
        tuple(_key_rows(audit)),
    )
    yield Section(
        "Trails",
        ("Trail", "Home", "All regions", "Logging", "Leaves nothing out", "Validated"),
        tuple(
            (one.name, one.home_region, *map(_yes, (one.of_all_regions, one.logging, one.everything, one.validated)))
            for one in seen.trails
        ),
        nothing="None is known.",
    )
    changes = tuple(
        (
            f"{one.at_utc:%Y-%m-%d %H:%M:%S}",
            one.region,
            one.what + (f" (refused: {one.error})" if one.error else ""),
            one.about or NOTHING,
            one.who,
        )
        for one in seen.changes[:_SHOWN_CHANGES]
    )
    note = f"The newest {_SHOWN_CHANGES}; all are in the JSON." if len(seen.changes) > _SHOWN_CHANGES else ""
    yield Section("Who changed keys in the last 90 days", ("When (UTC)", "Region", "What", "Key", "Who"), changes, note)
    yield Section(
        "Access that nobody used for 90 days",
        ("Role", "Services"),
        tuple((name, ", ".join(services)) for name, services in seen.unused.items()),
        nothing="None."
        if not seen.not_offered
        else "AWS did not tell: " + "; ".join(sorted(set(seen.not_offered.values()))),
    )


def _key_rows(audit: Audit) -> Iterator[tuple[str, ...]]:
    for one in audit.seen.estate.keys:
        replica = one.found.replica if one.found is not None else None
        if replica is None:
            yield (one.wanted.purpose, one.region, NOTHING, one.trouble or "missing", NOTHING, NOTHING)
            continue
        rotated = audit.seen.last_rotated.get(one.wanted.purpose)
        yield (
            one.wanted.purpose,
            one.region,
            replica.key.key_id,
            f"{replica.key.state}, {replica.key.multi_region_type}",
            "unknown" if replica.rotates is None else _yes(replica.rotates),
            f"{rotated:%Y-%m-%d}" if rotated else "never yet",
        )


def _yes(is_so: bool) -> str:  # noqa: FBT001 - a value to be shown
    return "yes" if is_so else "no"
