"""A stock boto3 session whose CloudWatch clients speak one protocol of those that the service has."""

from __future__ import annotations

import copy
from typing import Any

import boto3
import botocore.loaders
import botocore.session


class _OneProtocol(botocore.loaders.Loader):  # type: ignore[misc]  # botocore has no types
    """Loads the service models that botocore comes with, and lets CloudWatch's name one protocol alone."""

    protocol = "json"

    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        model = super().load_service_model(service_name, type_name, api_version)
        if (service_name, type_name) != ("cloudwatch", "service-2"):
            return model
        model = copy.deepcopy(model)
        model["metadata"] |= {"protocol": self.protocol, "protocols": [self.protocol]}
        return model


def session(protocol: str) -> Any:
    """Return a boto3 session.

    Args:
        protocol: `json`, which botocore chooses by itself, `query`, which older versions speak, or
            `smithy-rpc-v2-cbor`, which other SDKs prefer.
    """
    inner = botocore.session.Session()
    loader = _OneProtocol()
    loader.protocol = protocol
    loader.search_paths.extend(inner.get_component("data_loader").search_paths)
    inner.register_component("data_loader", loader)
    return boto3.session.Session(botocore_session=inner)
