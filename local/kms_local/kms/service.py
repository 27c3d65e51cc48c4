"""KMS in one region, from HTTP request to HTTP response."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from kms_local.cloudtrail import KMS_SOURCE, Event
from kms_local.gate import Gate
from kms_local.identities import Identity
from kms_local.kms.appearance import key_names, seen_through
from kms_local.kms.authorization import Authorizer
from kms_local.kms.call import Call
from kms_local.kms.keys import Estate
from kms_local.kms.operations import OPERATIONS, validate
from kms_local.request_log import Entry, RequestLog
from kms_local.wire.errors import ServiceError
from kms_local.wire.exchange import Request, Response
from kms_local.wire.json_front import JsonProtocol, unknown_operation
from kms_local.wire.params import JsonObject, Params

PROTOCOL = JsonProtocol(target_prefix="TrentService.", content_type="application/x-amz-json-1.1")
_READING = ("Decrypt", "Describe", "Encrypt", "Generate", "Get", "List", "ReEncrypt")  # how such operations begin


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsService:
    """Answers the KMS requests of one region; every one is logged, refused ones too."""

    gate: Gate
    authorizer: Authorizer
    estate: Estate
    log: RequestLog

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        request_id = self.gate.new_id()
        entry = Entry(region=self.gate.region, request_id=request_id, peer_port=request.peer_port)
        try:
            answer = await self._answer(request, entry)
        except ServiceError as error:
            self.log.write(entry.ended(error.code, self.gate.now()))
            return PROTOCOL.refusal(error, request_id)
        self.log.write(entry.ended("ok", self.gate.now()))
        return PROTOCOL.answer(answer, request_id)

    async def _answer(self, request: Request, entry: Entry) -> JsonObject:
        operation = entry.operation = PROTOCOL.operation(request)
        if operation not in OPERATIONS:
            raise unknown_operation()
        caller = self.gate.verify(request, "kms")
        with self.gate.trail.noting(self._event(caller, operation, entry)) as event:
            try:
                return await self._perform(caller, operation, PROTOCOL.decode(request), entry)
            finally:
                event.resource = entry.key_id

    def _event(self, caller: Identity, operation: str, entry: Entry) -> Event:
        return Event(
            event_id=entry.request_id,
            name=operation,
            source=KMS_SOURCE,
            region=self.gate.region,
            account_id=self.gate.account_id,
            caller=caller,
            at=self.gate.now(),
            read_only=operation.startswith(_READING),
        )

    async def _perform(self, caller: Identity, operation: str, members: JsonObject, entry: Entry) -> JsonObject:
        entry.describe(members)
        fate = await self.gate.suffer("kms", operation, lambda: self._key_names(members))
        call = self._call(members)
        if fate.key_states:
            call = seen_through(fate, call)
        validate(operation, call)
        self.authorizer.check(caller, operation, call)
        answer = OPERATIONS[operation](call)
        if not operation.startswith(_READING):
            self.gate.changed()
        entry.describe_answer(answer)
        return answer

    def _key_names(self, members: JsonObject) -> Collection[str]:
        return key_names(self.estate, self.estate.regions[self.gate.region], members)

    def _call(self, members: JsonObject) -> Call:
        now = self.gate.now()
        if self.estate.settle(now):
            self.gate.changed()
        return Call(
            estate=self.estate,
            region=self.estate.regions[self.gate.region],
            params=Params(members),
            now=now,
            entropy=self.gate.entropy,
        )
