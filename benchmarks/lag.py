"""How late canaries began between two scrapes, of the histogram of all their jobs together."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.samples import Sample


def percentile(before: Iterable[Sample], after: Iterable[Sample], share: float) -> float:
    """Return the upper bound of the bucket in which that share of what came between the two samples lies.

    Raises:
        RuntimeError: nothing came: who did not look was not in time.
    """
    old, new = _buckets(before), _buckets(after)
    grown = {bound: count - old.get(bound, 0.0) for bound, count in new.items()}
    total = grown[max(grown)]
    if total == 0:
        raise RuntimeError("no canary has looked between the two samples")
    return min(bound for bound, count in grown.items() if count >= share * total)


def count(before: Iterable[Sample], after: Iterable[Sample]) -> int:
    """Return how many looks began between the two samples."""
    return int(max(_buckets(after).values()) - max(_buckets(before).values(), default=0.0))


def _buckets(samples: Iterable[Sample]) -> dict[float, float]:
    """Return the counts by upper bound."""
    found: dict[float, float] = {}
    for sample in samples:
        if sample.name.endswith("_bucket") and sample.labels["job"].startswith("canary."):
            bound = float(sample.labels["le"])
            found[bound] = found.get(bound, 0.0) + sample.value
    return found
