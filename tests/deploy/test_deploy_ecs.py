"""ECS: what is rendered says what the file says, is what CloudFormation and ECS take, and repeats no known mistake."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result
from moto import mock_aws

from kms_watchdog.cli import command
from kms_watchdog.config import Settings, load, load_document
from kms_watchdog.deploying.handed import STAND_IN

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "daemon/watchdog.example.toml"
COMMITTED = ROOT / "deploy/ecs"
IN_THE_IMAGE = ROOT / "deploy/container/watchdog.toml"
REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
DIGEST = "sha256:" + "0" * 64

RICH = """
[estate]
name = "staging"
account_id = "${ACCOUNT}"
primary_region = "us-east-1"
regions = ["us-east-1", "us-west-2"]
home_region = "us-west-2"
[keys.pii]
alias = "alias/app-pii"
description = '"quoted", and $${no variable}'
used_by = ["AppRole"]
strict_key_state = true
[endpoints.us-west-2]
kms = "https://vpce-1.kms.us-west-2.vpce.amazonaws.com"
[core]
dataKeyTTL = 120000
hedging = true
[canaries.golden]
interval_seconds = 600
[state]
dir = "state"
[http]
listen = "0.0.0.0:8080"
token = "${TOKEN}"
[health]
deadman_url = "${DEADMAN_URL}"
[otel]
headers = { x-api-key = "${KEY}" }
[drills]
shutdown_seconds = 40
blocked_dates = ["2026-12-24/2027-01-02"]
windows = [{ days = ["mon"], from = "09:00", to = "16:00" }]
[[drills.standing_approvals]]
drill = "region-blackhole"
approved_by = "arn:aws:iam::123456789012:role/R"
until = "2027-06-30"
reason = "monthly"
[drills.slots.fail-over]
drill = "region-blackhole"
day = 3
at = "03:00"
[drills.evidence]
signing = { kind = "kms", key_id = "alias/evidence", regions = ["us-west-2"], algorithm = "ECDSA_SHA_256" }
[cloudwatch.proof.slot]
day = 5
at = "10:00"
"""
PLAIN = """
[estate]
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1"]
[keys.pii]
alias = "alias/app-pii"
[state]
dir = "state"
"""
KNOWN = {"ACCOUNT": "123456789012"}

Render = Callable[..., Result]


@pytest.fixture
def render(tmp_path: Path) -> Render:
    """Run the command over a file of that text."""

    def run(text: str, form: str = "ecs", **environment: str) -> Result:
        config = tmp_path / "watchdog.toml"
        config.write_text(text, encoding="utf-8")
        words = ["deploy", "render", "--format", form, "--config", str(config), "--into", str(tmp_path / "out")]
        return CliRunner().invoke(command, words, env={"ACCOUNT": None, **environment})

    return run


def templates(folder: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}


def containers(template: dict[str, Any], task: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = template["Resources"][task]["Properties"]["ContainerDefinitions"]
    return {one["Name"]: one for one in found}


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {one["Name"]: one["Value"] for one in container["Environment"]}


def read_by(container: dict[str, Any], region: str) -> Settings:
    """What the process in a container takes its configuration for, on Fargate in `region`."""
    secrets = {one["Name"]: f"{STAND_IN}{'x' * 16}" for one in container.get("Secrets", ())}
    return load(IN_THE_IMAGE, environ={**variables(container), **secrets, "AWS_REGION": region})


def meant(settings: Settings, **changed: Any) -> dict[str, Any]:
    """Settings without what differs from place to place: home, folder of the state, what secrets are."""
    values: dict[str, Any] = json.loads(settings.model_dump_json())
    values["estate"].pop("home_region")
    values["state"].pop("dir")
    return {**values, **changed}


# ------------------------------------------------------------------------------------------------ the committed one


def test_the_committed_templates_are_what_the_example_makes(tmp_path: Path) -> None:
    """If not: kms-watchdog deploy render --format ecs --config daemon/watchdog.example.toml --into deploy/ecs."""
    words = ["deploy", "render", "--format", "ecs", "--config", str(EXAMPLE), "--into", str(tmp_path)]

    assert CliRunner().invoke(command, words).exit_code == 0

    made = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert {path.name: path.read_text(encoding="utf-8") for path in COMMITTED.glob("*.json")} == made
    assert sorted(made) == sorted(f"{region}.json" for region in REGIONS)


@pytest.mark.slow
def test_cfn_lint_finds_nothing() -> None:
    """In no template, not even a hint."""
    linter = shutil.which("cfn-lint") or str(ROOT / ".venv/bin/cfn-lint")

    done = subprocess.run(
        [linter, *map(str, sorted(COMMITTED.glob("*.json")))], check=False, capture_output=True, text=True
    )

    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("region", REGIONS)
def test_the_container_reads_what_the_file_says(region: str) -> None:
    """All of it, and its home is where it runs."""
    [template] = [one for name, one in templates(COMMITTED).items() if name == region]

    found = read_by(containers(template, "WatchdogTask")["watchdog"], region)

    assert meant(found) == meant(load(EXAMPLE, environ={}))
    assert (found.home_region, str(found.state.dir)) == (region, "/var/lib/kms-watchdog")


# --------------------------------------------------------------------------------------------------- richer ones


def test_everything_that_a_file_can_say_arrives(render: Render, tmp_path: Path) -> None:
    """Lists of tables, the guide's names, quotes, dollar signs, names with a dash."""
    done = render(RICH, **KNOWN)
    assert done.exit_code == 0, done.output
    template = templates(tmp_path / "out")["us-west-2"]

    found = read_by(containers(template, "WatchdogTask")["watchdog"], "us-west-2")
    told = load_document(
        tmp_path / "watchdog.toml", environ={**KNOWN, "TOKEN": "x" * 16, "DEADMAN_URL": "https://d", "KEY": "k"}
    )

    assert meant(found) == meant(told.settings)
    assert found.core.data_key_ttl_seconds == 120
    assert found.keys["pii"].description == '"quoted", and ${no variable}'
    assert found.drills.slots["fail-over"].day == 3


def test_secrets_are_the_platforms(render: Render, tmp_path: Path) -> None:
    """By the ARN of each in the region itself; whoever renders need not know them, and they are nowhere."""
    done = render(RICH, **KNOWN, TOKEN="never-to-be-seen-1", DEADMAN_URL="https://never-to-be-seen-2")
    template = templates(tmp_path / "out")["us-east-1"]
    secrets = {"HealthDeadmanUrl", "HttpToken", "OtelHeadersXApiKey"}

    text = json.dumps(template)
    assert "never-to-be-seen" not in done.output + text
    assert STAND_IN not in text
    assert {name for name in template["Parameters"] if name in secrets} == secrets
    assert {template["Parameters"][name]["AllowedPattern"].partition("|ssm):")[2][:10] for name in secrets} == {
        "us-east-1:"
    }
    given = containers(template, "WatchdogTask")["watchdog"]["Secrets"]
    assert {one["ValueFrom"]["Ref"] for one in given} == secrets


def test_a_drill_by_hand_starts_no_other(render: Render, tmp_path: Path) -> None:
    """Its companion watches with a new ledger of slots, in which everything would be due once more."""
    render(RICH, **KNOWN)
    both = containers(templates(tmp_path / "out")["us-east-1"], "DrillTask")

    for name in ("drill", "watchdog"):
        assert read_by(both[name], "us-east-1").plans == ()
    assert read_by(containers(templates(tmp_path / "out")["us-east-1"], "WatchdogTask")["watchdog"], "us-east-1").plans


def test_the_port_is_the_files(render: Render, tmp_path: Path) -> None:
    """Asked where it listens; let in from outside only if it listens to others."""
    render(RICH, **KNOWN)
    template = templates(tmp_path / "out")["us-east-1"]
    watchdog = containers(template, "WatchdogTask")["watchdog"]
    [ingress] = template["Resources"]["SecurityGroup"]["Properties"]["SecurityGroupIngress"]

    assert watchdog["HealthCheck"]["Command"] == [
        "CMD",
        "kms-watchdog",
        "healthcheck",
        "--url",
        "http://127.0.0.1:8080/livez",
    ]
    assert watchdog["PortMappings"] == [{"ContainerPort": 8080, "Protocol": "tcp"}]
    assert (ingress["FromPort"], ingress["ToPort"]) == (8080, 8080)
    committed = templates(COMMITTED)["us-east-1"]
    assert "SecurityGroupIngress" not in committed["Resources"]["SecurityGroup"]["Properties"]
    assert "PortMappings" not in containers(committed, "WatchdogTask")["watchdog"]


def let_out(template: dict[str, Any]) -> list[tuple[int, int, str]]:
    rules = template["Resources"]["SecurityGroup"]["Properties"]["SecurityGroupEgress"]
    return [(rule["FromPort"], rule["ToPort"], rule["Description"]) for rule in rules]


@pytest.mark.parametrize(
    ("more", "ports"),
    [
        pytest.param("", [443], id="AWS alone"),
        pytest.param(
            '[otel]\nenabled = true\nendpoint = "https://otel.example:4318/v1/metrics"', [443, 4318], id="otel"
        ),
        pytest.param(
            '[otel]\nenabled = true\nendpoint = "http://otel.example/v1/metrics"', [80, 443], id="no port said"
        ),
        pytest.param('[otel]\nendpoint = "https://otel.example:4318/v1/metrics"', [443], id="not enabled"),
        pytest.param("[otel]\nenabled = true", [443], id="in the task itself"),
        pytest.param(
            '[endpoints.us-east-1]\nkms = "https://a:8443"\nsns = "https://b:8443"\ns3 = "https://c:444"',
            [443, 444, 8443],
            id="endpoints",
        ),
        pytest.param('[drills]\ntoxiproxy_url = "http://toxiproxy.example:8474"', [443, 8474], id="Toxiproxy"),
    ],
)
def test_it_is_let_out_to_what_is_configured(render: Render, tmp_path: Path, more: str, ports: list[int]) -> None:
    """Each port once and in order, besides AWS's own."""
    done = render(PLAIN + more)

    assert done.exit_code == 0, done.output
    meant = [(port, port, "AWS" if port == 443 else "As configured") for port in ports]
    assert let_out(templates(tmp_path / "out")["us-east-1"]) == meant


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param('"${TOKEN}"', f'"{"s" * 16}"', "http.token: a secret must not stand in the file", id="secret"),
        pytest.param('token = "${TOKEN}"', 'token_file = "token"', "http.token_file: 'token' counts from", id="path"),
        pytest.param("shutdown_seconds = 40", "shutdown_seconds = 106", "shutdown_seconds: at most 105", id="stop"),
        pytest.param(
            "[core]",
            'sns = "https://sns.example:99999"\n[core]',
            "endpoints.us-west-2.sns: https://sns.example:99999 is no",
            id="no port",
        ),
        pytest.param("0.0.0.0:8080", "127.0.0.1:0", "http.listen: a port is needed here", id="port"),
        pytest.param("[core]", "[cores]", "cores: unknown key", id="unknown key"),
        pytest.param("[core]", "[core", "not valid TOML", id="no TOML"),
        pytest.param('"${ACCOUNT}"', '"${ACCOUNTS}"', "the variable ACCOUNTS is not set", id="variable"),
    ],
)
def test_what_cannot_run_there_is_refused(render: Render, tmp_path: Path, old: str, new: str, said: str) -> None:
    """In one line that names the key; nothing is written."""
    done = render(RICH.replace(old, new), **KNOWN)

    assert done.exit_code == 2
    assert said in done.output
    assert done.output.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_one_line(render: Render, tmp_path: Path) -> None:
    """As where the disk is full, or somebody else's."""
    (tmp_path / "out/us-east-1.json").mkdir(parents=True)

    done = render(RICH, **KNOWN)

    assert done.exit_code == 2
    assert "us-east-1.json: cannot be written: Is a directory" in done.output
    assert done.output.count("\n") == 1


def test_nothing_of_the_shell_gets_in(render: Render, tmp_path: Path) -> None:
    """Who renders in Ireland, with a debug variable set, makes the same templates."""
    render(RICH, **KNOWN)
    plain = templates(tmp_path / "out")

    done = render(RICH, **KNOWN, AWS_REGION="us-east-1", KMS_WATCHDOG__LOG__LEVEL="debug", KMS_MAX_RETRIES="9")

    assert done.exit_code == 0
    assert templates(tmp_path / "out") == plain


# ------------------------------------------------------------------------------------------ several places, triggers

PLACES = """
[drills.lease]
table = "kms-drills"
region = "us-west-2"
[drills.slots.weekly]
drill = "slow-close"
region = "us-west-2"
every = "week"
day = 7
at = "23:05"
window_days = 2
[drills.slots.off]
drill = "slow-close"
day = 1
at = "00:00"
enabled = false
[replicas]
members = ["use1", "usw2"]
place = "use1"
"""


def test_a_service_is_one_place_and_a_drill_shares_nothing(render: Render, tmp_path: Path) -> None:
    """Which place is said when the stack is made; a drill's own watchdog looks at everything."""
    done = render(RICH + PLACES, **KNOWN)
    assert done.exit_code == 0, done.output
    template = templates(tmp_path / "out")["us-west-2"]
    watchdog = containers(template, "WatchdogTask")["watchdog"]
    named = {"Name": "KMS_WATCHDOG__REPLICAS__PLACE", "Value": {"Ref": "Place"}}

    assert template["Parameters"]["Place"]["AllowedValues"] == ["use1", "usw2"]
    assert "Default" not in template["Parameters"]["Place"]
    assert named in watchdog["Environment"]
    there = {
        **watchdog,
        "Environment": [*(one for one in watchdog["Environment"] if one != named), {**named, "Value": "usw2"}],
    }
    assert read_by(there, "us-west-2").monitor == "staging-usw2"
    for name in ("drill", "watchdog"):
        assert read_by(containers(template, "DrillTask")[name], "us-west-2").replicas.members == ()


def test_scheduled_drills_can_be_started_by_eventbridge(render: Render, tmp_path: Path) -> None:
    """The same one-shot drill, of the turn that was due: whoever else starts it too fills the same slot."""
    render(RICH + PLACES, **KNOWN)
    template = templates(tmp_path / "out")["us-east-1"]
    schedules = {n: r for n, r in template["Resources"].items() if r["Type"] == "AWS::Scheduler::Schedule"}

    assert set(schedules) == {"DrillOfFailOver", "DrillOfWeekly"}
    assert {r["Condition"] for r in [*schedules.values(), template["Resources"]["DrillTriggerRole"]]} == {
        "StartsDrills"
    }
    assert template["Parameters"]["DrillClusterArn"]["Default"] == ""
    monthly, weekly = (schedules[name]["Properties"] for name in ("DrillOfFailOver", "DrillOfWeekly"))
    assert (monthly["ScheduleExpression"], weekly["ScheduleExpression"]) == (
        "cron(0 3 3 * ? *)",
        "cron(5 23 ? * SUN *)",
    )
    [override] = json.loads(weekly["Target"]["Input"])["containerOverrides"]
    assert override == {
        "name": "drill",
        "command": ["run", "slow-close", "--region", "us-west-2", "--slot", "weekly@<aws.scheduler.scheduled-time>"],
    }


def test_without_a_table_for_the_lease_nothing_else_starts_drills(render: Render, tmp_path: Path) -> None:
    """Each task has a folder of its own: nobody would know that a slot had its drill."""
    render(RICH, **KNOWN)
    template = templates(tmp_path / "out")["us-east-1"]

    assert "Conditions" not in template
    assert "DrillClusterArn" not in template["Parameters"]
    assert not [one for one in template["Resources"].values() if one["Type"].startswith(("AWS::Scheduler", "AWS::IAM"))]


@pytest.mark.slow
def test_cfn_lint_finds_nothing_in_those_of_several_places(render: Render, tmp_path: Path) -> None:
    """In no template, not even a hint."""
    render(RICH + PLACES, **KNOWN)
    linter = shutil.which("cfn-lint") or str(Path(sys.executable).with_name("cfn-lint"))

    done = subprocess.run(
        [linter, *map(str, sorted((tmp_path / "out").glob("*.json")))], check=False, capture_output=True, text=True
    )

    assert (done.returncode, done.stdout) == (0, "")


# -------------------------------------------------------------------------------------------- the guide's mistakes


def every_container() -> Iterator[Any]:
    for region, template in templates(COMMITTED).items():
        for task in ("WatchdogTask", "DrillTask"):
            for name, one in containers(template, task).items():
                yield pytest.param(one, id=f"{region} {task} {name}")


@pytest.mark.parametrize("one", list(every_container()))
def test_no_container_repeats_the_guides_mistakes(one: dict[str, Any]) -> None:
    """E2: no shell, no curl. E5: logs in the region, no image by tag, AWS_REGION left to ECS. And least privilege."""
    options = one["LogConfiguration"]["Options"]

    assert "curl" not in json.dumps(one)
    assert one.get("HealthCheck", {"Command": ["CMD"]})["Command"][0] == "CMD"
    assert options["awslogs-region"] == {"Ref": "AWS::Region"}
    assert options["awslogs-group"] == {"Ref": "Logs"}
    assert options["mode"] == "non-blocking"
    assert set(one["Image"]) == {"Ref"}
    assert not {"AWS_REGION", "AWS_DEFAULT_REGION"} & {pair["Name"] for pair in one.get("Environment", ())}
    assert one["ReadonlyRootFilesystem"]
    assert one["User"] == "65532:65532"
    assert one["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}


@pytest.mark.parametrize("region", REGIONS)
def test_the_watchdog_depends_on_nothing(region: str) -> None:
    """E1: asked for /livez alone; Toxiproxy may be missing, and its end is not the task's."""
    both = containers(templates(COMMITTED)[region], "WatchdogTask")

    assert both.keys() == {"watchdog", "toxiproxy"}
    assert both["watchdog"]["HealthCheck"] == {
        "Command": ["CMD", "kms-watchdog", "healthcheck"],
        "Interval": 30,
        "Timeout": 5,
        "Retries": 3,
        "StartPeriod": 60,
    }
    assert both["watchdog"]["Essential"]
    assert not both["toxiproxy"]["Essential"]
    assert not any("DependsOn" in one for one in both.values())
    assert both["watchdog"]["StopTimeout"] == 40  # the 25 s of a drill, and what the daemon needs after it


@pytest.mark.parametrize("region", REGIONS)
def test_a_drill_is_its_tasks_only_reason(region: str) -> None:
    """It begins once its companion has looked at everything, and with it the task ends, faults and all."""
    three = containers(templates(COMMITTED)[region], "DrillTask")

    assert {name: one["Essential"] for name, one in three.items()} == {
        "drill": True,
        "watchdog": False,
        "toxiproxy": False,
    }
    assert three["drill"]["EntryPoint"] + three["drill"]["Command"] == ["kms-chaos", "run", "region-blackhole"]
    assert three["drill"]["DependsOn"] == [
        {"ContainerName": "watchdog", "Condition": "HEALTHY"},
        {"ContainerName": "toxiproxy", "Condition": "START"},
    ]
    assert three["watchdog"]["HealthCheck"]["Command"][-1] == "http://127.0.0.1:9464/readyz"


@pytest.mark.parametrize("region", REGIONS)
def test_it_needs_no_other_region(region: str) -> None:
    """Images and secrets come from the region itself, and CloudFormation refuses any other region and account."""
    template = templates(COMMITTED)[region]
    patterns = [template["Parameters"][f"{whose}Image"]["AllowedPattern"] for whose in ("Watchdog", "Drill")]
    rules = [rule["Assertions"][0]["Assert"]["Fn::Equals"] for rule in template["Rules"].values()]

    assert all(rf"\.ecr\.{region}\.amazonaws" in pattern for pattern in patterns)
    assert all("@sha256:[0-9a-f]{64}" in pattern for pattern in patterns)
    assert rules == [[{"Ref": "AWS::AccountId"}, "123456789012"], [{"Ref": "AWS::Region"}, region]]


# ----------------------------------------------------------------------------------------------------------- moto


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An account of moto's in this process."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")
    with mock_aws():
        yield


IMAGE = f"123456789012.dkr.ecr.REGION.amazonaws.com/kms-watchdog@{DIGEST}"
IMAGE_PARAMETERS = ("WatchdogImage", "DrillImage", "ToxiproxyImage")


def filled_in(value: Any, given: dict[str, str]) -> Any:
    """Return a template's properties as ECS's API takes them: references followed, names with a small letter."""
    if isinstance(value, list):
        return [filled_in(each, given) for each in value]
    if not isinstance(value, dict):
        return value
    if "Ref" in value:
        return given[value["Ref"]]
    if "Fn::Sub" in value:
        return re.sub(r"\$\{([\w:]+)\}", lambda found: given[found[1]], value["Fn::Sub"])
    return {name[:1].lower() + name[1:]: filled_in(each, given) for name, each in value.items()}


@pytest.mark.parametrize(
    ("task", "role"), [pytest.param("WatchdogTask", "KmsWatchdogRole"), pytest.param("DrillTask", "KmsDrillRole")]
)
@pytest.mark.parametrize("region", REGIONS)
def test_ecs_registers_each_task(account: None, region: str, task: str, role: str) -> None:
    """On moto, past botocore's own check of every name and type."""
    template = templates(COMMITTED)[region]
    given = {name: one["Default"] for name, one in template["Parameters"].items() if "Default" in one}
    given |= dict.fromkeys(IMAGE_PARAMETERS, IMAGE.replace("REGION", region)) | {"Logs": "/ecs/kms-watchdog-production"}
    given |= {"AWS::Partition": "aws", "AWS::AccountId": "123456789012", "AWS::Region": region}
    ecs = boto3.client("ecs", region_name=region)

    ecs.register_task_definition(**filled_in(template["Resources"][task]["Properties"], given))

    [arn] = ecs.list_task_definitions()["taskDefinitionArns"]
    found = ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]
    assert found["taskRoleArn"] == f"arn:aws:iam::123456789012:role/{role}"
    assert found["executionRoleArn"] == "arn:aws:iam::123456789012:role/ecsTaskExecutionRole"
    assert {one["image"] for one in found["containerDefinitions"]} == {IMAGE.replace("REGION", region)}
    assert {one["logConfiguration"]["options"]["awslogs-region"] for one in found["containerDefinitions"]} == {region}


def test_cloudformation_makes_of_it_what_runs(account: None) -> None:
    """On moto: two task definitions, a service of the first, a log group that is there before it."""
    session = boto3.Session(region_name="us-west-2")
    ec2, ecs = session.client("ec2"), session.client("ecs")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    subnets = [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]][:2]
    ecs.create_cluster(clusterName="main")
    given = {"Cluster": "main", "Vpc": vpc, "Subnets": ",".join(subnets)}
    given |= dict.fromkeys(IMAGE_PARAMETERS, IMAGE.replace("REGION", "us-west-2"))

    session.client("cloudformation").create_stack(
        StackName="kms-watchdog",
        TemplateBody=(COMMITTED / "us-west-2.json").read_text(encoding="utf-8"),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()],
    )

    families = {arn.rpartition("/")[2] for arn in ecs.list_task_definitions()["taskDefinitionArns"]}
    assert families == {"kms-watchdog-production:1", "kms-drill-production:1"}
    [service] = ecs.describe_services(cluster="main", services=["kms-watchdog-production"])["services"]
    assert service["taskDefinition"].endswith("/kms-watchdog-production:1")
    groups = session.client("logs").describe_log_groups()["logGroups"]
    assert [one["logGroupName"] for one in groups] == ["/ecs/kms-watchdog-production"]
