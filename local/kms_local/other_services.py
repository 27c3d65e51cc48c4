"""CloudWatch, SNS, STS, IAM and CloudTrail behind one listener a region: the request says whom it is meant for."""

from __future__ import annotations

from dataclasses import dataclass

from kms_local import cloudtrail, iam, sts, trails
from kms_local.cloudwatch import service as cloudwatch
from kms_local.cloudwatch.service import CloudWatchService
from kms_local.gate import Gate
from kms_local.identities import Identity
from kms_local.sns import operations as sns
from kms_local.sns.topics import Topics
from kms_local.wire.errors import ServiceError
from kms_local.wire.exchange import Request, Response
from kms_local.wire.json_front import unknown_operation
from kms_local.wire.params import Params
from kms_local.wire.query_front import Form, XmlValue, parse_form, xml_answer, xml_refusal

_ON_SUBSCRIPTIONS = frozenset({"Unsubscribe", "GetSubscriptionAttributes", "SetSubscriptionAttributes"})
_READING = ("Get", "List", "Publish")  # how operations of SNS begin that change nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherServices:
    """Answers everything but KMS in one region."""

    gate: Gate
    cloudwatch: CloudWatchService
    topics: Topics

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        target = request.headers.get("x-amz-target")
        if target is not None:
            ours = target.startswith(cloudtrail.PROTOCOL.target_prefix)
            return await (self._cloudtrail(request) if ours else self.cloudwatch(request))
        if request.path.startswith(cloudwatch.CBOR_PATH):
            return await self.cloudwatch.cbor(request)
        request_id = self.gate.new_id()
        namespace = sns.NAMESPACE
        try:
            form = parse_form(request)
            if form.optional("Version") == cloudwatch.VERSION:
                return await self.cloudwatch.query(request, form)
            if form.optional("Version") == iam.VERSION:
                namespace = iam.NAMESPACE
                result = await self._iam(request, form)
            elif form.action in sts.OPERATIONS:
                namespace = sts.NAMESPACE
                result = await self._sts(request, form)
            else:
                result = await self._sns(request, form)
        except ServiceError as error:
            return xml_refusal(error, namespace, request_id)
        return xml_answer(form.action, namespace, result, request_id)

    async def _cloudtrail(self, request: Request) -> Response:
        request_id, protocol = self.gate.new_id(), cloudtrail.PROTOCOL
        try:
            operation = protocol.operation(request)
            of_trails = trails.OPERATIONS.get(operation)
            if operation != cloudtrail.LOOKUP and of_trails is None:
                raise unknown_operation()
            caller = await self._admit(request, "cloudtrail", operation)
            params = Params(protocol.decode(request))
            about = self.gate.trails.resource(self.gate.region, operation, params) if of_trails is not None else "*"
            self.gate.authorize(caller, f"cloudtrail:{operation}", about, code="AccessDeniedException")
            if of_trails is not None:
                result = of_trails(self.gate.trails, self.gate.region, params)
                if not operation.startswith(trails.READING):
                    self.gate.changed()
                return protocol.answer(result, request_id)
            return protocol.answer(cloudtrail.lookup_events(self.gate.trail, params), request_id)
        except ServiceError as error:
            return protocol.refusal(error, request_id)

    async def _sns(self, request: Request, form: Form) -> XmlValue:
        operation = sns.OPERATIONS.get(form.action)
        if operation is None:
            message = f"The action {form.action} is not valid for this endpoint."
            raise ServiceError("InvalidAction", message)
        if not (request.method == "GET" and form.action in sns.UNSIGNED):
            caller = await self._admit(request, "sns", form.action)
            self.gate.authorize(caller, f"sns:{form.action}", self._topic(form), code="AuthorizationError")
        result = operation(self.topics, form)
        if not form.action.startswith(_READING):
            self.gate.changed()
        return result

    def _topic(self, form: Form) -> str:
        """Return the ARN that policies are asked about: a topic's, also for subscriptions; `*` where there is none."""
        if form.action == "CreateTopic":
            return f"arn:aws:sns:{self.gate.region}:{self.gate.account_id}:{form.optional('Name')}"
        if form.action in _ON_SUBSCRIPTIONS:
            return (form.optional("SubscriptionArn") or "").rpartition(":")[0] or "*"
        return next(filter(None, map(form.optional, ("TopicArn", "TargetArn", "ResourceArn"))), "*")

    async def _iam(self, request: Request, form: Form) -> XmlValue:
        operation = iam.OPERATIONS.get(form.action)
        if operation is None:
            message = f"Could not find operation {form.action} for version {iam.VERSION}"
            raise ServiceError("InvalidAction", message)
        caller = self.gate.verify(request, "iam", iam.SIGNING_REGION)
        await self.gate.suffer("iam", form.action)
        identities = self.gate.identities
        context = {"aws:RequestedRegion": iam.SIGNING_REGION}
        self.gate.authorize(caller, f"iam:{form.action}", iam.resource(identities, form), context)
        result = operation(identities, form)
        if not form.action.startswith(iam.READING):
            self.gate.roles_changed()
        return result

    async def _sts(self, request: Request, form: Form) -> XmlValue:
        caller = await self._admit(request, "sts", form.action)
        return sts.OPERATIONS[form.action](self.gate, caller, form)

    async def _admit(self, request: Request, service: str, operation: str) -> Identity:
        caller = self.gate.verify(request, service)
        await self.gate.suffer(service, operation)
        return caller
