"""The topics of one region and their subscriptions as plain JSON and back; messages under way are not kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from kms_local.sns.topics import Subscription, Topic, Topics
from kms_local.wire.params import JsonObject


def to_document(topics: Topics) -> JsonObject:
    """Return every topic, in values that JSON has."""
    return {"topics": [asdict(topic) for topic in topics.all()]}


def restore(topics: Topics, document: Mapping[str, Any]) -> None:
    """Put the topics of a document in place.

    Raises:
        KeyError, TypeError: it is not of the form that `to_document` gives.
    """
    for one in document["topics"]:
        subscriptions = [Subscription(**known) for known in one["subscriptions"]]
        topics.take_up(Topic(**{**one, "subscriptions": subscriptions}))
