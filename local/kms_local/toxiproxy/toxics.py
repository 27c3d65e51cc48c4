"""The eight kinds of toxic as the API knows them: names, attributes, defaults, wire form."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from kms_local.toxiproxy import go_json
from kms_local.toxiproxy.errors import ApiError

UPSTREAM, DOWNSTREAM = "upstream", "downstream"
DIRECTIONS = (UPSTREAM, DOWNSTREAM)
_WRAPPER = "ToxicWrapper"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of toxic: its struct in the real server, and its attributes in the order they are written."""

    struct: str
    attributes: tuple[str, ...]
    go_type: str = "int64"


KINDS = {
    "latency": Kind("LatencyToxic", ("latency", "jitter")),
    "bandwidth": Kind("BandwidthToxic", ("rate",)),
    "slow_close": Kind("SlowCloseToxic", ("delay",)),
    "timeout": Kind("TimeoutToxic", ("timeout",)),
    "reset_peer": Kind("ResetToxic", ("timeout",)),
    "slicer": Kind("SlicerToxic", ("average_size", "size_variation", "delay"), "int"),
    "limit_data": Kind("LimitDataToxic", ("bytes",)),
    "noop": Kind("NoopToxic", ()),
}


@dataclass(slots=True)
class Toxic:
    """One toxic of a proxy; attributes and toxicity change in place, so that every link sees them."""

    name: str
    kind: str
    stream: str  # as given, in whatever case
    toxicity: float
    attributes: dict[str, int]

    @property
    def direction(self) -> str:
        """`upstream` or `downstream`."""
        return self.stream.lower()

    def text(self) -> str:
        """Return the toxic as the API writes it."""
        attributes, name, kind, stream = map(go_json.encode, (self.attributes, self.name, self.kind, self.stream))
        toxicity = go_json.float32_text(self.toxicity)
        return f'{{"attributes":{attributes},"name":{name},"type":{kind},"stream":{stream},"toxicity":{toxicity}}}'


def parse_toxic(body: bytes, taken: Container[str]) -> Toxic:
    """Read a new toxic whose name may not be in `taken`; values are not range-checked, as in the real server.

    Raises:
        ApiError: 400 or 409, in the order in which the real server looks.
    """
    try:
        given = go_json.members(go_json.decode(body), "toxics.ToxicWrapper")
        attributes = go_json.object_field(given, "attributes", _WRAPPER, "toxics.NoopToxic")
        name, kind_name, stream = (
            go_json.text_field(given, field, _WRAPPER, default)
            for field, default in (("name", ""), ("type", ""), ("stream", DOWNSTREAM))
        )
        toxicity = go_json.float32_field(given, "toxicity", _WRAPPER, 1.0)
    except go_json.DecodeError as e:
        raise ApiError(400, f"bad request body: {e}") from e
    if stream.lower() not in DIRECTIONS:
        raise ApiError(400, "stream was invalid, can be either upstream or downstream")
    if kind_name not in KINDS:
        raise ApiError(400, "invalid toxic type")
    name = name or f"{kind_name}_{stream}"
    if name in taken:
        raise ApiError(409, "toxic already exists")
    values = dict.fromkeys(KINDS[kind_name].attributes, 0)
    values.update(_attributes(kind_name, attributes))
    return Toxic(name, kind_name, stream, toxicity, values)


def update_toxic(toxic: Toxic, body: bytes) -> None:
    """Merge attributes and toxicity from `body` into `toxic`; name, type and stream are ignored.

    Raises:
        ApiError: 400; nothing has changed then.
    """
    go_type = 'struct { Attributes interface {} "json:\\"attributes\\""; Toxicity float32 "json:\\"toxicity\\"" }'
    try:
        given = go_json.members(go_json.decode(body), go_type)
        raw = go_json.object_field(given, "attributes", "", f"toxics.{KINDS[toxic.kind].struct}")
        toxicity = go_json.float32_field(given, "toxicity", "", toxic.toxicity)
    except go_json.DecodeError as e:
        raise ApiError(400, f"bad request body: {e}") from e
    toxic.attributes.update(_attributes(toxic.kind, raw))
    toxic.toxicity = toxicity


def _attributes(kind_name: str, given: Mapping[str, Any]) -> dict[str, int]:
    kind = KINDS[kind_name]
    try:
        return {
            name: go_json.int64(given[name], f"{kind.struct}.attributes.{name}", kind.go_type)
            for name in kind.attributes
            if name in given
        }
    except go_json.DecodeError as e:
        raise ApiError(400, f"bad request body: {e}") from e
