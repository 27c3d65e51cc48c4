"""The regular review on the local AWS: clean after apply, and every mistake that is planted found by its name."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from daemon_kit import LocalCloud
from estate_kit import key_in

from kms_local.admin_client import ask
from kms_watchdog import aws
from kms_watchdog.auditing.look import likely_ids, unused_services
from kms_watchdog.commands.audit import command as audit
from kms_watchdog.commands.options import COULD_NOT_TELL
from kms_watchdog.commands.provision import command as provision
from kms_watchdog.config import Settings
from kms_watchdog.estate.desired import desired_keys
from kms_watchdog.estate.kms_admin import EstateError
from kms_watchdog.estate.observed import ObservedRegion, ObservedReplica
from kms_watchdog.estate.trails import records_everything
from kms_watchdog.readiness.estate_evidence import Seen

pytestmark = pytest.mark.slow

REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
PREFIX, TRAIL = "audited", "kms-watchdog-keys"


class Audited:
    """One provisioned estate with a trail, in an account of its own for this file."""

    def __init__(self, cloud: LocalCloud, config: Path) -> None:
        self.cloud, self.config = cloud, config

    def key_id(self, purpose: str = "general") -> str:
        """Return a key's id."""
        found = self.cloud.client("kms").describe_key(KeyId=f"alias/{PREFIX}-{purpose}")
        return str(found["KeyMetadata"]["KeyId"])

    def run(self, *arguments: str) -> Result:
        """Review it."""
        return CliRunner().invoke(audit, [*arguments, "--config", str(self.config)])

    def found(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Review it until all could be read: on a busy machine an answer may be too late. Return as `once`."""
        for _ in range(10):
            code, document = self.once(*arguments)
            if code != COULD_NOT_TELL:
                return code, document
        raise AssertionError(document["not_told"])

    def once(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Review it; return exit code and document."""
        done = self.run("--format", "json", *arguments)
        return done.exit_code, json.loads(done.stdout)


@pytest.fixture
def audited(cloud_here: LocalCloud, tmp_path: Path) -> Iterator[Audited]:
    ask(cloud_here.directory, "PUT", "/iam", {"RoleDetailList": []})
    config = cloud_here.config(tmp_path, prefix=PREFIX)
    text = re.sub(r"\[keys\.(pii|payment)\]\n.*\n.*\n", "", config.read_text(encoding="utf-8"))
    text = text.replace("[keys.general]", 'trail_bucket = "log-archive"\n[keys.general]')
    config.write_text(text, encoding="utf-8")
    made = CliRunner().invoke(provision, ["apply", "--yes", "--steps", ALL_STEPS, "--config", str(config)])
    assert made.exit_code == 0, made.output
    one = Audited(cloud_here, config)
    cloudtrail = one.cloud.client("cloudtrail")
    yield one
    cloudtrail.put_event_selectors(TrailName=TRAIL, EventSelectors=[{"ReadWriteType": "All"}])  # for the next test
    cloudtrail.start_logging(Name=TRAIL)
    for region in REGIONS:
        kms = one.cloud.client("kms", region)
        for grant in kms.list_grants(KeyId=one.key_id())["Grants"]:
            kms.revoke_grant(KeyId=one.key_id(), GrantId=grant["GrantId"])


ALL_STEPS = "roles,trail,keys,aliases,rotation,tags,policies"


def test_after_apply_it_is_clean(audited: Audited) -> None:
    """In each form; and it is kept, to be compared with."""
    code, document = audited.found()
    page, text = audited.run("--quarterly", "--output", str(audited.config.parent / "q.html")), audited.run("--no-keep")
    annual = audited.run("--annual", "--output", str(audited.config.parent / "year.json"))

    kept = sorted(path.name for path in (audited.config.parent / "state" / "audits").glob("*.json"))
    html = (audited.config.parent / "q.html").read_text(encoding="utf-8")
    assert (code, document["findings"], document["not_told"]) == (0, [], {})
    assert {(one["region"], one["state"], one["rotates"]) for one in document["keys"]} == {
        (region, "Enabled", True) for region in REGIONS
    }
    assert len(document["roles"]) == 8
    assert document["not_offered"]  # the local IAM does not tell what was used last
    assert (page.exit_code, text.exit_code) == (0, 0)
    assert sorted(name.partition("-")[2] for name in kept) == ["annual.json", "now.json", "quarterly.json"]
    year = json.loads((audited.config.parent / "year.json").read_text(encoding="utf-8"))
    assert (annual.exit_code, year["kind"], year["findings"]) == (0, "annual", [])
    assert "Nothing wrong in what could be read." in html
    assert "<script" not in html
    assert "quarterly review of account 123456789012" in html
    assert "AWS did not tell" in text.stdout
    assert "CreateKey" in text.stdout  # who changed keys


def disabled(one: Audited) -> None:
    one.cloud.client("kms", "eu-west-1").disable_key(KeyId=one.key_id())


def enabled(one: Audited) -> None:
    one.cloud.client("kms", "eu-west-1").enable_key(KeyId=one.key_id())


def default_policy(one: Audited) -> None:
    root = {"AWS": "arn:aws:iam::123456789012:root"}
    statement = {"Effect": "Allow", "Principal": root, "Action": "kms:*", "Resource": "*"}
    text = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    one.cloud.client("kms", "us-west-2").put_key_policy(KeyId=one.key_id(), PolicyName="default", Policy=text)


def rotation_off(one: Audited) -> None:
    one.cloud.client("kms").disable_key_rotation(KeyId=one.key_id())


def repointed(one: Audited) -> None:
    kms = one.cloud.client("kms", "us-west-2")
    other = kms.create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
    kms.update_alias(AliasName=f"alias/{PREFIX}-general", TargetKeyId=other)


def without_alias(one: Audited) -> None:
    one.cloud.client("kms", "us-west-2").delete_alias(AliasName=f"alias/{PREFIX}-general")


def pointed_back(one: Audited) -> None:
    one.cloud.client("kms", "us-west-2").update_alias(AliasName=f"alias/{PREFIX}-general", TargetKeyId=one.key_id())


def untagged(one: Audited) -> None:
    one.cloud.client("kms", "eu-west-1").untag_resource(KeyId=one.key_id(), TagKeys=["managed-by"])


def granted(one: Audited) -> None:
    one.cloud.client("kms", "eu-west-1").create_grant(
        KeyId=one.key_id(), GranteePrincipal="arn:aws:iam::123456789012:role/Other", Operations=["Decrypt"]
    )


def spare(one: Audited) -> None:
    tags = [{"TagKey": "kms-watchdog:estate", "TagValue": PREFIX}]
    one.cloud.client("kms").create_key(MultiRegion=True, Tags=tags)


def spare_gone(one: Audited) -> None:
    kms = one.cloud.client("kms")
    for listed in kms.list_keys()["Keys"]:
        tags = kms.list_resource_tags(KeyId=listed["KeyId"])["Tags"]
        if {"TagKey": "kms-watchdog:estate", "TagValue": PREFIX} in tags and listed["KeyId"] != one.key_id():
            kms.untag_resource(KeyId=listed["KeyId"], TagKeys=["kms-watchdog:estate"])


def of_the_guide(one: Audited) -> None:
    """Give the application's role the setup guide's second statement: alias ARNs as Resource."""
    iam = one.cloud.client("iam")
    [name] = iam.list_role_policies(RoleName="ServiceRole")["PolicyNames"]
    statement = {
        "Effect": "Allow",
        "Action": ["kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"],
        "Resource": ["arn:aws:kms:*:123456789012:alias/parker-flight-*"],
    }
    text = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(RoleName="ServiceRole", PolicyName=name, PolicyDocument=text)


def trusts_ec2(one: Audited) -> None:
    trust = {"Effect": "Allow", "Principal": {"Service": ["ecs-tasks.amazonaws.com", "ec2.amazonaws.com"]}}
    text = json.dumps({"Version": "2012-10-17", "Statement": [{**trust, "Action": "sts:AssumeRole"}]})
    one.cloud.client("iam").update_assume_role_policy(RoleName="ServiceRole", PolicyDocument=text)


def no_roles(one: Audited) -> None:
    ask(one.cloud.directory, "PUT", "/iam", {"RoleDetailList": []})


def trail_stopped(one: Audited) -> None:
    one.cloud.client("cloudtrail").stop_logging(Name=TRAIL)


def trail_without_kms(one: Audited) -> None:
    one.cloud.client("cloudtrail").put_event_selectors(
        TrailName=TRAIL,
        EventSelectors=[{"ReadWriteType": "All", "ExcludeManagementEventSources": ["kms.amazonaws.com"]}],
    )


def nothing(_: Audited) -> None: ...


@pytest.mark.parametrize(
    ("plant", "mend", "finds"),
    [
        pytest.param(disabled, enabled, {"K1 key general in eu-west-1"}, id="disabled"),
        pytest.param(rotation_off, nothing, {f"K3 key general in {region}" for region in REGIONS}, id="rotation"),
        pytest.param(repointed, pointed_back, {"K5 key general in us-west-2"}, id="alias"),
        pytest.param(without_alias, nothing, {"K5 key general in us-west-2"}, id="alias-deleted"),
        pytest.param(untagged, nothing, {"K6 key general in eu-west-1"}, id="tags"),
        pytest.param(granted, nothing, {"K8 key general in eu-west-1"}, id="grant"),
        pytest.param(trail_stopped, nothing, {"T2 trail kms-watchdog-keys of us-east-1"}, id="trail-stopped"),
        pytest.param(
            trail_without_kms, nothing, {"T3 trail kms-watchdog-keys of us-east-1"}, id="trail-leaves-kms-out"
        ),
    ],
)
def test_what_is_planted_is_found_and_nothing_else(
    audited: Audited, plant: Callable[[Audited], None], mend: Callable[[Audited], None], finds: set[str]
) -> None:
    """By its id, where it is, with what it means and what to do; a later review says that it is gone."""
    before, _ = audited.found()
    plant(audited)
    code, document = audited.found()
    mend(audited)

    found = {f"{one['id']} {one['where']}" for one in document["findings"]}
    assert before == 0
    assert code == 1
    assert found == finds
    assert all(one["new"] and one["means"] and one["remedy"] for one in document["findings"])


@pytest.mark.parametrize(
    ("plant", "finds"),
    [
        pytest.param(default_policy, {"B9d", "P1"}, id="default-key-policy"),
        pytest.param(of_the_guide, {"B2", "B3"}, id="alias-as-resource-and-no-metrics"),
        pytest.param(trusts_ec2, {"B7"}, id="trust"),
        pytest.param(no_roles, {"B10"}, id="no-roles"),
    ],
)
def test_policies_are_explained_by_the_rules_on_them(
    audited: Audited, plant: Callable[[Audited], None], finds: set[str]
) -> None:
    """Among them the setup guide's own, by the id of its mistake."""
    plant(audited)
    code, document = audited.found("--no-keep")

    assert code == 1
    assert finds <= {one["id"] for one in document["findings"]}
    assert len({(one["id"], one["where"], one["what"]) for one in document["findings"]}) == len(document["findings"])


def test_a_later_review_tells_what_is_new_and_what_is_gone(audited: Audited) -> None:
    """Compared with the last of its kind."""
    untagged(audited)
    _, first = audited.found()
    trail_stopped(audited)
    kms = audited.cloud.client("kms", "eu-west-1")
    kms.tag_resource(KeyId=audited.key_id(), Tags=[{"TagKey": "managed-by", "TagValue": "kms-watchdog"}])
    _, second = audited.found()

    assert [(one["id"], one["new"]) for one in first["findings"]] == [("K6", False)]
    assert first["compared_with_utc"] is None
    assert [(one["id"], one["new"]) for one in second["findings"]] == [("T2", True)]
    assert second["gone"] == ["K6 key general in eu-west-1: its tags managed-by are not as they should be"]
    assert second["compared_with_utc"] == first["made_at_utc"]


def test_a_second_grant_on_the_same_key_is_new(audited: Audited) -> None:
    """It is another one, whoever had one before."""
    granted(audited)
    audited.found()
    audited.cloud.client("kms", "eu-west-1").create_grant(
        KeyId=audited.key_id(), GranteePrincipal="arn:aws:iam::123456789012:role/Third", Operations=["Encrypt"]
    )
    _, document = audited.found()

    assert sorted((one["what"], one["new"]) for one in document["findings"]) == [
        ("arn:aws:iam::123456789012:role/Other may Decrypt", False),
        ("arn:aws:iam::123456789012:role/Third may Encrypt", True),
    ]


def test_a_review_that_is_not_whole_is_no_measure_for_the_next(audited: Audited) -> None:
    """What it could not see is not new when it is seen again."""
    untagged(audited)
    _, first = audited.found()
    fault = ask(audited.cloud.directory, "POST", "/faults", {"region": "eu-west-1", "error_code": "AccessDenied"})["id"]
    half, _ = audited.once()
    ask(audited.cloud.directory, "DELETE", f"/faults/{fault}")
    _, third = audited.found()

    assert half == 3
    assert [(one["id"], one["new"]) for one in third["findings"]] == [("K6", False)]
    assert third["compared_with_utc"] == first["made_at_utc"]


def test_a_kept_file_that_is_no_review_is_told(audited: Audited) -> None:
    """In one line; nothing is compared with it."""
    folder = audited.config.parent / "state" / "audits"
    folder.mkdir(parents=True)
    (folder / "20260101T000000Z-now.json").write_text('{"schema": 1}', encoding="utf-8")

    done = audited.run()

    assert (done.exit_code, done.stderr.count("\n")) == (3, 1)
    assert "no review of ours: it has no estate" in done.stderr


def test_times_are_utc_wherever_it_is_read(audited: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    """Botocore gives the machine's own."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        _, document = audited.found("--no-keep")
    finally:
        monkeypatch.undo()
        time.tzset()

    assert document["changes"]
    assert {one["at_utc"][-6:] for one in document["changes"]} == {"+00:00"}


def test_a_spare_key_is_found(audited: Audited) -> None:
    """It carries the estate's tag, and no purpose uses it."""
    spare(audited)
    code, document = audited.found("--no-keep")
    spare_gone(audited)

    assert (code, [one["name"] for one in document["findings"]]) == (1, ["spare-key"])


def test_what_cannot_be_read_is_no_all_clear(audited: Audited) -> None:
    """The other regions are told all the same; nothing is called gone."""
    trail_stopped(audited)
    audited.found()
    audited.cloud.client("cloudtrail").start_logging(Name=TRAIL)
    fault = ask(audited.cloud.directory, "POST", "/faults", {"region": "eu-west-1", "error_code": "AccessDenied"})["id"]
    code, document = audited.once("--no-keep")
    ask(audited.cloud.directory, "DELETE", f"/faults/{fault}")

    assert code == 3
    assert {one.rpartition(" ")[2] for one in document["not_told"]} == {"eu-west-1"}
    assert (document["findings"], document["gone"]) == ([], [])
    assert {one["region"] for one in document["keys"] if one["state"] == "Enabled"} == {"us-east-1", "us-west-2"}


def test_a_trail_that_cannot_be_read_is_not_called_missing(audited: Audited) -> None:
    """Nor is it well: nobody could tell."""
    members = {"service": "cloudtrail", "operation": "GetTrailStatus", "error_code": "AccessDeniedException"}
    fault = ask(audited.cloud.directory, "POST", "/faults", members)["id"]
    code, document = audited.once("--no-keep")
    ask(audited.cloud.directory, "DELETE", f"/faults/{fault}")

    assert (code, document["findings"]) == (3, [])
    assert document["not_told"] == {"trail kms-watchdog-keys": "us-east-1: GetTrailStatus: AccessDeniedException"}


def test_a_boundary_that_cannot_be_read_is_named(audited: Audited) -> None:
    """What roles may at most is then not known."""
    members = {"service": "iam", "operation": "GetPolicy", "error_code": "AccessDenied"}
    fault = ask(audited.cloud.directory, "POST", "/faults", members)["id"]
    code, document = audited.once("--no-keep")
    ask(audited.cloud.directory, "DELETE", f"/faults/{fault}")

    assert code == 3
    assert document["not_told"]["policy KmsEstateBoundary"] == "iam: GetPolicy: AccessDenied"


def test_what_is_refused_for_load_is_asked_again(audited: Audited) -> None:
    """Of IAM and CloudTrail too: a review is made once a quarter, and comes not again soon."""
    late = [
        {"service": "iam", "operation": "ListRolePolicies", "error_code": "Throttling", "times": 2},
        {"service": "cloudtrail", "operation": "LookupEvents", "error_code": "ThrottlingException", "times": 2},
    ]
    faults = {ask(audited.cloud.directory, "POST", "/faults", members)["id"] for members in late}
    code, document = audited.once("--no-keep")

    left = {one["id"] for one in ask(audited.cloud.directory, "GET", "/faults")["faults"]}
    assert (code, document["not_told"], left & faults) == (0, {}, set())


@pytest.mark.parametrize(
    ("account", "code", "says"),
    [
        pytest.param("210987654321", 4, "are of account 123456789012, the configuration of 210987654321", id="another"),
        pytest.param(None, 3, "STS in us-east-1 does not say who we are", id="no-credentials"),
    ],
)
def test_whose_account_it_is_is_asked_first(
    audited: Audited, monkeypatch: pytest.MonkeyPatch, account: str | None, code: int, says: str
) -> None:
    """One line, and nothing is kept."""
    if account:
        text = audited.config.read_text(encoding="utf-8").replace("123456789012", account)
        audited.config.write_text(text, encoding="utf-8")
    else:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        aws._session.cache_clear()
    done = audited.run()

    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert says in done.stderr
    assert not (audited.config.parent / "state" / "audits").exists()


@pytest.mark.parametrize(
    ("selectors", "everything"),
    [
        pytest.param({"EventSelectors": [{}]}, True, id="as-made"),
        pytest.param({"EventSelectors": [{"ReadWriteType": "WriteOnly"}]}, False, id="writes-alone"),
        pytest.param({"EventSelectors": [{"IncludeManagementEvents": False}]}, False, id="data-alone"),
        pytest.param({"EventSelectors": []}, False, id="nothing"),
        pytest.param(
            {"EventSelectors": [{"ExcludeManagementEventSources": ["rdsdata.amazonaws.com"]}]}, True, id="rds"
        ),
        pytest.param(
            {"EventSelectors": [{"ReadWriteType": "ReadOnly"}, {"ReadWriteType": "WriteOnly"}]}, True, id="one-for-each"
        ),
        pytest.param(
            {"EventSelectors": [{"ExcludeManagementEventSources": ["kms.amazonaws.com"]}]}, False, id="kms-left-out"
        ),
        pytest.param(
            {"AdvancedEventSelectors": [{"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}]}]},
            True,
            id="advanced",
        ),
        pytest.param(
            {
                "AdvancedEventSelectors": [
                    {
                        "FieldSelectors": [
                            {"Field": "eventCategory", "Equals": ["Management"]},
                            {"Field": "readOnly", "Equals": [value]},
                        ]
                    }
                    for value in ("true", "false")
                ]
            },
            True,
            id="advanced-one-for-each",
        ),
        pytest.param(
            {
                "AdvancedEventSelectors": [
                    {
                        "FieldSelectors": [
                            {"Field": "eventCategory", "Equals": ["Management"]},
                            {"Field": "eventSource", "NotEquals": ["kms.amazonaws.com"]},
                        ]
                    }
                ]
            },
            False,
            id="advanced-without-kms",
        ),
    ],
)
def test_whether_a_trail_leaves_something_out(selectors: dict[str, Any], everything: bool) -> None:  # noqa: FBT001
    """As GetEventSelectors answers."""
    assert records_everything(selectors) is everything


def test_which_key_is_meant_where_aliases_disagree(settings: Settings) -> None:
    """The one with our tags, though more aliases lead to another; without tags, the one that most lead to."""
    wanted = desired_keys(settings)[0]
    ours, other = "mrk-" + "1" * 32, "mrk-" + "2" * 32

    def seen(region: str, key_id: str, *, tagged: bool) -> Seen:
        key = replace(key_in(wanted, region), key_id=key_id)
        replica = ObservedReplica(key=key, policy={}, tags=wanted.tags if tagged else {}, rotates=True)
        return Seen(wanted=wanted, region=region, found=ObservedRegion(alias_target=key_id, replica=replica))

    def likely(*, tagged: bool) -> dict[str, str]:
        two = [seen(region, other, tagged=False) for region in REGIONS[1:]]
        return likely_ids([seen(REGIONS[0], ours, tagged=tagged), *two])

    assert likely(tagged=True) == {wanted.purpose: ours}
    assert likely(tagged=False) == {wanted.purpose: other}


def test_what_nobody_used_for_ninety_days() -> None:
    """Never, or too long ago; a job that is not over, or tells of a part, is no answer."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    services = [
        {"ServiceNamespace": "kms", "LastAuthenticated": now},
        {"ServiceNamespace": "sns", "LastAuthenticated": now - timedelta(days=91)},
        {"ServiceNamespace": "iam"},
    ]

    since = now - timedelta(days=90)
    assert unused_services({"JobStatus": "COMPLETED", "ServicesLastAccessed": services}, since) == ("sns", "iam")
    for half in ({"JobStatus": "FAILED"}, {"JobStatus": "COMPLETED", "IsTruncated": True}):
        with pytest.raises(EstateError):
            unused_services(half, since)
