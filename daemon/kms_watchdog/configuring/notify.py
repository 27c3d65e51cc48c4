"""`[drills.notify]`: who is told, beside the journal, that a drill has begun, ended, or was aborted."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:[a-z]{2}(-[a-z]+)+-\d:\d{12}:[A-Za-z0-9_-]{1,256}")
_URL = re.compile(r"https?://[!-~]+")


class Notify(BaseModel):
    """Whom a drill tells; one that cannot be reached neither delays nor changes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    # Each in the region that its ARN names, which may be another than those of the estate.
    sns_topic_arns: Annotated[tuple[str, ...], Field(strict=False, max_length=5)] = ()
    webhook_url: SecretStr | None = None  # gets one JSON document by POST; None: no webhook

    @field_validator("sns_topic_arns")
    @classmethod
    def _are_topics(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for arn in value:
            if arn.endswith(".fifo"):
                raise ValueError(f"a standard topic, not {arn}: messages to a FIFO topic need a group")
            if not _TOPIC.fullmatch(arn):
                raise ValueError(f"should be an SNS topic's ARN each, arn:aws:sns:REGION:ACCOUNT:NAME, not {arn!r}")
        if len(set(value)) != len(value):
            raise ValueError("topics must not repeat")
        return value

    @field_validator("webhook_url")
    @classmethod
    def _is_an_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _URL.fullmatch(value.get_secret_value()):
            raise ValueError("should be http:// or https:// and an address")
        return value
