"""The ways to each region, a line each: where its name leads, and whether anybody answers there. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kms_watchdog.doctor.causes import CauseId
from kms_watchdog.doctor.refusal import PolicyKind
from kms_watchdog.doctor.seen import Seen, Subject

OF_THE_WAY = frozenset(
    {
        CauseId.CLOCK_OFF,
        CauseId.CA_BUNDLE,
        CauseId.CERTIFICATE_NAME,
        CauseId.CERTIFICATE_EXPIRED,
        CauseId.CERTIFICATE_ENDS,
        CauseId.TLS_FAILS,
        CauseId.ENDPOINT_OF_ANOTHER_REGION,
        CauseId.FAILOVER_PATH_CLOSED,
        CauseId.NAME_UNKNOWN,
        CauseId.PROXY_REFUSES,
        CauseId.CONNECTION_REFUSED,
        CauseId.CONNECTION_TIMES_OUT,
        CauseId.CONNECTION_BREAKS,
        CauseId.ENDPOINT_POLICY_REFUSES,
        CauseId.NO_ANSWER_IN_TIME,
    }
)
"""The causes that `doctor network` is about."""
_SUBJECTS = frozenset({Subject.NAME, Subject.CONNECTION, Subject.CLOCK, Subject.IDENTITY, Subject.REGION})


def of_the_way(lines: Sequence[Seen]) -> tuple[Seen, ...]:
    """Return the lines that tell of ways; of what was asked of KMS, what an endpoint's policy refused."""
    return tuple(seen for seen in lines if seen.subject in _SUBJECTS or seen.fact("refused_by") == PolicyKind.ENDPOINT)


def summary(lines: Sequence[Seen], regions: Sequence[str], home_region: str) -> list[dict[str, Any]]:
    """Return for each region where its name leads, whether it is reached, and how many questions came through."""
    return [_way(region, [seen for seen in lines if seen.region == region], home_region) for region in regions]


def text(ways: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each region."""
    for way in ways:
        home = " (home)" if way["home"] else ""
        where = f"{way['host']} ({way['source']} name) is {way['place'] or 'not known'}"
        reached = (
            f"reached, certificate good for {way['certificate_days_left']:.0f} days"
            if way["reached"]
            else "NOT reached"
        )
        asked = f"; {way['asked']} questions, {way['refused_by_endpoint']} refused by an endpoint's policy"
        yield f"{way['region']}{home}: {where}; {reached}{asked if way['asked'] else ''}"


def _way(region: str, lines: Sequence[Seen], home_region: str) -> dict[str, Any]:
    by_subject = {seen.subject: seen for seen in reversed(lines)}
    name, connection = by_subject.get(Subject.NAME), by_subject.get(Subject.CONNECTION)
    asked = [seen for seen in lines if seen.subject in {Subject.IDENTITY, Subject.ALIAS, Subject.KEY, Subject.DRY_RUN}]
    return {
        "region": region,
        "home": region == home_region,
        "host": name.fact("host") if name else "",
        "source": name.fact("source") if name else "",
        "addresses": name.fact("addresses").split() if name else [],
        "place": name.fact("place") if name else "",
        "reached": connection is not None and connection.good,
        "certificate_days_left": connection.number("certificate_days_left") if connection else 0.0,
        "asked": len(asked),
        "refused_by_endpoint": sum(seen.fact("refused_by") == PolicyKind.ENDPOINT for seen in asked),
    }
