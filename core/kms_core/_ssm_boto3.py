"""The door to SSM parameters: one GetParameter at a time, with short timeouts, in whatever thread asks."""

from __future__ import annotations

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError


class SsmParameters:
    """One region's SSM parameters. To be used by one thread."""

    def __init__(self, region: str, endpoint: str | None, ca_bundle: str | None) -> None:
        self._region = region
        self._client = boto3.session.Session().client(
            "ssm",
            region_name=region,
            endpoint_url=endpoint,
            verify=ca_bundle,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 1},
                connect_timeout=1.0,
                read_timeout=2.0,
                user_agent_extra="kms-core",
            ),
        )

    def value(self, name: str) -> str | None:
        """Return the parameter's value, or None when there is none of this name.

        Raises:
            OSError: it cannot be read.
        """
        try:
            reply = self._client.get_parameter(Name=name)
        except ClientError as e:
            code = e.response.get("Error", {}).get("Code", "")
            if code == "ParameterNotFound":
                return None
            raise OSError(f"{self._region}: {code}") from e
        except BotoCoreError as e:
            raise OSError(f"{self._region}: {type(e).__name__}") from e
        return str(reply.get("Parameter", {}).get("Value", ""))
