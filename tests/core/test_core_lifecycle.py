"""A core tells whether it is ready, is warm before it is asked, knows its account, and does not survive a fork."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ports import nobody
from sts_server import Sts

from kms_core import ClosedError, ConfigurationError, Core, ForkedError, KmsDeniedError, KmsUnavailableError
from kms_core.clock import SystemClock
from kms_core.events import AccountNotVerified
from kms_core.testing import FakeEstate

CONTEXT = {"tenant": "parker"}
EAST, WEST, IRELAND = "us-east-1", "us-west-2", "eu-west-1"
AWAY = f"http://127.0.0.1:{nobody()}"
ROLE = "arn:aws:iam::123456789012:role/ParkerFlightServiceRole"


def test_a_self_check_asks_every_region_for_every_purpose(core: Core, estate: FakeEstate) -> None:
    """One canary each, sealed and opened there, with no context but the canary's."""
    checked = core.self_check()

    assert checked.ok
    assert checked.ready
    assert {(trip.region, trip.purpose) for trip in checked.round_trips} == {
        (region, purpose) for region in (EAST, WEST, IRELAND) for purpose in ("general", "payment")
    }
    assert {call.operation for call in estate.calls} == {"GenerateDataKey", "Decrypt"}
    assert all(call.context == {"canary": "true"} for call in estate.calls)


def test_a_lost_region_is_seen_and_does_not_make_unready(core: Core, estate: FakeEstate) -> None:
    """Calls fail over, so the application may serve."""
    estate.fail("ConnectionRefused", regions=[EAST])

    checked = core.self_check()

    assert checked.ready
    assert not checked.ok
    assert {(trip.region, trip.error_code) for trip in checked.failed} == {(EAST, "ConnectionRefused")}


def test_a_purpose_without_a_region_makes_unready(core: Core, estate: FakeEstate) -> None:
    """Whatever the others do."""
    estate.set_key_state(estate[EAST].aliases["alias/payment"], "Disabled")

    checked = core.self_check()

    assert not checked.ready
    assert {trip.purpose for trip in checked.failed} == {"payment"}
    assert {trip.error_code for trip in checked.failed} == {"DisabledException"}


def test_a_region_that_hangs_costs_a_self_check_its_own_time(estate: FakeEstate, config: Any) -> None:
    """With threads: the answer comes at the timeout, and the others are in it."""
    release = threading.Event()
    estate[EAST].during = lambda call: release.wait(20) if call.operation != "DescribeKey" else None
    clock = SystemClock()
    with Core(config, connect=estate.connect) as core:
        began = clock.monotonic()
        checked = core.self_check(timeout_seconds=0.5)
        took = clock.monotonic() - began
        release.set()

    assert took < 15.0  # the region would have held it for 20
    assert checked.ready
    assert {(trip.region, trip.error_code) for trip in checked.failed} == {(EAST, "Deadline")}


def test_what_was_warmed_is_not_asked_for_again(core: Core, estate: FakeEstate) -> None:
    """The data keys are in the cache, and every region has a connection."""
    warm = core.warm_up({"general": [CONTEXT, {"tenant": "other"}]})
    estate.calls.clear()

    core.encrypt(b"x", purpose="general", context=CONTEXT)

    assert warm.regions == (EAST, WEST, IRELAND)
    assert warm.data_keys == 2
    assert not estate.calls


def test_warming_leaves_out_what_cannot_be_reached(core: Core, estate: FakeEstate) -> None:
    """One region is enough to be warm."""
    estate.fail("ConnectTimeout", regions=[EAST, IRELAND])

    assert core.warm_up({"general": [CONTEXT]}).regions == (WEST,)


def test_a_closed_core_is_neither_checked_nor_warmed(core: Core) -> None:
    """Closed is closed."""
    core.close()

    for call in (core.self_check, core.warm_up):
        with pytest.raises(ClosedError):
            call()


def _in_child(call: Callable[[], bytes]) -> bytes:
    """Return what `call` returns in a forked child."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, call())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = answers.read()
    os.waitpid(pid, 0)
    return answer


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # the very case; 3.12 warns
def test_a_child_process_is_told_to_make_its_own(estate: FakeEstate, config: Any) -> None:
    """At once and by name, pinned too; closing is harmless; the parent goes on."""
    with Core(config, connect=estate.connect) as core:
        core.encrypt(b"x", purpose="general", context=CONTEXT)
        pinned = core.pinned(EAST)

        def use_all() -> bytes:
            said = []
            for one in (core, pinned):
                try:
                    one.encrypt(b"x", purpose="general", context=CONTEXT)
                except ForkedError as e:
                    said.append(str(e))
            core.close()
            return "\n".join(said).encode()

        said = _in_child(use_all).decode().splitlines()

        assert said == ["this core was made before the process forked: make one in the child"] * 2
        core.encrypt(b"x", purpose="general", context=CONTEXT)


# --- Whose credentials: STS over real sockets ---------------------------------------------------------------------


@pytest.fixture
def sts() -> Iterator[Sts]:
    server = Sts()
    yield server
    server.close()


def test_another_accounts_credentials_refuse_the_start(local_aws: Any, local_credentials: None, sts: Any) -> None:
    """With both numbers, so that one sees which is wrong."""
    sts.account = "210987654321"
    config = local_aws.config(verify_account=True, sts_endpoints={EAST: sts.url})

    with pytest.raises(ConfigurationError, match=r"123456789012.*210987654321"):
        Core(config)


def test_an_sts_that_cannot_be_reached_is_no_misconfiguration(
    local_aws: Any, local_credentials: None, recorder: Any
) -> None:
    """The core goes on, and says that nobody knows whose the credentials are."""
    away = dict.fromkeys((EAST, WEST, IRELAND), AWAY)
    with Core(local_aws.config(verify_account=True, sts_endpoints=away), recorder) as core:
        assert core.self_check().ok

    (told,) = recorder.of(AccountNotVerified)
    assert (told.account_id, told.reason) == ("123456789012", "EndpointConnectionError")


def test_an_sts_that_is_silent_is_told_too(local_aws: Any, local_credentials: None, sts: Sts, recorder: Any) -> None:
    """After an attempt's time; and nothing is told of an account that was found to be right."""
    config = local_aws.config(verify_account=True, sts_endpoints={EAST: sts.url}, attempt_timeout_seconds=0.5)
    with Core(config, recorder):
        assert not recorder.of(AccountNotVerified)
    sts.hold = threading.Event()
    with Core(config, recorder):
        sts.hold.set()

    assert [told.reason for told in recorder.of(AccountNotVerified)] == ["Deadline"]


def test_the_account_is_asked_for_in_another_region(local_aws: Any, local_credentials: None, sts: Any) -> None:
    """STS of the home region is down."""
    endpoints = {EAST: AWAY, WEST: sts.url, IRELAND: sts.url}
    with Core(local_aws.config(verify_account=True, sts_endpoints=endpoints)):
        assert sts.asked == ["GetCallerIdentity"]


def test_a_role_is_assumed_through_any_regions_sts(
    local_aws: Any, local_credentials: None, monkeypatch: pytest.MonkeyPatch, sts: Any
) -> None:
    """Once for all clients, though the home region's STS is down; KMS then sees the role's credentials."""
    sts.keys = tuple(local_aws.role.values())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOURSELVES0000000")  # who may assume the role, and nothing in KMS
    endpoints = {EAST: AWAY, WEST: sts.url, IRELAND: sts.url}
    tokens: list[Any] = []

    def watch(_: str, client: Any) -> None:
        client.meta.events.register(
            "before-send.kms", lambda request, **_: tokens.append(request.headers["X-Amz-Security-Token"])
        )

    with Core(local_aws.config(role_arn=ROLE, sts_endpoints=endpoints), on_client=watch) as core:
        assert core.encrypt(b"x", purpose="general", context=CONTEXT)

    assert sts.asked == ["AssumeRole"]
    assert {token if isinstance(token, str) else token.decode() for token in tokens} == {
        local_aws.role["aws_session_token"]
    }


def test_a_role_that_cannot_be_assumed_is_no_outage_of_kms(local_aws: Any, local_credentials: None) -> None:
    """A person must look at credentials; no region's breaker opens for it."""
    away = dict.fromkeys((EAST, WEST, IRELAND), AWAY)
    with Core(local_aws.config(role_arn=ROLE, sts_endpoints=away)) as core:
        with pytest.raises((KmsDeniedError, KmsUnavailableError)) as failed:
            core.encrypt(b"x", purpose="general", context=CONTEXT)
        assert {region.breaker for region in core.health().regions.values()} == {"closed"}

    assert {attempt.error_code for attempt in failed.value.attempts} == {"CredentialRetrievalError"}


def test_the_two_checks_agree_on_the_local_server(local_aws: Any, local_credentials: None) -> None:
    """The self check over real sockets: three regions, all purposes."""
    config = dataclasses.replace(local_aws.config())
    with Core(config) as core:
        assert core.self_check().ok


def test_a_self_check_of_what_one_may_use(core: Core, estate: FakeEstate) -> None:
    """A service that may not use the payment key is ready all the same."""
    estate.set_key_state(estate[EAST].aliases["alias/payment"], "Disabled")

    assert core.self_check(purposes=["general"]).ready
    with pytest.raises(ConfigurationError, match="nobody"):
        core.self_check(purposes=["nobody"])
    with pytest.raises(ConfigurationError, match="without a look"):
        core.self_check(purposes=[])


def test_warming_up_says_nothing_of_an_alias_that_moves(core: Core, estate: FakeEstate) -> None:
    """What was believed first stays believed while the process lives; the next start judges."""
    new = estate.create_key("alias/other")
    estate[WEST].aliases["alias/general"] = new

    assert core.warm_up().regions == (EAST, WEST, IRELAND)


def test_warming_up_leaves_no_dead_region_to_the_first_callers(
    estate: FakeEstate, config: Any, make_core: Callable[..., Core]
) -> None:
    """With pinned key ids, the start asks nobody; then the first three calls would find out, a second each."""
    keys = {name: dataclasses.replace(key, key_id=estate[EAST].aliases[key.alias]) for name, key in config.keys.items()}
    estate.fail("ConnectTimeout", regions=[EAST])
    core = make_core(keys=keys)

    assert core.warm_up().regions == (WEST, IRELAND)
    assert core.health().regions[EAST].breaker == "open"
