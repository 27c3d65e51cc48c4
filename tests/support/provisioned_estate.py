"""An estate with roles of its own on the local AWS, to be provisioned, also by runs that are killed at a change."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from daemon_kit import LocalCloud

from kms_local.admin_client import ask
from kms_watchdog.estate.desired import ESTATE_TAG

BUCKET = "log-archive"
CHANGES_OF_ONE_KEY = 27
"""Two boundaries, eight roles, a trail made and started, a key, its alias and rotation, two replicas and their aliases,
eight policies."""
DYING = Path(__file__).with_name("dying_process.py")
Moment = Literal["before", "after"]
"""Of a change: it is not sent; it was done, and its answer is lost."""


@dataclass(frozen=True, slots=True)
class Estate:
    """One estate with roles of its own in the account that all tests share."""

    cloud: LocalCloud
    config: Path
    prefix: str

    def provision(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run `kms-watchdog provision`."""
        return self.cloud.run("provision", *arguments, config=self.config, **more)

    def die_applying(self, number: int, moment: Moment) -> int:
        """Run `provision apply` until it is killed at its change `number`; return how it ended."""
        command = [sys.executable, str(DYING), str(number), moment, "kms_watchdog", "provision", "apply", "--yes"]
        return subprocess.run(
            [*command, "--config", str(self.config)],
            env=self.cloud.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            stdin=subprocess.DEVNULL,
        ).returncode

    def die_until_applied(self, moment: Moment) -> list[int]:
        """Run `provision apply` again and again, each run killed once it has made one change; return how they ended.

        The last one lives: nothing was left for it to die at.
        """
        number = 2 if moment == "before" else 1
        ends: list[int] = []
        while 0 not in ends and len(ends) <= 2 * CHANGES_OF_ONE_KEY:
            ends.append(self.die_applying(number, moment))
        return ends

    def keys(self, region: str) -> list[str]:
        """Return the ids of the keys that say that they are this estate's."""
        kms = self.cloud.client("kms", region)
        ids = [key["KeyId"] for page in kms.get_paginator("list_keys").paginate() for key in page["Keys"]]
        ours = {"TagKey": ESTATE_TAG, "TagValue": self.prefix}
        return [key_id for key_id in ids if ours in kms.list_resource_tags(KeyId=key_id)["Tags"]]

    def trails(self) -> dict[str, bool]:
        """Return the account's trails by name, and whether they write."""
        cloudtrail = self.cloud.client("cloudtrail")
        names = [one["Name"] for one in cloudtrail.describe_trails()["trailList"]]
        return {name: cloudtrail.get_trail_status(Name=name)["IsLogging"] for name in names}

    def role_policies(self) -> dict[str, list[str]]:
        """Return the names of the inline policies of the account's roles."""
        details = self.cloud.client("iam").get_account_authorization_details()["RoleDetailList"]
        return {one["RoleName"]: [policy["PolicyName"] for policy in one["RolePolicyList"]] for one in details}


def estate(cloud: LocalCloud, folder: Path, prefix: str, *, purposes: int = 3) -> Estate:
    """Write its configuration; in the account, there are no roles and no trails when it returns."""
    ask(cloud.directory, "PUT", "/iam", {"RoleDetailList": []})
    cloudtrail = cloud.client("cloudtrail")
    for one in cloudtrail.describe_trails()["trailList"]:
        cloudtrail.delete_trail(Name=one["Name"])
    config = cloud.config(folder, prefix=prefix)
    text = config.read_text(encoding="utf-8").replace('"ServiceRole"', f'"{prefix}Service"')
    own = f'watchdog_role = "{prefix}Watchdog"\ndrill_role = "{prefix}Drill"\ntrail_bucket = "{BUCKET}"\n'
    text = text.replace("[keys.general]", own + "[keys.general]")
    for purpose in ("payment", "pii")[: 3 - purposes]:
        text = re.sub(rf"\[keys\.{purpose}\]\n.*\n.*\n", "", text)
    config.write_text(text, encoding="utf-8")
    return Estate(cloud, config, prefix)
