"""`[drills.notify]`: whom a drill tells; what is no address is refused, and a webhook's is a secret."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from kms_watchdog.commands import dump_config
from kms_watchdog.config import ConfigError, load
from kms_watchdog.estate.role_policies import Rendering, drill_statements

TOPIC = "arn:aws:sns:eu-west-1:123456789012:game-days"
WriteConfig = Callable[..., Path]


def test_nobody_is_told_by_default(write_config: WriteConfig) -> None:
    """A drill publishes nothing unless somebody asked for it."""
    notify = load(write_config()).drills.notify

    assert (notify.sns_topic_arns, notify.webhook_url) == ((), None)


def test_a_webhooks_address_is_a_secret(write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shown neither by dump-config nor where a drill writes its configuration down."""
    monkeypatch.setenv("HOOK", "https://hooks.example/T0/SECRET")
    path = write_config('[drills.notify]\nwebhook_url = "${HOOK}"\n')
    settings = load(path)

    shown = [CliRunner().invoke(dump_config.command, ["--config", str(path), *more]) for more in ((), ("--json",))]

    assert settings.drills.notify.webhook_url is not None
    assert settings.drills.notify.webhook_url.get_secret_value() == "https://hooks.example/T0/SECRET"
    assert [result.exit_code for result in shown] == [0, 0]
    assert all("webhook_url" in result.output and "SECRET" not in result.output for result in shown)
    assert "SECRET" not in settings.model_dump_json()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(f'sns_topic_arns = ["{TOPIC}.fifo"]', "a standard topic", id="fifo"),
        pytest.param('sns_topic_arns = ["game-days"]', "an SNS topic's ARN each", id="name"),
        pytest.param(f'sns_topic_arns = ["{TOPIC}:0b5c"]', "an SNS topic's ARN each", id="subscription"),
        pytest.param(f'sns_topic_arns = ["{TOPIC}", "{TOPIC}"]', "must not repeat", id="twice"),
        pytest.param(f"sns_topic_arns = {json.dumps([f'{TOPIC}-{i}' for i in range(6)])}", "at most 5", id="six"),
        pytest.param('webhook_url = "hooks.example/SECRET"', "http:// or https://", id="no-scheme"),
        pytest.param('webhook_url = "https://hooks.example/SEC RET"', "http:// or https://", id="space"),
        pytest.param('webhok_url = "https://hooks.example/SECRET"', "did you mean webhook_url?", id="misspelt"),
    ],
)
def test_what_is_no_address_is_refused(write_config: WriteConfig, text: str, says: str) -> None:
    """In one line that does not tell the secret."""
    with pytest.raises(ConfigError, match=says) as caught:
        load(write_config(f"[drills.notify]\n{text}\n"))

    assert "SEC" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_drills_role_may_publish_to_them(write_config: WriteConfig) -> None:
    """As `kms-watchdog policies` renders it; each topic once."""
    drills = "arn:aws:sns:us-east-1:123456789012:parker-flight-drill-alerts"
    settings = load(write_config(f'[drills.notify]\nsns_topic_arns = ["{TOPIC}", "{drills}"]\n'))

    statements = drill_statements(Rendering(settings=settings, key_ids=dict.fromkeys(settings.keys, "mrk-1")))

    (publish,) = [one for one in statements if one["Sid"] == "TellOfDrills"]
    assert publish["Resource"].count(TOPIC) == 1
    assert publish["Resource"].count(drills) == 1
