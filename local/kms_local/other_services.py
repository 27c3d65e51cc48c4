"""CloudWatch, SNS and STS behind one listener a region: the request itself says whom it is meant for."""

from __future__ import annotations

from dataclasses import dataclass

from kms_local.cloudwatch.service import CloudWatchService
from kms_local.gate import Gate
from kms_local.sns import operations as sns
from kms_local.sns.topics import Topics
from kms_local.wire.errors import ServiceError
from kms_local.wire.exchange import Request, Response
from kms_local.wire.query_front import Form, XmlValue, parse_form, xml_answer, xml_refusal

_STS_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherServices:
    """Answers everything but KMS in one region."""

    gate: Gate
    cloudwatch: CloudWatchService
    topics: Topics

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        if "x-amz-target" in request.headers:
            return await self.cloudwatch(request)
        request_id = self.gate.new_id()
        namespace = sns.NAMESPACE
        try:
            form = parse_form(request)
            if form.action == "GetCallerIdentity":
                namespace = _STS_NAMESPACE
                result = await self._sts(request, form)
            else:
                result = await self._sns(request, form)
        except ServiceError as error:
            return xml_refusal(error, namespace, request_id)
        return xml_answer(form.action, namespace, result, request_id)

    async def _sns(self, request: Request, form: Form) -> XmlValue:
        operation = sns.OPERATIONS.get(form.action)
        if operation is None:
            message = f"The action {form.action} is not valid for this endpoint."
            raise ServiceError("InvalidAction", message)
        await self._admit(request, "sns", form.action)
        return operation(self.topics, form)

    async def _sts(self, request: Request, form: Form) -> XmlValue:
        await self._admit(request, "sts", form.action)
        return {
            "Arn": f"arn:aws:iam::{self.gate.account_id}:user/kms-local",
            "UserId": "AIDA" + self.gate.credentials.access_key_id[4:],
            "Account": self.gate.account_id,
        }

    async def _admit(self, request: Request, service: str, operation: str) -> None:
        self.gate.verify(request, service)
        await self.gate.suffer(service, operation)
