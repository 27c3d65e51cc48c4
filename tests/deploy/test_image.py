"""The image: its Dockerfile as it is written, the locks it installs from, and, where an engine is, as it is built."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from deploy_kit import ROOT, checker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from waiting import wait_until

from kms_watchdog.config import load
from kms_watchdog.deploying import container
from kms_watchdog.deploying.container import Probing

DOCKERFILE = ROOT / "daemon/Dockerfile"
IGNORED = ROOT / "daemon/Dockerfile.dockerignore"
LOCKS = {name: ROOT / f"deploy/container/{name}.lock" for name in ("build", "watchdog", "drills")}
SETTINGS = load(ROOT / "daemon/watchdog.example.toml", environ={})


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction of the Dockerfile."""

    stage: str
    name: str
    rest: str

    @property
    def words(self) -> list[str]:
        """Of an instruction in exec form."""
        found: list[str] = json.loads(self.rest)
        return found


def steps() -> Iterator[Step]:
    text = re.sub(r"\\\n", " ", DOCKERFILE.read_text(encoding="utf-8"))
    stage = ""
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            stage = rest.rpartition(" AS ")[2] if name == "FROM" else stage
            yield Step(stage, name, rest.strip())


def of(name: str, stage: str = "") -> list[Step]:
    return [step for step in steps() if step.name == name and stage in {"", step.stage}]


def pins(lock: Path) -> dict[str, str]:
    """Return a lock's packages by name: the pin with its marker, and its hashes."""
    blocks = re.split(r"\n(?=\S)", lock.read_text(encoding="utf-8").strip())
    return {block.partition("==")[0]: block for block in blocks}


# ------------------------------------------------------------------------------------------------------ as written


def test_the_linter_finds_nothing() -> None:
    """Hadolint, not even a hint."""
    done = subprocess.run([checker("hadolint"), str(DOCKERFILE)], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


def test_what_it_copies_is_there_and_is_sent() -> None:
    """Each source exists, and is among what the ignore file lets into the build."""
    sent = {line[1:] for line in IGNORED.read_text(encoding="utf-8").splitlines() if line.startswith("!")}
    stages = {step.stage for step in of("FROM")}

    for step in of("COPY"):
        source = step.rest.split()[0]
        if source.startswith("--from="):
            assert source.removeprefix("--from=") in stages
        elif source != ".":
            assert (ROOT / source).is_file(), source
            assert any(Path(source).is_relative_to(one) for one in sent), source
    assert all((ROOT / one).exists() for one in sent)


def test_what_is_sent_builds_the_wheel() -> None:
    """Every package folder, and what pyproject.toml reads."""
    sent = {line[1:] for line in IGNORED.read_text(encoding="utf-8").splitlines() if line.startswith("!")}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    [packages] = re.findall(r"\[tool\.hatch\.build\.targets\.wheel\]\npackages = \[(.*?)\]", project, re.DOTALL)

    assert set(re.findall(r'"([^"]+)"', packages)) <= sent
    assert {"pyproject.toml", "README.md", "LICENSE"} <= sent


def test_it_runs_as_nobody_and_asks_as_everywhere() -> None:
    """User, state, port, health check and command are those of every platform."""
    [health], [user], [volume] = of("HEALTHCHECK"), of("USER"), of("VOLUME")
    options, _, asked = health.rest.partition(" CMD ")
    probing = Probing()

    assert user.rest == f"{container.USER}:{container.USER}"
    assert volume.words == [container.STATE_FOLDER, container.SCRATCH_FOLDER]
    assert [step.rest for step in of("EXPOSE")] == [str(container.port(SETTINGS))]
    assert tuple(json.loads(asked)) == container.probe(SETTINGS)
    assert shlex.split(options) == [
        f"--interval={probing.interval_seconds}s",
        f"--timeout={probing.timeout_seconds}s",
        f"--start-period={probing.start_seconds}s",
        f"--retries={probing.retries}",
    ]
    [entry], [default] = of("ENTRYPOINT"), of("CMD")
    assert (*entry.words, *default.words) == container.RUN


def test_nothing_runs_as_root_afterwards() -> None:
    """Whoever comes after USER in the last stages copies, and runs nothing."""
    for stage in ("watchdog", "drills"):
        assert [step.name for step in steps() if step.stage == stage] == ["FROM", "COPY"]
        assert of("FROM", stage)[0].rest == f"runtime AS {stage}"
    assert list(steps())[-1].stage == "drills"  # what is built where no target is named


def test_no_shell_and_no_curl() -> None:
    """Exec form everywhere: signals reach the process, and nothing is expanded."""
    for step in [*of("RUN"), *of("ENTRYPOINT"), *of("CMD")]:
        assert step.words
        assert not {"curl", "wget", "sh", "bash", "apt-get"} & {Path(word).name for word in step.words}


def test_it_installs_by_hash_alone() -> None:
    """Every package is from a lock with hashes, without its dependencies looked up; the wheel is the one just built."""
    installs = [step.words for step in of("RUN") if "pip" in step.words]

    assert len(installs) == 6
    for words in installs:
        assert "--no-deps" in words
        assert {"--require-hashes", "--no-index", "--no-build-isolation"} & set(words), words


# ------------------------------------------------------------------------------------------------------- the locks


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS)
def test_a_lock_is_a_part_of_the_whole(lock: Path) -> None:
    """Same pins, same hashes as requirements.lock, from which everybody else installs; if not: make lock."""
    whole = pins(ROOT / "requirements.lock")

    for name, block in pins(lock).items():
        assert block == whole[name], name
        assert "--hash=sha256:" in block


def test_watching_needs_less_than_drilling() -> None:
    """No plots and no Toxiproxy client where nothing drills; no build tools in either."""
    watchdog, drills, build = (pins(LOCKS[name]).keys() for name in ("watchdog", "drills", "build"))

    assert watchdog < drills
    assert {"matplotlib", "toxiproxy-python", "requests"} <= drills - watchdog
    assert not {"hatchling", "editables"} & drills
    assert {"hatchling", "editables"} <= build


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        pytest.param("watchdog", {"daemon"}, id="watching"),
        pytest.param("watchdog", {"local"}, id="local"),
        pytest.param("drills", {"daemon", "drills"}, id="drilling"),
    ],
)
def test_a_lock_suffices(lock: str, extras: set[str]) -> None:
    """All that the extras need on this machine, and what that needs."""
    locked, wanted = pins(LOCKS[lock]).keys(), [("kms-watchdog", frozenset(extras))]
    seen = set(wanted)
    while wanted:
        name, having = wanted.pop()
        with suppress(PackageNotFoundError):  # told below, as not locked
            for needed in map(Requirement, requires(name) or ()):
                if any(needed.marker is None or needed.marker.evaluate({"extra": one}) for one in having or {""}):
                    one = (str(canonicalize_name(needed.name)), frozenset(needed.extras))
                    wanted += [one] if one not in seen else []
                    seen.add(one)

    assert {name for name, _ in seen} - {"kms-watchdog"} <= locked


# --------------------------------------------------------------------------------------------------------- as built


@dataclass(frozen=True, slots=True)
class Engine:
    """Builds and runs images without a daemon; all it keeps is in one folder."""

    folder: Path

    @property
    def _storage(self) -> list[str]:
        return ["--root", str(self.folder / "store"), "--runroot", str(self.folder / "run"), "--storage-driver", "vfs"]

    def podman(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        how = [*self._storage, "--runtime", "runc", "--cgroup-manager", "cgroupfs"]
        return self._call(checker("podman"), *how, *words, check=check)

    def build(self, *words: str) -> None:
        self._call(checker("buildah"), *self._storage, "bud", "--format", "docker", "--isolation", "chroot", *words)

    def _call(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, timeout=1500)
        assert done.returncode == 0 or not check, done.stdout[-2000:] + done.stderr[-2000:]
        return done


@pytest.fixture(scope="module")
def base() -> Path:
    """A Debian with Python, as an archive; it is kept, as it takes minutes to make."""
    found = ROOT / ".state/image-base.tar"
    draft = found.with_suffix(".draft.tar")
    if not found.exists():
        found.parent.mkdir(exist_ok=True)
        packages = "--include=python-is-python3,python3-venv,ca-certificates"
        command = [checker("mmdebstrap"), "--variant=minbase", packages, "bookworm", str(draft)]
        subprocess.run(command, check=True, capture_output=True, timeout=1500)
        assert tarfile.is_tarfile(draft)
        draft.replace(found)
    return found


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every package of the locks, so that the build itself needs no index; pip checks the hashes here and there."""
    folder = tmp_path_factory.mktemp("wheels")
    for name in ("build", "drills"):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--python-version", "3.11", "--require-hashes"]  # bookworm's
        command += ["--requirement", str(LOCKS[name]), "--dest", str(folder)]
        subprocess.run(command, check=True, timeout=900)
    return folder


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, base: Path, wheels: Path) -> Iterator[Engine]:
    """An engine that has built the image."""
    for program in ("buildah", "podman", "runc"):
        checker(program)
    folder = tmp_path_factory.mktemp("engine")
    pip = folder / "pip.conf"
    pip.write_text("[global]\nno-index = true\nfind-links = /wheelhouse\n", encoding="utf-8")
    made = Engine(folder)
    made.podman("import", str(base), "localhost/base:test")
    made.build(  # the last target: all stages, that of watching alone among them
        *("--build-arg", "BASE=localhost/base:test", "--ignorefile", str(IGNORED), "--file", str(DOCKERFILE)),
        *("--volume", f"{wheels}:/wheelhouse:ro", "--volume", f"{pip}:/etc/pip.conf:ro"),
        *("--tag", "localhost/kms-watchdog:test", "."),
    )
    yield made
    made.podman("rm", "--all", "--force", check=False)
    made.podman("rmi", "--all", "--force", check=False)
    shutil.rmtree(folder, ignore_errors=True)


CONFINED = (
    *("--network", "none", "--read-only", "--read-only-tmpfs=false", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"),
)
NOWHERE: Mapping[str, str] = {
    "KMS_WATCHDOG__ESTATE__ACCOUNT_ID": "123456789012",
    "KMS_WATCHDOG__ESTATE__PRIMARY_REGION": "us-east-1",
    "KMS_WATCHDOG__ESTATE__REGIONS": '["us-east-1", "us-west-2"]',
    "KMS_WATCHDOG__KEYS__PII__ALIAS": "alias/pii",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""An estate in a container without a network: every canary is blind or fails, and the process lives."""


@pytest.mark.slow
@pytest.mark.image
@pytest.mark.timeout(3000)
def test_the_image_runs_confined(engine: Engine) -> None:
    """Read-only, without capabilities, as nobody, as PID 1: it lives without AWS, says so, and stops when told to."""
    variables = [word for pair in NOWHERE.items() for word in ("--env", "=".join(pair))]
    run = ("run", "--detach", "--name", "one", *CONFINED, *variables, "localhost/kms-watchdog:test")
    engine.podman(*run)

    def inside(*words: str) -> subprocess.CompletedProcess[str]:
        return engine.podman("exec", "one", *words, check=False)

    wait_until(lambda: inside("kms-watchdog", "healthcheck").returncode == 0, says="it lives", seconds=120)
    user, first = inside("id", "-u").stdout.strip(), inside("cat", "/proc/1/cmdline").stdout.split("\0")
    written = inside("touch", "/etc/kms-watchdog/new")
    asked = engine.podman("healthcheck", "run", "one", check=False)
    engine.podman("stop", "--time", "40", "one")
    ended = engine.podman("inspect", "--format", "{{.State.ExitCode}}", "one").stdout.strip()
    said = engine.podman("logs", "one", check=False)

    assert user == str(container.USER)
    assert first[1:3] == ["/opt/kms-watchdog/bin/kms-watchdog", "run"]
    assert "Read-only file system" in written.stderr
    assert asked.returncode == 0
    assert ended == "0"
    assert '"event": "daemon.stopped"' in said.stdout + said.stderr


@pytest.mark.slow
@pytest.mark.image
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    ("command", "works"),
    [
        pytest.param(("kms-chaos", "check", "region-blackhole"), True, id="drills"),
        pytest.param(("kms-local", "serve", "--help"), True, id="the local AWS"),
        pytest.param(("kms-alarms", "list"), True, id="alarms"),
        pytest.param(("python", "-c", "import matplotlib.pyplot, toxiproxy"), True, id="pictures and Toxiproxy"),
        pytest.param(("python", "-m", "pip", "--version"), False, id="nothing that installs"),
        pytest.param(("curl", "--version"), False, id="nothing that downloads"),
    ],
)
def test_what_is_in_it(engine: Engine, command: tuple[str, ...], *, works: bool) -> None:
    """What drills and what compose needs, each confined as in production; nothing that brings more in."""
    variables = [word for pair in NOWHERE.items() for word in ("--env", "=".join(pair))]
    words = ("run", "--rm", *CONFINED, *variables, "--entrypoint", command[0], "localhost/kms-watchdog:test")
    words = (*words, *command[1:])

    done = engine.podman(*words, check=False)

    assert (done.returncode == 0) is works, done.stdout + done.stderr
