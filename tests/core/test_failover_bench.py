"""The failover benchmark measures what it says: no call of the core fails, and the breaker opens at the third."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_refused_region_costs_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row of the table, made as `make bench` makes it."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import core_failover  # noqa: PLC0415 - benchmarks are no package that is installed
    from benchmarks.aws_servers import let_in  # noqa: PLC0415 - as above
    from benchmarks.local_aws import local_aws  # noqa: PLC0415 - as above

    with local_aws() as aws, let_in(aws.document["credentials"]):
        row, errors = core_failover._core_under(aws, "refused", open_seconds=0.2)
        truncated, more = core_failover._core_under(aws, "truncated", open_seconds=0.2)

    assert (errors, more) == (0, 0)
    assert row[-2] == truncated[-2] == "call 3, failures"
    assert isinstance(row[-1], float), "the region came back"
