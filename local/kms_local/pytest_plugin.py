"""The fixture `kms_local_aws`, for anybody's tests: `pytest_plugins = ["kms_local.pytest_plugin"]` in a conftest.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kms_local.testing import LocalAws, start_local_aws


@pytest.fixture(scope="session")
def kms_local_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """One local AWS of three regions for all tests of a session; replicas are ready at once."""
    directory = tmp_path_factory.mktemp("kms-local-aws")
    with start_local_aws(directory, flags=("--creating-seconds", "0")) as aws:
        yield aws
