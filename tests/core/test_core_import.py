"""An application that imports the core pays for boto3 and cryptography, and for nothing that an operator needs."""

from __future__ import annotations

import subprocess
import sys

FORBIDDEN = {
    "apscheduler", "click", "jinja2", "kms_chaos", "kms_local", "kms_watchdog", "matplotlib", "moto", "numpy",
    "prometheus_client", "pydantic", "requests", "rich", "starlette", "structlog", "toxiproxy", "uvicorn",
}  # fmt: skip


def test_importing_the_core_imports_no_extra() -> None:
    """In a process of its own, since this one has imported all sorts of things."""
    code = "import sys, kms_core, kms_core.testing; print(*{name.partition('.')[0] for name in sys.modules})"

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert set(ended.stdout.split()) & FORBIDDEN == set()
