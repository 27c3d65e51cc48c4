"""The demo's roles: what the product renders for a real account, handed to the local AWS once the keys exist."""

from __future__ import annotations

from kms_local.admin_client import ask
from kms_local.demo.configuration import DemoFolder
from kms_watchdog.config import load
from kms_watchdog.estate.role_policies import Rendering, account_details


def hand_over_roles(folder: DemoFolder) -> None:
    """Put the roles of the configuration into the local AWS; their policies name the keys by their ARNs.

    Raises:
        kms_local.admin_client.AdminError: it does not answer, or refuses.
    """
    settings = load(folder.configuration)
    aliases = ask(folder.aws, "GET", "/state")["regions"][settings.estate.primary_region]["aliases"]
    key_ids = {purpose: aliases[key.alias] for purpose, key in settings.keys.items()}
    ask(folder.aws, "PUT", "/iam", account_details(Rendering(settings=settings, key_ids=key_ids)))
