"""The wheel has what the packages have, by package, and nothing else; installed, its commands answer from it."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = [ROOT / folder for folder in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
COMMANDS = list(PROJECT["project"]["scripts"])
DATA = {  # what is no Python: by package, how its names end
    "kms_alarms": {"py.typed"},
    "kms_chaos": {"py.typed", ".md", ".toml", ".j2"},
    "kms_core": {"py.typed"},
    "kms_dashboards": {"py.typed"},
    "kms_local": {"py.typed", ".j2"},
    "kms_watchdog": {"py.typed", ".toml", ".j2", ".html", ".css", ".js", ".svg"},
}
METADATA = {"METADATA", "WHEEL", "entry_points.txt", "licenses/LICENSE", "RECORD"}
READ_AT_RUN_TIME = {
    "kms_chaos/controls.md",
    "kms_chaos/drills/region-blackhole.toml",
    "kms_chaos/templates/report.html.j2",
    "kms_local/game_day/templates/game_day.html.j2",
    "kms_watchdog/costs/prices.toml",
    "kms_watchdog/history/templates/digest.html.j2",
    "kms_watchdog/web/static/status.js",
    "kms_watchdog/web/templates/page.html",
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run(*argv: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in argv], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of this tree as it is now."""
    folder = tmp_path_factory.mktemp("wheel")
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    assert built.returncode == 0, built.stderr
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def contents(wheel: Path) -> dict[str, set[str]]:
    """Return the names in the wheel by the folder at their top."""
    found: dict[str, set[str]] = defaultdict(set)
    with zipfile.ZipFile(wheel) as opened:
        for name in opened.namelist():
            top, _, below = name.partition("/")
            found[top].add(below)
    return found


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `bin` folder of a new environment with the wheel, and what this one has for it to depend on."""
    folder = tmp_path_factory.mktemp("installed") / "env"
    venv.create(folder, with_pip=False)
    python = folder / "bin/python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(python, "-c", where, cwd=folder).stdout.strip())
    # Its own packages come first on the path, and the editable install's .pth is not read a second time.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
    installed = run(*pip, "--no-index", "--no-deps", "--ignore-installed", wheel, cwd=folder)
    assert installed.returncode == 0, installed.stderr
    return folder / "bin"


def test_it_has_the_six_packages_and_its_metadata(contents: dict[str, set[str]]) -> None:
    """No folder of tests, examples or deployment lands in anybody's site-packages."""
    metadata = f"kms_watchdog-{PROJECT['project']['version']}.dist-info"

    assert set(contents) == {*DATA, metadata}
    assert contents[metadata] == METADATA


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_package_is_whole(contents: dict[str, set[str]], package: Path) -> None:
    """Every file of its folder, and only files of the kinds that it is known to have."""
    there = {
        str(path.relative_to(package))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    found = contents[package.name]

    assert found == there
    others = {name for name in found if not name.endswith(".py")}
    assert {name if name == "py.typed" else Path(name).suffix for name in others} == DATA[package.name]
    assert not [name for name in found if Path(name).name.startswith(("test_", "conftest", "."))]


def test_what_is_read_at_run_time_is_in_it(contents: dict[str, set[str]]) -> None:
    """Named here, so that a folder that was renamed away is missed."""
    assert {f"{top}/{name}" for top, names in contents.items() for name in names} >= READ_AT_RUN_TIME


def test_what_runs_is_the_wheel(programs: Path, tmp_path: Path) -> None:
    """And not the checkout that the tests run from."""
    names = sorted(DATA)
    code = f"import {', '.join(names)}; print(*({', '.join(f'{n}.__file__' for n in names)}), sep='\\n')"

    done = run(programs / "python", "-c", code, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert all(Path(line).is_relative_to(programs.parent) for line in done.stdout.splitlines())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_tells_what_it_does(programs: Path, tmp_path: Path, command: str) -> None:
    """`--help`, from the entry point that the wheel made."""
    done = run(programs / command, "--help", cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: {command} ")


@pytest.mark.parametrize("command", ["kms-watchdog", "kms-chaos"])
def test_a_command_tells_its_version(programs: Path, tmp_path: Path, command: str) -> None:
    """The wheel's own, from its metadata."""
    done = run(programs / command, "--version", cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert PROJECT["project"]["version"] in done.stdout


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        pytest.param(("kms-chaos", "list"), "region-blackhole", id="drills"),
        pytest.param(
            ("kms-alarms", "list", "--config", ROOT / "daemon/watchdog.example.toml"), "HighErrorRate", id="alarms"
        ),
        pytest.param(("kms-dashboards", "list"), "overview.json", id="dashboards"),
        pytest.param(
            ("kms-watchdog", "check-config", "--config", ROOT / "daemon/watchdog.example.toml"), "", id="configuration"
        ),
    ],
)
def test_what_needs_no_cloud_works(programs: Path, tmp_path: Path, argv: tuple[str, ...], shown: str) -> None:
    """With the files that came in the wheel."""
    done = run(programs / argv[0], *argv[1:], cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert shown in done.stdout
