"""`kms-local pager`: who is subscribed to the local alarms, and prints what comes."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from kms_local.pager_command import in_words


def test_what_is_delivered_is_printed(tmp_path: Path, local_aws: Any, eventually: Callable[..., None]) -> None:
    """From a topic of the local AWS to a line, and a request that is none is refused without one."""
    url_file, printed = tmp_path / "url", tmp_path / "printed"
    with printed.open("wb") as file:
        command = [sys.executable, "-m", "kms_local", "pager", "--url-file", str(url_file)]
        pager = subprocess.Popen(command, stdout=file, env={"PYTHONUNBUFFERED": "1"})
    try:
        eventually(url_file.exists)
        url = url_file.read_text(encoding="utf-8")
        sns = local_aws.client("sns", "us-west-2")
        topic = sns.create_topic(Name="paged")["TopicArn"]
        sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=url)
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
        connection.request("POST", "/", headers={"Content-Length": "9999999"})
        refused = connection.getresponse().status
        connection.close()

        sns.publish(TopicArn=topic, Message="text", Subject="ALARM: one")
        eventually(lambda: len(printed.read_text(encoding="utf-8").splitlines()) > 1)
    finally:
        pager.terminate()
        pager.wait(10)

    first, second = printed.read_text(encoding="utf-8").splitlines()
    assert refused == 400
    assert first == f"listening on {url}"
    assert second.endswith("Z paged: ALARM: one")


def test_a_port_in_use_is_one_line() -> None:
    """Exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "kms_local", "pager", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        pytest.param({"TopicArn": "arn:aws:sns:r:1:t", "Message": "a\nb"}, "t: a b", id="no-subject"),
        pytest.param({"TopicArn": "t", "Message": "m", "Subject": "s"}, "t: s", id="subject"),
        pytest.param({"TopicArn": "t", "Message": "m", "SubscribeURL": "http://x/"}, "t: http://x/", id="confirm"),
        pytest.param([1], "?: [1]", id="no-object"),
        pytest.param({"Message": "m"}, '?: {"Message": "m"}', id="no-topic"),
        pytest.param({"alerts": [{}]}, '?: {"alerts": [{}]}', id="no-alert"),
    ],
)
def test_a_delivery_in_words(body: Any, line: str) -> None:
    """One line, whatever was sent."""
    assert list(in_words(json.dumps(body).encode())) == [line]


def test_alertmanagers_alerts_are_a_line_each() -> None:
    """Who is told, whether it begins or is over, and what it is."""
    alerts = [
        {"status": status, "labels": {"alertname": "KmsKeyUnusable"}, "annotations": annotations}
        for status, annotations in (("firing", {"summary": "pii cannot be used"}), ("resolved", {}))
    ]

    assert list(in_words(json.dumps({"receiver": "pager", "alerts": alerts}).encode())) == [
        "pager: FIRING: KmsKeyUnusable: pii cannot be used",
        "pager: RESOLVED: KmsKeyUnusable:",
    ]
