"""The built wheel, installed with the base dependencies alone, is a crypto core and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = ("kms-watchdog", "kms-chaos", "kms-alarms", "kms-dashboards", "kms-local")
pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]


def run(*argv: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in argv], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `bin` folder of an environment with the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("bare")
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    assert built.returncode == 0, built.stderr
    locked = re.findall(r"^([a-z0-9.-]+==[^ ;\\]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    (folder / "constraints.txt").write_text("\n".join(dict.fromkeys(p for p in locked if "pywin32" not in p)))
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    [wheel] = folder.glob("*.whl")
    names = ("boto3", "botocore", "cryptography")
    wanted = [p for p in locked if p.split("==")[0] in names]
    installed = run(folder / "env/bin/python", "-m", "pip", "install", "--quiet", wheel, *wanted)
    assert installed.returncode == 0, installed.stderr
    return folder / "env" / "bin"


def test_kms_core_imports_by_itself(bare: Path, tmp_path: Path) -> None:
    """boto3 and cryptography are all it needs."""
    foreign = "('click', 'pydantic', 'prometheus_client', 'kms_watchdog')"
    code = f"import kms_core, sys; print(sorted(m for m in sys.modules if m.startswith({foreign})))"

    done = run(bare / "python", "-I", "-W", "error", "-c", code, cwd=tmp_path)

    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_it_is_typed_and_complete(bare: Path, tmp_path: Path) -> None:
    """Every package of the wheel has its `py.typed`; drills, templates and styles are in it."""
    code = "import kms_core, pathlib; print(pathlib.Path(kms_core.__file__).parents[1])"
    site = Path(run(bare / "python", "-c", code, cwd=tmp_path).stdout.strip())

    packages = ("kms_core", "kms_watchdog", "kms_chaos", "kms_alarms", "kms_dashboards", "kms_local")

    assert all((site / package / "py.typed").is_file() for package in packages)
    assert (site / "kms_chaos/drills/region-blackhole.toml").is_file()
    assert list((site / "kms_watchdog").rglob("*.html*"))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_without_its_extra_says_which(bare: Path, tmp_path: Path, command: str) -> None:
    """One line that names the extra, exit code 2, no traceback."""
    done = run(bare / command, "--help", cwd=tmp_path)

    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert re.search(r"pip install 'kms-watchdog\[[a-z]+\]'", done.stderr)
