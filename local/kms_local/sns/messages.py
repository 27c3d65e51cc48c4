"""What is published and what is delivered: messages, their attributes, and the JSON that subscribers receive.

Source: Amazon SNS API Reference, Publish, and Developer Guide, "Parsing Amazon SNS message formats". Deliveries carry
no signature: there is no certificate of AWS here that a subscriber could check one against.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kms_local.clock import iso_utc
from kms_local.wire.errors import ServiceError
from kms_local.wire.query_front import Form, MapOf, Shape, members_of

MAX_MESSAGE_BYTES = 262_144
_MAX_SUBJECT = 100
_SUBJECT = re.compile(r"[!-~][ -~]*")  # ASCII, no control characters, not beginning with a blank
_ATTRIBUTE_NAME = re.compile(r"(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]{1,256}(?<!\.)")
_DATA_TYPE = re.compile(r"(String|String\.Array|Number|Binary)(\.[^\s]{1,256})?")
_ATTRIBUTES: Mapping[str, Shape] = {
    "MessageAttributes": MapOf({"DataType": str, "StringValue": str, "BinaryValue": str})
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message as published."""

    id: str
    text: str
    subject: str = ""
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # name to Type and Value
    by_protocol: Mapping[str, str] = field(default_factory=dict)  # where MessageStructure is json

    def for_protocol(self, protocol: str) -> str:
        """Return the text that a subscriber of `protocol` gets."""
        return self.by_protocol.get(protocol, self.by_protocol.get("default", self.text))


def invalid(what: str) -> ServiceError:
    """Refuse a parameter in SNS's words."""
    return ServiceError("InvalidParameter", f"Invalid parameter: {what}")


def parse_message(form: Form, message_id: str) -> Message:
    """Read the message that a request publishes.

    Raises:
        ServiceError: InvalidParameter or InvalidParameterValue.
    """
    text, subject = form.text("Message"), form.optional("Subject")
    if not text:
        raise invalid("Empty message")
    if subject is not None and (len(subject) > _MAX_SUBJECT or not _SUBJECT.fullmatch(subject)):
        raise invalid("Subject")
    attributes = _attributes(form)
    size = len(text.encode()) + sum(
        len((name + one["Type"] + one["Value"]).encode()) for name, one in attributes.items()
    )
    if size > MAX_MESSAGE_BYTES:
        raise invalid("Message too long")
    structure = form.optional("MessageStructure")
    if structure not in {None, "", "json"}:
        raise invalid("MessageStructure")
    by_protocol = _by_protocol(text) if structure == "json" else {}
    return Message(id=message_id, text=text, subject=subject or "", attributes=attributes, by_protocol=by_protocol)


def notification(message: Message, topic_arn: str, protocol: str, now: float) -> bytes:
    """Return the body of a delivery."""
    content: dict[str, Any] = {
        "Type": "Notification",
        "MessageId": message.id,
        "TopicArn": topic_arn,
        **({"Subject": message.subject} if message.subject else {}),
        "Message": message.for_protocol(protocol),
        "Timestamp": iso_utc(now),
        **({"MessageAttributes": message.attributes} if message.attributes else {}),
    }
    return json.dumps(content).encode()


def confirmation(message_id: str, topic_arn: str, token: str, subscribe_url: str, now: float) -> bytes:
    """Return the body of the message that asks an end point whether it wants to be subscribed."""
    content = {
        "Type": "SubscriptionConfirmation",
        "MessageId": message_id,
        "Token": token,
        "TopicArn": topic_arn,
        "Message": f"You have chosen to subscribe to the topic {topic_arn}.\n"
        "To confirm the subscription, visit the SubscribeURL included in this message.",
        "SubscribeURL": subscribe_url,
        "Timestamp": iso_utc(now),
    }
    return json.dumps(content).encode()


def _by_protocol(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise invalid("Message Structure - JSON message body failed to parse") from e
    if not isinstance(found, dict):
        raise invalid("Message Structure - JSON message body failed to parse")
    if not isinstance(found.get("default"), str):
        raise invalid("Message Structure - No default entry in JSON message body")
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _attributes(form: Form) -> dict[str, dict[str, str]]:
    fields = {
        name.replace(".Name", ".key").replace(".Value.", ".value."): value
        for name, value in form.fields.items()
        if name.startswith("MessageAttributes.entry.")
    }
    given = members_of(Form(fields), _ATTRIBUTES).get("MessageAttributes", {})
    return {name: _attribute(name, one) for name, one in given.items()}


def _attribute(name: str, given: Mapping[str, str]) -> dict[str, str]:
    kind = given.get("DataType", "")
    if not _ATTRIBUTE_NAME.fullmatch(name) or name.lower().startswith(("aws.", "amazon.")):
        raise _bad_attribute(f"The message attribute name '{name}' is invalid.")
    if not _DATA_TYPE.fullmatch(kind):
        raise _bad_attribute(f"The message attribute '{name}' has an invalid message attribute type.")
    value = given.get("BinaryValue" if kind.startswith("Binary") else "StringValue", "")
    if not value:
        raise _bad_attribute(f"The message attribute '{name}' must contain non-empty message attribute value.")
    if kind.startswith("Number") and not _is_number(value):
        raise _bad_attribute(f"Could not cast message attribute '{name}' value to number.")
    return {"Type": kind, "Value": value}


def _bad_attribute(message: str) -> ServiceError:
    return ServiceError("ParameterValueInvalid", message)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
