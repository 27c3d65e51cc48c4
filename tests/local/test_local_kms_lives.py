"""Keys through random lives: whatever was done, however long was waited, a blob opens where it should and only there.

The model below knows states and dates alone; the estate must agree with it, also after a way through a snapshot.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from kms_estate import CREATING_SECONDS, DAY, EAST, IRELAND, WEST, Desk, Seeded

from kms_local.kms.snapshot import from_document, to_document

REGIONS = (EAST, WEST, IRELAND)
CONTEXTS = ({}, {"canary": "true"}, {"canary": "tru", "e": ""})
MOMENTS = (0.5, CREATING_SECONDS)
DAYS = (1, 7, 30, 100)
WHICH = st.integers(0, 2)  # of the three keys
WHERE = st.integers(0, 3)  # 0 is the primary's region, and the others are the regions by name
USABLE = ("Enabled", "Updating")
REFUSED = {"Disabled": "DisabledException", None: "AccessDeniedException"}
NO_KEY_HERE = "NotFoundException"


@dataclass
class Place:
    """What the model knows of a key in one region."""

    state: str
    until: float = 0.0  # Creating: when it is ready; PendingDeletion: when it is gone
    days: int = 0
    updating_until: float = 0.0


@dataclass
class Life:
    """What the model knows of a family of keys."""

    key_id: str
    multi_region: bool
    primary: str
    places: dict[str, Place]
    materials: int = 1
    next_rotation: float | None = None
    period: float = 0.0
    rotating_until: float | None = None

    def state(self, region: str, now: float) -> str | None:
        place = self.places.get(region)
        if place is None:
            return None
        if place.state == "Enabled" and now < place.updating_until:
            return "Updating"
        return place.state

    def pass_time(self, now: float) -> None:
        for place in self.places.values():
            if place.state == "Creating" and place.until <= now:
                place.state = "Enabled"
        while gone := [
            name for name, one in self.places.items() if one.state == "PendingDeletion" and one.until <= now
        ]:
            self._lose(min(gone, key=lambda name: self.places[name].until))
        if self.rotating_until is not None and self.rotating_until <= now:
            self.materials, self.rotating_until = self.materials + 1, None
        while self.next_rotation is not None and self.next_rotation <= now and self._calendar_counts():
            self.materials, self.next_rotation = self.materials + 1, self.next_rotation + self.period

    def _calendar_counts(self) -> bool:
        return self.primary in self.places and self.places[self.primary].state == "Enabled"

    def _lose(self, region: str) -> None:
        gone = self.places.pop(region)
        last = self.places.get(self.primary)
        if last is not None and len(self.places) == 1 and last.state == "PendingReplicaDeletion":
            last.state, last.until = "PendingDeletion", gone.until + last.days * DAY


@dataclass
class Blob:
    life: Life
    text: str
    plaintext: bytes
    context: dict[str, str]
    material: str = field(default="")


class Lives(RuleBasedStateMachine):
    """Makes, changes, uses and loses keys."""

    def __init__(self) -> None:
        super().__init__()
        self.desk: Desk = Seeded().desk()
        self.known: list[Life] = []
        self.blobs: list[Blob] = []

    # -- what happens ---------------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        """Make a key with replicas, one without, and one that cannot have any."""
        for replicas, multi_region in (((WEST, IRELAND), True), ((), True), ((), False)):
            key_id = self.desk.make_key(*replicas, multi_region=multi_region)
            places = {region: Place("Enabled") for region in (EAST, *replicas)}
            self.known.append(Life(key_id, multi_region, EAST, places))

    @rule(which=WHICH, where=WHERE, asked_where=WHERE)
    def replicate(self, which: int, where: int, asked_where: int) -> None:
        life, region = self.pick(which, where)
        asked = self.pick(which, asked_where)[1]
        expected = self.usable_primary(life, asked, settled=True) or (
            "AlreadyExistsException" if region in life.places else None
        )
        if self.does(expected, asked, "ReplicateKey", KeyId=life.key_id, ReplicaRegion=region):
            life.places[region] = Place("Creating", until=self.desk.now + CREATING_SECONDS)

    @rule(which=WHICH, where=WHERE, asked_where=WHERE)
    def move_the_primary(self, which: int, where: int, asked_where: int) -> None:
        life, region = self.pick(which, where)
        asked = self.pick(which, asked_where)[1]
        state = life.state(region, self.desk.now)
        expected = self.usable_primary(life, asked, settled=True)
        if expected is None and region == asked:
            expected = "UnsupportedOperationException"
        if expected is None and state not in USABLE:
            expected = NO_KEY_HERE if state is None else self.refused(state)
        if self.does(expected, asked, "UpdatePrimaryRegion", KeyId=life.key_id, PrimaryRegion=region):
            life.primary = region
            for name in (region, asked):
                life.places[name].updating_until = self.desk.now + CREATING_SECONDS

    @rule(which=WHICH, where=WHERE, on=st.booleans())
    def switch(self, which: int, where: int, on: bool) -> None:  # noqa: FBT001  hypothesis hands values over by name
        life, region = self.pick(which, where)
        state = life.state(region, self.desk.now)
        expected = NO_KEY_HERE if state is None else None
        if state not in {None, "Enabled", "Disabled"}:
            expected = "KMSInvalidStateException"
        if self.does(expected, region, "EnableKey" if on else "DisableKey", KeyId=life.key_id):
            life.places[region].state = "Enabled" if on else "Disabled"
            late = life.next_rotation is not None and life.next_rotation <= self.desk.now
            if on and late and region == life.primary:
                life.materials += 1
                life.next_rotation = self.desk.now + life.period

    @rule(which=WHICH, where=WHERE, days=st.sampled_from([7, 30]))
    def schedule_deletion(self, which: int, where: int, days: int) -> None:
        life, region = self.pick(which, where)
        state = life.state(region, self.desk.now)
        expected = NO_KEY_HERE if state is None else None
        if state not in {None, "Enabled", "Disabled"}:
            expected = "KMSInvalidStateException"
        if self.does(expected, region, "ScheduleKeyDeletion", KeyId=life.key_id, PendingWindowInDays=days):
            place = life.places[region]
            waits = region == life.primary and len(life.places) > 1
            place.state = "PendingReplicaDeletion" if waits else "PendingDeletion"
            place.days, place.until = days, self.desk.now + days * DAY

    @rule(which=WHICH, where=WHERE)
    def cancel_deletion(self, which: int, where: int) -> None:
        life, region = self.pick(which, where)
        state = life.state(region, self.desk.now)
        pending = state is not None and state.startswith("Pending")
        expected = None if pending else NO_KEY_HERE if state is None else "KMSInvalidStateException"
        if self.does(expected, region, "CancelKeyDeletion", KeyId=life.key_id):
            life.places[region].state = "Disabled"

    @rule(which=WHICH, where=WHERE, days=st.sampled_from([90, 200]))
    def rotate_by_calendar(self, which: int, where: int, days: int) -> None:
        life, region = self.pick(which, where)
        expected = self.usable_primary(life, region, single_region=True)
        since = self.desk.now if life.next_rotation is None else life.next_rotation - life.period
        if self.does(expected, region, "EnableKeyRotation", KeyId=life.key_id, RotationPeriodInDays=days):
            life.period = days * DAY
            life.next_rotation = max(since + life.period, self.desk.now)
            life.pass_time(self.desk.now)

    @rule(which=WHICH, where=WHERE)
    def rotate_on_demand(self, which: int, where: int) -> None:
        life, region = self.pick(which, where)
        expected = self.usable_primary(life, region, single_region=True)
        soon = life.next_rotation is not None and life.next_rotation - self.desk.now <= 20 * 60
        if expected is None and life.rotating_until is None and soon:
            expected = "ConflictException"
        starts = life.rotating_until is None
        if self.does(expected, region, "RotateKeyOnDemand", KeyId=life.key_id) and starts:
            life.rotating_until = self.desk.now + CREATING_SECONDS

    @rule(which=WHICH, where=WHERE, context=st.sampled_from(CONTEXTS), plaintext=st.binary(min_size=1))
    def seal(self, which: int, where: int, context: dict[str, str], plaintext: bytes) -> None:
        life, region = self.pick(which, where)
        state = life.state(region, self.desk.now)
        members = {
            "KeyId": life.key_id,
            "Plaintext": base64.b64encode(plaintext).decode(),
            "EncryptionContext": context,
        }
        if state in USABLE:
            text = self.desk.ask(region, "Encrypt", **members)["CiphertextBlob"]
            self.blobs.append(Blob(life, text, plaintext, context))
        else:
            expected = NO_KEY_HERE if state is None else self.refused(state)
            assert self.desk.refusal(region, "Encrypt", **members)[0] == expected

    @rule(days=st.sampled_from(DAYS))
    def wait_long(self, days: int) -> None:
        self.wait(days * DAY)

    @rule(days=st.sampled_from(DAYS), where=WHERE)
    def lose(self, days: int, where: int) -> None:
        """Schedule the deletion of the key with replicas, and wait: what matters most happens after that."""
        self.schedule_deletion(which=0, where=where, days=7)
        self.wait(days * DAY)

    @rule(seconds=st.sampled_from(MOMENTS))
    def wait(self, seconds: float) -> None:
        self.desk.wait(seconds=seconds)
        for life in self.known:
            life.pass_time(self.desk.now)

    @rule(which=WHICH, where=WHERE)
    def name_and_grant(self, which: int, where: int) -> None:
        life, region = self.pick(which, where)
        if life.state(region, self.desk.now) in USABLE:
            alias = f"alias/{region}-{len(self.desk.estate.regions[region].aliases)}"
            if alias not in self.desk.estate.regions[region].aliases:
                self.desk.ask(region, "CreateAlias", AliasName=alias, TargetKeyId=life.key_id)
            members = {"GranteePrincipal": "arn:aws:iam::123456789012:role/x", "Operations": ["Decrypt"]}
            self.desk.ask(region, "CreateGrant", KeyId=life.key_id, **members)

    @rule()
    def restart(self) -> None:
        """Go on with what a snapshot kept."""
        document = to_document(self.desk.estate)
        estate = from_document(
            json.loads(json.dumps(document)),
            regions=REGIONS,
            creating_seconds=CREATING_SECONDS,
            entropy=self.desk.rng.randbytes,
        )
        assert to_document(estate) == document
        self.desk.estate = estate

    # -- what must be true ----------------------------------------------------------------------------------------

    @invariant()
    def every_region_tells_the_state(self) -> None:
        for life in self.known:
            for region in REGIONS:
                expected = life.state(region, self.desk.now)
                if expected is None:
                    assert self.desk.refusal(region, "DescribeKey", KeyId=life.key_id)[0] == NO_KEY_HERE
                else:
                    assert self.desk.state(region, life.key_id) == expected

    @invariant()
    def related_keys_tell_the_same(self) -> None:
        for life in self.known:
            found = [self.described(life, region) for region in life.places]
            assert all(one["CurrentKeyMaterialId"] == found[0]["CurrentKeyMaterialId"] for one in found)
            if life.multi_region and found:
                family = [one["MultiRegionConfiguration"] for one in found]
                assert {one["PrimaryKey"]["Region"] for one in family} == {life.primary}
                assert {key["Region"] for key in family[0]["ReplicaKeys"]} == set(life.places) - {life.primary}

    @invariant()
    def every_rotation_left_one_material(self) -> None:
        for life in self.known:
            for region in life.places:
                members = {"KeyId": life.key_id, "IncludeKeyMaterial": "ALL_KEY_MATERIAL", "Limit": 1000}
                assert len(self.desk.ask(region, "ListKeyRotations", **members)["Rotations"]) == life.materials

    @invariant()
    def every_region_tells_the_calendar(self) -> None:
        for life in self.known:
            for region in life.places:
                found = self.desk.ask(region, "GetKeyRotationStatus", KeyId=life.key_id)
                hidden = str(life.state(region, self.desk.now)).startswith("Pending")
                assert found.get("NextRotationDate") == (None if hidden else life.next_rotation)

    @invariant()
    def blobs_open_where_the_family_is_usable_and_nowhere_else(self) -> None:
        for blob in self.blobs[-6:]:
            for region in REGIONS:
                self.check_blob(blob, region)

    def check_blob(self, blob: Blob, region: str) -> None:
        state = blob.life.state(region, self.desk.now)
        for context in CONTEXTS:
            if state in USABLE and context == blob.context:
                assert self.desk.decrypt(region, blob.text, **context) == blob.plaintext
                continue
            code = self.desk.refusal(region, "Decrypt", CiphertextBlob=blob.text, EncryptionContext=context)[0]
            assert code == ("InvalidCiphertextException" if state in USABLE else self.refused(state))

    # -- asking ---------------------------------------------------------------------------------------------------

    def pick(self, which: int, where: int) -> tuple[Life, str]:
        life = self.known[which]
        return life, life.primary if where == 0 else REGIONS[where - 1]

    def does(self, expected: str | None, region: str, operation: str, **members: Any) -> bool:
        """Say whether the operation was done; it is done or refused as expected."""
        if expected is None:
            self.desk.ask(region, operation, **members)
            return True
        assert self.desk.refusal(region, operation, **members)[0] == expected
        return False

    def refused(self, state: str | None) -> str:
        return REFUSED.get(state, "KMSInvalidStateException")

    def usable_primary(
        self, life: Life, region: str, *, settled: bool = False, single_region: bool = False
    ) -> str | None:
        """Return how an operation of usable primaries is refused, None if it is not."""
        state = life.state(region, self.desk.now)
        if state is None:
            return NO_KEY_HERE
        if state not in USABLE:
            return self.refused(state)
        if settled and state == "Updating":
            return "KMSInvalidStateException"
        fits = life.primary == region and (life.multi_region or single_region)
        return None if fits else "UnsupportedOperationException"

    def described(self, life: Life, region: str) -> dict[str, Any]:
        found: dict[str, Any] = self.desk.ask(region, "DescribeKey", KeyId=life.key_id)["KeyMetadata"]
        return found


TestLives = Lives.TestCase
TestLives.settings = settings(
    max_examples=100, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
