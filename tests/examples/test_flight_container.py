"""The example's image and its task definitions: what the setup guide has wrong about both is right here."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import boto3
import pytest
from flight_kit import ALL, EXAMPLES, SECONDS, Flight, environment
from moto import mock_aws
from packaging.requirements import Requirement
from parker_flight_api import healthcheck, server
from parker_flight_api.bodies import BODY_SECONDS
from parker_flight_api.readiness import LOOK_SECONDS
from parker_flight_api.settings import MAX_SHUTDOWN_SECONDS, SHUTDOWN_SECONDS, Settings
from parker_flight_api.task_definition import REGIONS, TASKS, main, task_definition
from parker_flight_api.web import QUEUE_SECONDS
from waiting import wait_until

from kms_local.demo.configuration import local_configuration
from kms_local.testing import LocalAws
from kms_watchdog.config import load
from kms_watchdog.estate.role_policies import purposes_by_role

ROOT = EXAMPLES.parent
APP = EXAMPLES / "parker_flight_api"
DIGEST = "sha256:" + "0123456789abcdef" * 4


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield each instruction of a Dockerfile and what it says."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, rest = line.partition(" ")
        yield name, rest.strip()


STEPS = list(instructions((APP / "Dockerfile").read_text(encoding="utf-8")))
LAST_STAGE = STEPS[max(number for number, (name, _) in enumerate(STEPS) if name == "FROM") :]


def said(name: str, steps: list[tuple[str, str]] = LAST_STAGE) -> list[str]:
    return [rest for step, rest in steps if step == name]


def image(region: str) -> str:
    return f"123456789012.dkr.ecr.{region}.amazonaws.com/parker-flight-api@{DIGEST}"


def made(task: str, region: str, **more: int) -> dict[str, Any]:
    return task_definition(TASKS[task], region=region, account_id="123456789012", image=image(region), **more)


def test_the_image_has_two_stages_and_runs_as_nobody() -> None:
    """Nothing is installed in the last one; user by number; no shell stands between PID 1 and its signals."""
    assert len(said("FROM", STEPS)) == 2
    assert said("RUN") == []
    assert said("USER") == ["65532:65532"]
    assert [json.loads(entry) for entry in said("ENTRYPOINT")] == [["python", "-m", "parker_flight_api"]]
    assert said("STOPSIGNAL") == ["SIGTERM"]
    assert said("EXPOSE") == ["3000"]
    assert not any("curl" in rest for _, rest in STEPS)


def test_the_image_does_not_say_where_it_runs() -> None:
    """The platform does: an image that says us-east-1 runs everywhere as if it were there."""
    [variables] = said("ENV")

    names = {word.partition("=")[0] for word in shlex.split(variables)}
    assert not {name for name in names if name.startswith("AWS_")}
    assert {"HOST", "PORT", "NODE_ENV"} <= names


def test_both_health_checks_ask_whether_the_process_lives() -> None:
    """In exec form, within ECS's bounds, with the same numbers, and quicker than ECS loses patience."""
    [health] = said("HEALTHCHECK")
    options, command = health.split(" CMD ")
    asked = made("api", "eu-west-1")["containerDefinitions"][0]["healthCheck"]

    assert json.loads(command) == asked["command"][1:]
    assert asked["command"][0] == "CMD"
    assert dict(re.findall(r"--([a-z-]+)=(\d+)", options)) == {
        "interval": str(asked["interval"]),
        "timeout": str(asked["timeout"]),
        "start-period": str(asked["startPeriod"]),
        "retries": str(asked["retries"]),
    }
    assert asked["timeout"] > healthcheck._SECONDS


def test_what_the_image_copies_is_there() -> None:
    """And what the build is sent: nothing else of the repository, least of all its state."""
    ignored = (APP / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    sent = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    sources = [shlex.split(rest)[0] for rest in said("COPY", STEPS) if not rest.startswith("--from")]

    assert ignored[1] == "*"
    assert sources
    assert all((ROOT / source).exists() for source in sources)
    assert all(any(fnmatch(source, one) or fnmatch(source, f"{one}/*") for one in sent) for source in sources)


def pinned(lock: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Return by name each version and its hashes."""
    blocks = re.split(r"^(?=\S)", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = [(re.match(r"([a-z0-9.-]+)==(\S+)", block), re.findall(r"sha256:(\w+)", block)) for block in blocks]
    return {name[1]: (name[2], frozenset(hashes)) for name, hashes in found if name}


def test_the_images_lock_is_the_products() -> None:
    """The same versions with the same hashes, so that what is tested here is what runs there."""
    ours, products = pinned(APP / "requirements.lock"), pinned(ROOT / "requirements.lock")

    assert all(hashes for _, hashes in ours.values())
    assert ours == {name: products[name] for name in ours}


def test_all_that_is_imported_is_in_the_lock() -> None:
    """By the service and by the core, and by what those import in turn."""
    files = [*APP.glob("*.py"), *(ROOT / "core/kms_core").rglob("*.py")]
    imported = {name for file in files for name in imports(file)} - set(sys.stdlib_module_names)
    of = importlib.metadata.packages_distributions()
    wanted = {of[name][0].lower() for name in imported - {"kms_core", "parker_flight_api", "opentelemetry"}}
    locked = set(pinned(APP / "requirements.lock"))
    while more := {needed for name in wanted for needed in needs(name)} - wanted:
        wanted |= more

    assert {name.replace("_", "-") for name in wanted} <= locked
    assert locked - {name.replace("_", "-") for name in wanted} == {"httptools"}  # uvicorn's parser, by its name


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def needs(distribution: str) -> Iterator[str]:
    for text in importlib.metadata.requires(distribution) or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement.name.lower()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_images_steps_make_a_service_that_runs(flight_aws: LocalAws, tmp_path: Path) -> None:
    """Without an engine: each step in a folder that stands for the root, then its entry point, and its health check."""
    for name, rest in STEPS[: STEPS.index(LAST_STAGE[0], 1)]:
        if name == "COPY":
            source, target = shlex.split(rest)
            copy(ROOT / source, Path(here(target, tmp_path)))
        elif name == "RUN":
            command = [here(word, tmp_path) for word in json.loads(rest)]
            subprocess.run([sys.executable if command[0] == "python" else command[0], *command[1:]], check=True)
    [variables] = said("ENV")
    stated = dict(word.split("=", 1) for word in shlex.split(variables.replace(":${PATH}", "")))
    stated = {name: here(value, tmp_path) for name, value in stated.items()} | {"HOST": "127.0.0.1", "PORT": "0"}
    environ = environment(flight_aws) | stated
    python = f"{stated['PATH']}/python"
    log = tmp_path / "log"

    with log.open("wb") as file, subprocess.Popen(
        [python, "-m", "parker_flight_api", *json.loads(said("CMD")[0])], env=environ, stdout=file, stderr=file
    ) as process:  # fmt: skip
        try:
            flight = Flight(process, log)
            wait_until(lambda: "listening" in flight.said() or process.poll() is not None, says="", seconds=SECONDS)
            sealed = flight.status("/bookings/seal", ALL)
            [command] = [json.loads(rest.split(" CMD ")[1]) for rest in said("HEALTHCHECK")]
            alive = subprocess.run([python, *command[1:]], env=environ | {"PORT": str(flight.port)}, check=False)
            process.terminate()
            code = process.wait(SECONDS)
        finally:
            process.kill()

    assert (sealed, alive.returncode, code) == (200, 0, 0)


def here(path: str, root: Path) -> str:
    """Return `path` with its folders under `root`."""
    return re.sub(r"^/(opt|src)\b", rf"{root}/\1", path)


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


@pytest.mark.slow
@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("task", TASKS)
def test_ecs_takes_the_task_definition(monkeypatch: pytest.MonkeyPatch, task: str, region: str) -> None:
    """In its region, and gives it back as it was."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")
    definition = made(task, region)

    with mock_aws():
        ecs = boto3.client("ecs", region_name=region)
        registered = ecs.register_task_definition(**definition)["taskDefinition"]
        ecs.close()

    assert registered["taskDefinitionArn"].startswith(
        f"arn:aws:ecs:{region}:123456789012:task-definition/parker-flight"
    )
    container, [kept] = definition["containerDefinitions"][0], registered["containerDefinitions"]
    assert {name: kept[name] for name in container} == container
    assert {name: registered[name] for name in ("cpu", "memory", "networkMode", "taskRoleArn", "executionRoleArn")} == {
        "cpu": "512",
        "memory": "1024",
        "networkMode": "awsvpc",
        "taskRoleArn": f"arn:aws:iam::123456789012:role/{TASKS[task].role}",
        "executionRoleArn": "arn:aws:iam::123456789012:role/ecsTaskExecutionRole",
    }


@pytest.mark.parametrize("region", REGIONS)
def test_all_that_a_task_needs_to_start_is_in_its_own_region(region: str) -> None:
    """Image and logs; the names of other regions stand in what the core may ask alone, and AWS_REGION nowhere."""
    [container] = made("api", region)["containerDefinitions"]
    variables = {one["name"]: one["value"] for one in container["environment"]}

    assert "AWS_REGION" not in variables
    assert f".{region}." in container["image"]
    assert container["logConfiguration"]["options"]["awslogs-region"] == region
    elsewhere = set(REGIONS) - {region}
    rest = json.dumps(container | {"environment": []})
    assert not any(other in rest for other in elsewhere)


@pytest.mark.parametrize("task", TASKS)
def test_the_task_says_what_the_service_reads(task: str) -> None:
    """Its environment and the region that ECS adds are settings, for the purposes of its role and no others."""
    [container] = made(task, "eu-west-1")["containerDefinitions"]
    variables = {one["name"]: one["value"] for one in container["environment"]}

    settings = Settings.from_env(variables | {"AWS_REGION": "eu-west-1"})

    assert settings.core.region_order[0] == "eu-west-1"
    assert {key.alias for key in settings.core.keys.values()} == {
        f"alias/parker-flight-{purpose}-production" for purpose in TASKS[task].purposes
    }
    assert settings.core.verify_account
    assert settings.port == container["portMappings"][0]["containerPort"]


def test_roles_are_those_whose_policies_we_render(tmp_path: Path) -> None:
    """Which role may use which key is said once more here, since an image knows no estate: both say the same."""
    endpoints = {"account_id": "123456789012", "ca_bundle": "ca.pem", "regions": {region: {} for region in REGIONS}}
    config = tmp_path / "watchdog.toml"
    text = local_configuration(endpoints, state="state", alarms="alarms", listen="127.0.0.1:0")
    config.write_text(re.sub(r"ca_bundle.*\n", "", text), encoding="utf-8")

    assert purposes_by_role(load(config)) == {task.role: frozenset(task.purposes) for task in TASKS.values()}


@pytest.mark.parametrize("shutdown_seconds", [1, SHUTDOWN_SECONDS, MAX_SHUTDOWN_SECONDS])
def test_ecs_waits_for_the_end_and_fargate_lets_it(shutdown_seconds: int) -> None:
    """The silent, the requests, a look at the keys, the metrics: then there is time to spare, whatever is chosen."""
    [container] = made("api", "us-east-1", shutdown_seconds=shutdown_seconds)["containerDefinitions"]
    variables = {one["name"]: one["value"] for one in container["environment"]}
    waits = Settings.from_env(variables | {"AWS_REGION": "us-east-1"}).shutdown_seconds
    cloudwatch_seconds = 5.0

    longest = server.LINGER_SECONDS + waits + LOOK_SECONDS + cloudwatch_seconds

    assert waits == shutdown_seconds
    assert longest < container["stopTimeout"] <= 120
    assert container["linuxParameters"] == {"initProcessEnabled": True}
    assert container["readonlyRootFilesystem"] is True


def test_the_end_lasts_longer_than_any_request() -> None:
    """Its body, and then what KMS and the queue for a thread may take."""
    settings = Settings.from_env({"AWS_ACCOUNT_ID": "123456789012", "AWS_REGION": "us-east-1"})

    assert BODY_SECONDS + settings.core.deadline_seconds + QUEUE_SECONDS < settings.shutdown_seconds == SHUTDOWN_SECONDS


@pytest.mark.parametrize("shutdown_seconds", ["0", "91", "soon"])
def test_an_end_that_the_service_does_not_take_is_refused(
    capsys: pytest.CaptureFixture[str], shutdown_seconds: str
) -> None:
    """Else the task would not start, or be killed in its end."""
    asked = ["--region", "us-east-1", "--account-id", "123456789012", "--image", image("us-east-1")]
    with pytest.raises(SystemExit) as ended:
        main([*asked, "--shutdown-seconds", shutdown_seconds])

    assert ended.value.code == 2
    assert "--shutdown-seconds" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("region", "account_id", "given", "said"),
    [
        pytest.param("us-east", "123456789012", image("us-east-1"), "--region must be", id="region"),
        pytest.param("us-east-1", "1234", image("us-east-1"), "--account-id must be 12 digits", id="account"),
        pytest.param("us-east-1", "123456789012", "parker-flight-api:latest", "a tag may change", id="tag"),
        pytest.param("eu-west-1", "123456789012", image("us-east-1"), "is in us-east-1", id="elsewhere"),
    ],
)
def test_what_would_not_run_is_refused(
    capsys: pytest.CaptureFixture[str], region: str, account_id: str, given: str, said: str
) -> None:
    """Exit code 2, and the option is named."""
    with pytest.raises(SystemExit) as ended:
        main(["--region", region, "--account-id", account_id, "--image", given])

    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_the_command_prints_what_ecs_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """The one of payments where that is asked for."""
    asked = ["--region", "eu-west-1", "--account-id", "123456789012", "--image", image("eu-west-1")]
    code = main(["--task", "payment", *asked, "--shutdown-seconds", "60"])

    assert code == 0
    assert json.loads(capsys.readouterr().out) == made("payment", "eu-west-1", shutdown_seconds=60)
