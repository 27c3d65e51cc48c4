"""The eight kinds of toxic as the API knows them: names, attributes, defaults, wire form."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from kms_local.toxiproxy import go_json
from kms_local.toxiproxy.errors import ApiError
from kms_local.toxiproxy.go_struct import Field, Struct, fill

UPSTREAM, DOWNSTREAM = "upstream", "downstream"
DIRECTIONS = (UPSTREAM, DOWNSTREAM)
MAX_TTL_MS = 7 * 24 * 3600 * 1000  # a lease of more than a week is a mistake in its unit


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
    ttl: int | None = None  # ms; a lease outside the compatible API, shown only where one was given

    @property
    def direction(self) -> str:
        """`upstream` or `downstream`."""
        return self.stream.lower()

    def text(self) -> str:
        """Return the toxic as the API writes it."""
        attributes, name, kind, stream = map(go_json.encode, (self.attributes, self.name, self.kind, self.stream))
        toxicity = go_json.float32_text(self.toxicity)
        lease = "" if self.ttl is None else f',"ttl":{self.ttl}'
        return (
            f'{{"attributes":{attributes},"name":{name},"type":{kind},"stream":{stream},"toxicity":{toxicity}{lease}}}'
        )


def parse_toxic(body: bytes, end: str, taken: Container[str]) -> Toxic:
    """Read a new toxic whose name may not be in `taken`; values are not range-checked, as in the real server.

    Args:
        body: what was sent.
        end: why there is no more of it.
        taken: the names of the proxy's toxics.

    Raises:
        ApiError: 400 or 409, in the order in which the real server looks.
    """
    try:
        value = go_json.decode(body, end=end)
        given = fill(_WRAPPER, value).checked()
    except go_json.DecodeError as e:
        raise _bad_request(e) from e
    kind, stream = given.get("type", ""), given.get("stream", DOWNSTREAM)
    if stream.lower() not in DIRECTIONS:
        raise ApiError(400, "stream was invalid, can be either upstream or downstream")
    if kind not in KINDS:
        raise ApiError(400, "invalid toxic type")
    name = given.get("name") or f"{kind}_{stream}"
    if name in taken:
        raise ApiError(409, "toxic already exists")
    try:
        attributes = fill(_ATTRIBUTES[kind], value).checked().get("attributes")
    except go_json.DecodeError as e:
        raise _bad_request(e) from e
    values = {**dict.fromkeys(KINDS[kind].attributes, 0), **(attributes or {})}
    return Toxic(name, kind, stream, given.get("toxicity", 1.0), values, _ttl(given))


def update_toxic(toxic: Toxic, body: bytes, end: str) -> bool:
    """Merge attributes, toxicity and TTL from `body` into `toxic`; name, type and stream are ignored.

    Returns:
        whether a TTL was given.

    Raises:
        ApiError: 400. Attributes that fit have changed all the same, and take effect with the next run: the real
            server decodes into the toxic itself.
    """
    try:
        filled = fill(_UPDATES[toxic.kind], go_json.decode(body, end=end))
        toxic.attributes.update(filled.values.get("attributes") or {})
        given = filled.checked()
    except go_json.DecodeError as e:
        raise _bad_request(e) from e
    ttl = _ttl(given)
    toxic.toxicity = given.get("toxicity", toxic.toxicity)
    if "ttl" in given:
        toxic.ttl = ttl
    return "ttl" in given


def _ttl(given: dict[str, object]) -> int | None:
    ttl = given.get("ttl")
    if isinstance(ttl, int) and not 0 < ttl <= MAX_TTL_MS:
        raise ApiError(400, f"ttl must be between 1 and {MAX_TTL_MS} milliseconds")
    return ttl if isinstance(ttl, int) else None


def _bad_request(error: go_json.DecodeError) -> ApiError:
    return ApiError(400, f"bad request body: {error}")


def _attributes_of(kind: Kind) -> Struct:
    return Struct(
        f"toxics.{kind.struct}",
        {name: Field(kind.go_type, f"{kind.struct}.attributes.{name}") for name in kind.attributes},
    )


def _attributes_field(kind: Kind) -> Field:
    return Field(f"toxics.{kind.struct}", ".attributes", pointer=True, inner=_attributes_of(kind))


_NO_ATTRIBUTES = Struct("toxics.NoopToxic", {})
_WRAPPER = Struct(
    "toxics.ToxicWrapper",
    {
        "attributes": Field("toxics.NoopToxic", "ToxicWrapper.attributes", pointer=True, inner=_NO_ATTRIBUTES),
        "name": Field("string", "ToxicWrapper.name"),
        "type": Field("string", "ToxicWrapper.type"),
        "stream": Field("string", "ToxicWrapper.stream"),
        "toxicity": Field("float32", "ToxicWrapper.toxicity"),
        "ttl": Field("int64", "ToxicWrapper.ttl", pointer=True),
    },
)
_ATTRIBUTES = {
    name: Struct('struct { Attributes interface {} "json:\\"attributes\\"" }', {"attributes": _attributes_field(kind)})
    for name, kind in KINDS.items()
}
_UPDATES = {
    name: Struct(
        'struct { Attributes interface {} "json:\\"attributes\\""; Toxicity float32 "json:\\"toxicity\\"" }',
        {
            "attributes": _attributes_field(kind),
            "toxicity": Field("float32", ".toxicity"),
            "ttl": Field("int64", ".ttl", pointer=True),
        },
    )
    for name, kind in KINDS.items()
}
