"""docs/from-the-setup-guide.md: all of the setup guide has a row there, and all that a row names exists."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from named_tests import functions_of

from kms_alarms.cli import cli as alarms
from kms_chaos.cli import cli as chaos
from kms_dashboards.cli import cli as dashboards
from kms_local.__main__ import group as local
from kms_watchdog.cli import command as watchdog
from kms_watchdog.readiness.items import ITEMS

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs/from-the-setup-guide.md"
TEXT = PAGE.read_text(encoding="utf-8")
PROGRAMS: dict[str, click.Command] = {
    "kms-alarms": alarms,
    "kms-chaos": chaos,
    "kms-dashboards": dashboards,
    "kms-local": local,
    "kms-watchdog": watchdog,
}
MISTAKES = [f"{of}{n}" for of, last in zip("ABCDEF", (8, 10, 9, 11, 7, 10), strict=True) for n in range(1, last + 1)]
"""Of `aws.md` section 2, in which the guide is gone through; G is a trap that nobody lists."""

# What the guide says, in its own words and order: headings, and what stands below them. Commands by their beginning.
GUIDE: Mapping[str, tuple[str, ...]] = {
    "Architecture Overview": (),
    "Multi-Region Key (MRK) Benefits": (
        "Seamless Failover",
        "Lower Latency",
        "High Availability",
        "Cost Optimization",
    ),
    "Key Architecture": (
        "Primary Region (us-east-1)",
        "parker-flight-general-production",
        "parker-flight-pii-production",
        "parker-flight-payment-production",
        "Replica Regions (us-west-2, eu-west-1)",
        "Local alias mappings",
        "Independent operation capability",
    ),
    "Prerequisites": (),
    "Environment Variables": (
        'AWS_ACCOUNT_ID="123456789012"',
        'AWS_REGION="us-east-1"',
        'NODE_ENV="production"',
        'AWS_ROLE_ARN="arn:aws:iam::123456789012:role/ParkerFlightServiceRole"',
    ),
    "AWS CLI Setup": (
        'curl "https://awscli.amazonaws.com/awscli-exe-linux-x86_64.zip"',
        "unzip awscliv2.zip",
        "sudo ./aws/install",
        "aws configure set region us-east-1",
        "aws configure set output json",
    ),
    "IAM Roles and Policies": (),
    "1. Create Service Roles": (
        "Parker Flight Service Role",
        '"Service": ["ecs-tasks.amazonaws.com", "ec2.amazonaws.com"]',
        '"Action": "sts:AssumeRole"',
        "Payment Service Role",
        '"AWS": "arn:aws:iam::123456789012:role/ParkerFlightServiceRole"',
    ),
    "2. KMS Permissions Policy": (
        "AllowKMSOperations",
        "kms:Encrypt",
        "kms:Decrypt",
        "kms:ReEncrypt*",
        "kms:GenerateDataKey*",
        "kms:DescribeKey",
        "kms:CreateGrant",
        "kms:ListGrants",
        "kms:RevokeGrant",
        "kms:GetKeyRotationStatus",
        "arn:aws:kms:us-east-1:123456789012:key/*",
        "kms:ViaService",
        "s3.us-east-1.amazonaws.com",
        "dynamodb.us-east-1.amazonaws.com",
        "AllowDirectKMSAccess",
        "arn:aws:kms:*:123456789012:alias/parker-flight-*",
        "AllowKMSAliasListing",
        "kms:ListAliases",
        "kms:ListKeys",
    ),
    "3. Cross-Region Access Policy": (
        "AllowCrossRegionKMSAccess",
        "kms:Decrypt",
        "kms:GenerateDataKey",
        "kms:DescribeKey",
        '"Resource": "*"',
        "aws:RequestedRegion",
        '"aws:SecureTransport": "true"',
    ),
    "Multi-Region Key Setup": (),
    "1. Create IAM Roles Using AWS CLI": (
        "aws iam create-role --role-name ParkerFlightServiceRole",
        "file://service-role-trust-policy.json",
        "aws iam put-role-policy --role-name ParkerFlightServiceRole --policy-name ParkerFlightKMSPolicy",
        "file://kms-permissions-policy.json",
        "aws iam create-role --role-name ParkerFlightPaymentRole",
        "file://payment-role-trust-policy.json",
        "aws iam put-role-policy --role-name ParkerFlightPaymentRole --policy-name PaymentKMSPolicy",
    ),
    "2. Create Multi-Region Keys": (
        "aws kms create-key --region us-east-1",
        '--description "General purpose encryption for Parker Flight services"',
        "--key-usage ENCRYPT_DECRYPT",
        "--key-spec SYMMETRIC_DEFAULT",
        "--multi-region",
        "--policy file://general-key-policy.json",
        "aws kms create-alias --region us-east-1 --alias-name alias/parker-flight-general-production",
        "aws kms replicate-key --region us-west-2",
        '--description "General purpose encryption replica in us-west-2"',
        "aws kms create-alias --region us-west-2",
        "Repeat for eu-west-1 and other key types (pii, payment)",
    ),
    "3. Enable Key Rotation": (
        "for region in us-east-1 us-west-2 eu-west-1",
        "aws kms enable-key-rotation --region $region --key-id alias/parker-flight-general-production",
    ),
    "Application Integration": (),
    "1. Install Dependencies": ("npm install @aws-sdk/client-kms @smithy/node-http-handler",),
    "2. Environment Configuration": (
        "regions: ['us-east-1', 'us-west-2', 'eu-west-1']",
        "primaryRegion: process.env.AWS_REGION || 'us-east-1'",
        "keyAliases",
        "dataKeyTTL: 5 * 60 * 1000",
        "maxEncryptionsPerKey: 1000",
        "circuitBreakerThreshold: 3",
        "maxRetries: 5",
    ),
    "3. Application Startup": (
        "import { initializeKMS, shutdownKMS } from './lib/aws-sdk-enhanced/kms-usage-examples'",
        "await initializeKMS()",
        "const app = express()",
        "app.listen(PORT",
        "process.on('SIGTERM'",
        "server.close()",
        "await shutdownKMS()",
        "process.exit(0)",
        "console.error('Failed to start application:', error)",
        "process.exit(1)",
    ),
    "4. Docker Configuration": (
        "FROM node:18-alpine",
        "WORKDIR /app",
        "COPY package*.json ./",
        "RUN npm ci --only=production",
        "COPY . .",
        "ENV NODE_ENV=production",
        "ENV AWS_REGION=us-east-1",
        "HEALTHCHECK --interval=30s --timeout=10s --start-period=5s --retries=3",
        "CMD curl -f http://localhost:3000/health || exit 1",
        "EXPOSE 3000",
        'CMD ["node", "dist/app.js"]',
    ),
    "5. ECS Task Definition": (
        '"family": "parker-flight-api"',
        "taskRoleArn",
        "executionRoleArn",
        '"networkMode": "awsvpc"',
        '"requiresCompatibilities": ["FARGATE"]',
        '"cpu": "512"',
        '"memory": "1024"',
        '"image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/parker-flight-api:latest"',
        '"essential": true',
        '"containerPort": 3000',
        '"protocol": "tcp"',
        "NODE_ENV",
        "AWS_REGION",
        "AWS_ACCOUNT_ID",
        '"awslogs-group": "/ecs/parker-flight-api"',
        '"awslogs-region": "us-east-1"',
        '"awslogs-stream-prefix": "ecs"',
        "curl -f http://localhost:3000/health || exit 1",
        '"interval": 30',
        '"timeout": 5',
        '"retries": 3',
        '"startPeriod": 60',
    ),
    "Monitoring and Alerting": (),
    "1. CloudWatch Metrics": (
        "new CloudWatchClient({ region: 'us-east-1' })",
        "MetricName: 'KMSOperationDuration'",
        "Region",
        "Operation",
        "Success",
        "Unit: 'Milliseconds'",
        "Namespace: 'ParkerFlight/KMS'",
        "metrics.map",
        "Value: metric.duration",
        "Timestamp: new Date()",
        "await this.cloudWatch.send(new PutMetricDataCommand",
    ),
    "2. CloudWatch Alarms": (
        '--alarm-name "ParkerFlight-KMS-HighErrorRate"',
        '--alarm-description "KMS operations error rate is high"',
        '--metric-name "KMSOperationDuration"',
        '--namespace "ParkerFlight/KMS"',
        '--statistic "Average"',
        "--period 300",
        "--evaluation-periods 2",
        "--threshold 50",
        '--comparison-operator "GreaterThanThreshold"',
        "--dimensions Name=Success,Value=false",
        '--alarm-actions "arn:aws:sns:us-east-1:123456789012:parker-flight-alerts"',
        '--alarm-name "ParkerFlight-KMS-CircuitBreakerOpen"',
        '--alarm-description "KMS circuit breaker is open"',
        '--metric-name "CircuitBreakerState"',
        '--statistic "Maximum"',
        "--period 60",
        "--evaluation-periods 1",
        "--threshold 1",
        '--comparison-operator "GreaterThanOrEqualToThreshold"',
        '--alarm-actions "arn:aws:sns:us-east-1:123456789012:parker-flight-critical-alerts"',
    ),
    "3. Health Check Endpoint": (
        "app.get('/health'",
        "await monitoring.getKMSHealth()",
        "Object.values(health.regions).every(healthy => healthy)",
        ".some((cb: any) => cb.state === 'OPEN')",
        "res.status(status === 'healthy' ? 200 : 503).json",
        "timestamp",
        "regions",
        "circuitBreakers",
        "res.status(500).json",
        "error: error.message",
    ),
    "Troubleshooting": (),
    "Common Issues and Solutions": (
        '1. "KMS_KEY_UNAVAILABLE" Errors',
        "aws kms describe-key --region $region --key-id alias/parker-flight-payment-production",
        "Verify key exists in all regions",
        "Check IAM permissions",
        "Ensure key is enabled",
        "Verify MRK replication completed",
        "2. Rate Limiting Issues",
        "Math.min(baseDelay * Math.pow(2, attempt) + Math.random() * 1000, maxDelay)",
        "Implement data key caching (already included)",
        "Use batch processing",
        "Add jitter to retry logic",
        "Monitor request patterns",
        "3. Cross-Region Access Issues",
        "aws kms decrypt --region us-west-2 --ciphertext-blob fileb://encrypted-data.bin",
        "--output text --query Plaintext | base64 -d",
        "Verify MRK is properly replicated",
        "Check IAM policies for cross-region permissions",
        "Ensure VPC endpoints are configured correctly",
    ),
    "Debugging Commands": (
        "aws kms list-keys --region us-east-1",
        "aws kms get-key-rotation-status --key-id alias/parker-flight-payment-production",
        "aws kms get-key-policy --key-id alias/parker-flight-payment-production --policy-name default",
        "aws kms generate-data-key --key-id alias/parker-flight-payment-production --key-spec AES_256",
    ),
    "Best Practices": (),
    "1. Security Best Practices": (
        "Principle of Least Privilege",
        "Key Separation",
        "Audit Logging",
        "Network Security",
        "Encryption Context",
    ),
    "2. Performance Optimization": (
        "Data Key Caching",
        "Batch Processing",
        "Regional Optimization",
        "Connection Pooling",
        "Circuit Breakers",
    ),
    "3. Cost Optimization": ("Data Key Reuse", "Regional Strategy", "Request Batching", "Monitoring"),
    "4. Operational Excellence": ("Monitoring", "Testing", "Documentation", "Automation", "Disaster Recovery"),
    "5. Multi-Region Strategy": (
        "MRK Usage",
        "Regional Fallback",
        "Consistency",
        "Latency Optimization",
        "Health Monitoring",
    ),
    "Production Checklist": tuple(item.words for item in ITEMS),  # a test of theirs holds them to the guide's
    "Support and Maintenance": (),
    "Regular Tasks": (
        "Weekly: Review KMS metrics and performance",
        "Monthly: Test failover scenarios",
        "Quarterly: Review and update IAM policies",
        "Annually: Complete security audit",
    ),
    "Emergency Procedures": (
        "Circuit Breaker Activation",
        "High Error Rates",
        "Key Unavailability",
        "Performance Degradation",
    ),
}


@dataclass(frozen=True, slots=True)
class Section:
    """What stands under one heading."""

    text: str

    @property
    def rows(self) -> list[list[str]]:
        """Return the cells of each row of its tables, without heads and rules."""
        lines = [line for line in self.text.splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
        return [row for row in cells if row[0] != "the guide" and not set("".join(row)) <= set("-")]

    @property
    def of_the_guide(self) -> list[str]:
        """Return the first cells, as the guide says it: its beginnings of lines and its emphasis are left out."""
        return [re.sub(r"\*\*|`", "", row[0]).replace("\\|", "|") for row in self.rows]


def sections() -> dict[str, Section]:
    """Return what the page has under each of its headings, the title's own without."""
    parts = re.split(r"^#{2,3} (.+)$", TEXT, flags=re.MULTILINE)
    return {heading: Section(text) for heading, text in zip(parts[1::2], parts[2::2], strict=True)}


def commands() -> list[str]:
    """Return each command of ours that the page shows as code."""
    return sorted(set(re.findall(rf"`((?:{'|'.join(PROGRAMS)})(?: [^`]*)?)`", TEXT)))


def parse(command: click.Command, words: list[str]) -> None:
    """Let the command that `words` call take them; call nothing.

    Raises:
        click.UsageError: it does not take them.
    """
    context = click.Context(command)
    found, rest, _ = command.make_parser(context).parse_args(args=list(words))
    for param in command.params:
        name = param.name or ""
        value = found.get(name)
        if param.required and (name not in found or param.value_is_missing(value)):
            raise click.MissingParameter(ctx=context, param=param)
        if isinstance(param.type, click.Choice) and isinstance(value, str):
            param.type.convert(value, param, context)
    if isinstance(command, click.Group) and rest:
        below = command.get_command(context, rest[0])
        if below is None:
            raise click.UsageError(f"there is no command {rest[0]}", context)
        parse(below, rest[1:])
    elif rest:
        raise click.UsageError(f"one word too many: {rest[0]}", context)


def proofs(text: str) -> Iterator[tuple[str, str]]:
    """Yield the path and the name of each test that `text` names."""
    yield from re.findall(r"`([\w/]+\.py)::(\w+)`", text)


@pytest.mark.parametrize("line", commands())
def test_every_command_can_be_typed(line: str) -> None:
    """Its subcommands, options, their values where there is a choice, and no word too many."""
    program, *words = shlex.split(line)

    parse(PROGRAMS[program], words)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("kms-watchdog provison", id="no-such-command"),
        pytest.param("kms-watchdog provision plan --dry-run", id="no-such-option"),
        pytest.param("kms-watchdog provision render --format yaml --into FOLDER", id="no-such-choice"),
        pytest.param("kms-watchdog checklist ack training --by NAME", id="option-missing"),
        pytest.param("kms-chaos run", id="argument-missing"),
        pytest.param("kms-watchdog once round_trip", id="a-word-too-many"),
    ],
)
def test_what_cannot_be_typed_would_be_found(line: str) -> None:
    """Else the test above proved nothing."""
    program, *words = shlex.split(line)

    with pytest.raises(click.UsageError):
        parse(PROGRAMS[program], words)


def test_each_program_is_shown() -> None:
    """Were the commands not found, all would be well with them."""
    assert {line.partition(" ")[0] for line in commands()} == PROGRAMS.keys()
    assert len(commands()) >= 60


def test_every_file_that_is_linked_is_there() -> None:
    """Pages, policies, templates, code."""
    links = re.findall(r"\]\(([^)#\s]+)", TEXT)

    assert len(links) >= 60
    assert [link for link in links if not (PAGE.parent / link).exists()] == []


def test_every_test_that_is_named_is_there() -> None:
    """A proof that was renamed is none."""
    named = set(proofs(TEXT))

    assert len(named) >= 120
    assert [f"{path}: no such file" for path, _ in named if not (TESTS / path).is_file()] == []
    assert [f"{path}::{name}" for path, name in named if name not in functions_of(TESTS / path)] == []
    assert len(named) == len(set(re.findall(r"`[^`\s]+\.py::[^`]+`", TEXT)))  # none is written in another way


def test_the_guides_headings_are_the_pages() -> None:
    """All of them, in its order, and no others."""
    assert list(sections()) == list(GUIDE)


@pytest.mark.parametrize("heading", [heading for heading, said in GUIDE.items() if said])
def test_all_that_the_guide_says_has_a_row(heading: str) -> None:
    """In the first column, under the guide's own heading, in its own words."""
    cells = sections()[heading].of_the_guide

    assert [said for said in GUIDE[heading] if not any(said in cell for cell in cells)] == []


@pytest.mark.parametrize("heading", [heading for heading, said in GUIDE.items() if said])
def test_every_row_says_what_is_ours_what_was_wrong_and_what_proves_it(heading: str) -> None:
    """Four cells, none empty, the last of them tests; and where to go from the section."""
    section = sections()[heading]

    assert {len(row) for row in section.rows} == {4}
    assert [row for row in section.rows if not all(row)] == []
    assert [row[0] for row in section.rows if not list(proofs(row[3]))] == []
    assert [row[0] for row in section.rows if re.sub(r"`[\w/]+\.py::\w+`(, )?", "", row[3])] == []
    assert re.search(r"`kms-|\]\(", section.text)


def test_every_mistake_is_there() -> None:
    """Told once where it is made, and named again where it comes back."""
    told = re.findall(r"(?<![Aa]s )\*\*([A-G]\d*)\*\*", TEXT)

    assert sorted(told) == sorted([*MISTAKES, "G"])
    assert set(re.findall(r"[Aa]s \*\*([A-G]\d*)\*\*", TEXT)) <= set(MISTAKES)


def test_the_alarms_numbers_are_those_that_are_rendered() -> None:
    """Period, how many of how many, threshold, and how soon somebody is told."""
    text = (TESTS.parent / "alarms/cloudwatch/us-east-1.json").read_text(encoding="utf-8")
    by_name = {alarm["AlarmName"]: alarm for alarm in json.loads(text)}
    rate = by_name["ParkerFlight-KMS-HighErrorRate-us-east-1"]
    breaker = by_name["ParkerFlight-KMS-CircuitBreakerOpen-us-east-1"]
    [seconds] = re.findall(r"within (\d+) s", rate["AlarmDescription"])
    ours = [row[1] for row in sections()["2. CloudWatch Alarms"].rows]

    assert f"{spoken(rate)}: told within {seconds} s" in ours
    assert f"above {rate['Threshold']:g} percent" in ours
    assert spoken(breaker) in ours
    assert f"Maximum of the dimension Region, at least {breaker['Threshold']:g}" in ours


def spoken(alarm: Mapping[str, Any]) -> str:
    """Return what an alarm waits for, as the page says it."""
    period = alarm["Metrics"][0]["MetricStat"]["Period"]
    return f"{period} s, {alarm['DatapointsToAlarm']} of {alarm['EvaluationPeriods']}"
