"""The example service's end: what was accepted is answered, metrics are sent, and the exit code is 0 at any time."""

from __future__ import annotations

import http.client
import signal
import threading
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from flight_kit import ALL, EXAMPLES, NO_CACHE, SECONDS, Flight, Start, ask, environment
from parker_flight_api.settings import SHUTDOWN_SECONDS
from parker_flight_api.task_definition import stop_seconds
from waiting import wait_until

from kms_core import SystemClock
from kms_local.testing import LocalAws

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Client(threading.Thread):
    """Seals one booking after the other on one connection, until an answer says that it was the last there."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        super().__init__(daemon=True)
        self.connection = connection
        self.outcomes: list[Any] = []

    def run(self) -> None:
        """Go on until told to close, or cut."""
        try:
            while "close" not in self.outcomes[-1:]:
                status, headers, _ = ask(self.connection, "/bookings/seal", ALL)
                self.outcomes += [status, *([headers["connection"]] if "connection" in headers else [])]
        except (OSError, http.client.HTTPException) as e:
            self.outcomes.append(e)


def ended(flight: Flight) -> int:
    """Return the exit code; ECS waits no longer than this."""
    return flight.process.wait(stop_seconds(SHUTDOWN_SECONDS))


def test_sigterm_under_load_cuts_no_request(start_flight: Start, flight_aws: LocalAws) -> None:
    """Sixteen clients amid their requests, each of which waits for KMS: all are answered, then nobody is let in."""
    flight = start_flight(**NO_CACHE)
    with ExitStack() as stack, flight_aws.fault(service="kms", operation="GenerateDataKey", latency_ms=150):
        clients = [Client(stack.enter_context(closing(flight.connect()))) for _ in range(16)]
        for client in clients:
            client.start()
        wait_until(lambda: all(client.outcomes for client in clients), says="all are served", seconds=SECONDS)

        flight.process.terminate()
        for client in clients:
            client.join(SECONDS)
        code = ended(flight)

    assert [client.outcomes[-2:] for client in clients] == [[200, "close"]] * 16
    assert {outcome for client in clients for outcome in client.outcomes} == {200, "close"}
    assert code == 0
    with pytest.raises(ConnectionRefusedError), closing(flight.connect()) as late:
        ask(late, "/livez")


def test_who_waits_to_be_accepted_and_who_is_about_to_ask_are_answered(start_flight: Start) -> None:
    """Connections that the service has not looked at when SIGTERM comes, and one that it has and that was silent."""
    flight = start_flight()
    with ExitStack() as stack:
        silent = stack.enter_context(closing(flight.connect()))
        assert ask(silent, "/livez")[0] == 200
        flight.process.send_signal(signal.SIGSTOP)
        waiting = [stack.enter_context(closing(flight.connect())) for _ in range(20)]
        for connection in waiting:
            connection.request("POST", "/bookings/seal", b'{"reference": "PF4K2Q", "fields": {"card": "4111"}}')
        flight.process.terminate()
        flight.process.send_signal(signal.SIGCONT)
        answers = [connection.getresponse() for connection in waiting]
        wait_until(lambda: "ending" in flight.said(), says="the end has begun", seconds=SECONDS)
        last = ask(silent, "/readyz")

    assert [answer.status for answer in answers] == [200] * 20
    assert (last[0], last[1]["connection"], last[2]["draining"]) == (503, "close", True)
    assert ended(flight) == 0


def test_a_body_that_comes_after_sigterm_is_waited_for(start_flight: Start) -> None:
    """Its head had come: the request was accepted."""
    flight = start_flight()
    body = b'{"reference": "PF4K2Q", "fields": {"passport": "X1234567"}}'
    with closing(flight.connect()) as connection:
        connection.putrequest("POST", "/bookings/seal")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:10])
        assert flight.status("/livez") == 200  # came later, so the other one has been accepted
        flight.process.terminate()
        wait_until(lambda: "ending" in flight.said(), says="the end has begun", seconds=SECONDS)
        connection.send(body[10:])

        answer = connection.getresponse()

    assert (answer.status, ended(flight)) == (200, 0)


def test_a_client_that_says_nothing_does_not_hold_up_the_end(start_flight: Start) -> None:
    """Neither one that is connected nor one whose body never comes; that one is told why, if it still listens."""
    flight = start_flight(SHUTDOWN_SECONDS="15")
    with closing(flight.connect()) as mute, closing(flight.connect()) as slow:
        mute.connect()
        slow.putrequest("POST", "/bookings/seal")
        slow.putheader("Content-Length", "10")
        slow.endheaders(b"{")
        assert flight.status("/livez") == 200
        flight.process.terminate()

        answer = slow.getresponse()

        assert (answer.status, ended(flight)) == (408, 0)


def test_what_was_counted_last_is_sent_to_cloudwatch(start_flight: Start, flight_aws: LocalAws) -> None:
    """In two regions, before the period is over; and an SDK's count is the service's own."""
    flight = start_flight(**NO_CACHE, CLOUDWATCH_REGIONS="us-east-1,us-west-2")
    assert flight.status("/bookings/seal", ALL) == 200
    asked = flight.value('kms_core_operation_duration_seconds_count{operation="GenerateDataKey",region="us-east-1"')

    flight.process.terminate()

    assert ended(flight) == 0
    sent = {region: datums(flight_aws, region) for region in flight_aws.regions}
    assert sent == {"us-east-1": asked, "us-west-2": asked, "eu-west-1": 0}


def datums(aws: LocalAws, region: str) -> float:
    """Return how many requests for data keys of us-east-1 CloudWatch knows of in `region`."""
    now = SystemClock().now_utc()
    cloudwatch = boto3.client("cloudwatch", **aws.client_settings("cloudwatch", region))
    dimensions = {"Region": "us-east-1", "Operation": "GenerateDataKey", "Success": "true"}
    with closing(cloudwatch):
        points = cloudwatch.get_metric_statistics(
            Namespace="ParkerFlight/KMS",
            MetricName="KMSOperationDuration",
            Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(minutes=1),
            Period=60,
            Statistics=["SampleCount"],
        )["Datapoints"]
    return sum(float(point["SampleCount"]) for point in points)


def test_a_cloudwatch_that_is_silent_does_not_hold_up_the_end(start_flight: Start, flight_aws: LocalAws) -> None:
    """Metrics are not worth a SIGKILL."""
    flight = start_flight(CLOUDWATCH_REGIONS="us-east-1,us-west-2")
    with flight_aws.fault(service="cloudwatch", latency_ms=600_000):
        flight.process.terminate()

        assert ended(flight) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_in_the_start_is_clean_too(
    start_flight: Start, flight_aws: LocalAws, tmp_path: Path, number: signal.Signals
) -> None:
    """While it is being loaded, which takes a second or more: it begins to end without having listened."""
    (tmp_path / "uvicorn.py").write_text(
        "import signal\nclass Server: pass\nprint('loading', flush=True)\nsignal.pause()\n", encoding="utf-8"
    )
    path = f"{tmp_path}:{EXAMPLES}"
    flight = start_flight(environment(flight_aws, PYTHONPATH=path), until="loading")

    flight.process.send_signal(number)

    assert ended(flight) == 0
    assert "Traceback" not in flight.said()
    assert "listening" not in flight.said()


def test_ctrl_c_is_a_clean_end(start_flight: Start) -> None:
    """No traceback."""
    flight = start_flight()

    flight.process.send_signal(signal.SIGINT)

    assert ended(flight) == 0
    assert "Traceback" not in flight.said()
