"""The control plane of Toxiproxy 2.12: the same statuses, bodies and headers from our server and from the real one."""

from __future__ import annotations

import http.client
import json
import re
import socket
from typing import Any

import pytest

NOWHERE = "127.0.0.1:1"
PROXY_TYPE = 'struct { toxiproxy.Proxy; Enabled *bool \\"json:\\\\\\"enabled\\\\\\"\\" }'
NO_FIELD_NAME = "bad request body: json: cannot unmarshal number into Go struct field Proxy.name of type string"
NO_FIELD = "json: cannot unmarshal {} into Go struct field {} of type {}"


def failure(message: str, status: int) -> bytes:
    return json.dumps({"error": message, "status": status}, separators=(",", ":")).encode() + b"\n"


@pytest.fixture
def proxy(toxiproxy: Any) -> Any:
    """A proxy named p, and the server that has it."""
    toxiproxy.proxy("p", NOWHERE)
    return toxiproxy


def test_version(toxiproxy: Any) -> None:
    """The version has a space after the colon and a content type of its own."""
    answer = toxiproxy.call("GET", "/version")

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json;charset=utf-8"
    assert re.fullmatch(rb'\{"version": "[^"]+"\}\n', answer.body)
    assert re.fullmatch(r"[0-9a-v]{20}", answer.headers["x-toxiproxy-request-id"])


def test_a_proxys_wire_form(toxiproxy: Any) -> None:
    """A created proxy is answered with 201, resolved, enabled, its members in order."""
    answer = toxiproxy.call("POST", "/proxies", {"name": "a<&>é", "upstream": NOWHERE, "listen": "localhost:0"})

    assert answer.status == 201
    assert answer.headers["content-type"] == "application/json"
    pattern = (
        r'\{"name":"a\\u003c\\u0026\\u003eé","listen":"127\.0\.0\.1:\d+","upstream":"127\.0\.0\.1:1",'
        r'"enabled":true,"Logger":\{\},"toxics":\[\]\}'
    )
    assert re.fullmatch(pattern, answer.body.decode())


def test_a_disabled_proxy_shows_its_address_as_given(toxiproxy: Any) -> None:
    """Only listening resolves an address."""
    answer = toxiproxy.proxy("p", NOWHERE, listen="localhost:0", enabled=False)

    assert (answer["listen"], answer["enabled"]) == ("localhost:0", False)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        pytest.param(b"", 400, "bad request body: EOF", id="empty"),
        pytest.param(b"  \n", 400, "bad request body: EOF", id="blank"),
        pytest.param(b'{"name":"b"', 400, "bad request body: unexpected EOF", id="cut"),
        pytest.param(
            b"{name:1}",
            400,
            "bad request body: invalid character 'n' looking for beginning of object key string",
            id="bare-key",
        ),
        pytest.param(
            b'{"name":"b",}',
            400,
            "bad request body: invalid character '}' looking for beginning of object key string",
            id="trailing-comma",
        ),
        pytest.param(
            b'{"name":"b" "c"}',
            400,
            "bad request body: invalid character '\"' after object key:value pair",
            id="no-comma",
        ),
        pytest.param(b'{"name" "c"}', 400, "bad request body: invalid character '\"' after object key", id="no-colon"),
        pytest.param(b"xx", 400, "bad request body: invalid character 'x' looking for beginning of value", id="word"),
        pytest.param(
            b"[]",
            400,
            "bad request body: json: cannot unmarshal array into Go value of type toxiproxy.Proxy",
            id="array",
        ),
        pytest.param(
            b'{"name":5}', 400, "bad request body: " + NO_FIELD.format("number", "Proxy.name", "string"), id="name-type"
        ),
        pytest.param(
            b'{"name":"x","enabled":"x"}',
            400,
            "bad request body: " + NO_FIELD.format("string", "Proxy.enabled", "bool"),
            id="enabled-type",
        ),
        pytest.param(b"null", 400, "missing required field: name", id="null"),
        pytest.param(b"{}", 400, "missing required field: name", id="nothing"),
        pytest.param(b'{"name":"x"}', 400, "missing required field: upstream", id="no-upstream"),
        pytest.param(b'{"name":"p","upstream":"x:1"}', 409, "proxy already exists", id="exists"),
        pytest.param(
            b'{"name":"x","upstream":"x:1","listen":"nohost"}',
            500,
            "listen tcp: address nohost: missing port in address",
            id="no-port",
        ),
        pytest.param(
            b'{"name":"x","upstream":"x:1","listen":"127.0.0.1:99999"}',
            500,
            "listen tcp: address 99999: invalid port",
            id="port-too-high",
        ),
        pytest.param(
            b'{"name":"x","upstream":"x:1","listen":"127.0.0.1:abc"}',
            500,
            "listen tcp: lookup tcp/abc: unknown port",
            id="port-unknown",
        ),
        pytest.param(
            b'{"name":"x","upstream":"x:1","listen":"a:b:c"}',
            500,
            "listen tcp: address a:b:c: too many colons in address",
            id="colons",
        ),
        pytest.param(
            b'{"name":"x","upstream":"x:1","listen":"[::1:0"}',
            500,
            "listen tcp: address [::1:0: missing ']' in address",
            id="bracket",
        ),
        pytest.param(
            b'{"name":"x","upstream":"x:1","listen":"1.2.3.4:0"}',
            500,
            "listen tcp 1.2.3.4:0: bind: cannot assign requested address",
            id="not-ours",
        ),
    ],
)
def test_create_is_refused(proxy: Any, body: bytes, status: int, message: str) -> None:
    """Each wrong body has its status and Go's own text, as plain text that may not be sniffed."""
    answer = proxy.call("POST", "/proxies", raw=body)

    assert (answer.status, answer.body) == (status, failure(message, status))
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "x-toxiproxy-request-id" in answer.headers


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        pytest.param(
            b'1{"name"',
            400,
            "bad request body: json: cannot unmarshal number into Go value of type toxiproxy.Proxy",
            id="number-first",
        ),
        pytest.param(b"[" * 20_000, 400, "bad request body: invalid character '[' exceeded max depth", id="too-deep"),
        pytest.param(b'{"a":' + b"[" * 9000 + b"]" * 9000 + b"}", 400, "missing required field: name", id="deep"),
        pytest.param(
            b'{"a":01}', 400, "bad request body: invalid character '1' after object key:value pair", id="zero"
        ),
        pytest.param(b'{"a":-x}', 400, "bad request body: invalid character 'x' in numeric literal", id="minus"),
        pytest.param(
            b'{"a":1.}',
            400,
            "bad request body: invalid character '}' after decimal point in numeric literal",
            id="point",
        ),
        pytest.param(
            b'{"a":nulx}', 400, "bad request body: invalid character 'x' in literal null (expecting 'l')", id="literal"
        ),
        pytest.param(b'{"a":"\\x"}', 400, "bad request body: invalid character 'x' in string escape code", id="escape"),
        pytest.param(
            b'{"a":"\\u12g"}',
            400,
            "bad request body: invalid character 'g' in \\u hexadecimal character escape",
            id="hexadecimal",
        ),
        pytest.param(
            b'{"a":"\x01"}', 400, "bad request body: invalid character '\\x01' in string literal", id="control"
        ),
        pytest.param(b'{"a"\xe9', 400, "bad request body: invalid character 'é' after object key", id="not-utf-8"),
        pytest.param(b"NaN", 400, "bad request body: invalid character 'N' looking for beginning of value", id="nan"),
        pytest.param(b'{"name":"a","name":null,"name":5}', 400, NO_FIELD_NAME, id="error-of-a-repeated-member"),
        pytest.param(
            b'{"Logger":[]}',
            400,
            "bad request body: json: cannot unmarshal array into Go struct field Proxy.Logger of type zerolog.Logger",
            id="logger",
        ),
        pytest.param(
            b'{"name":"x","upstream":"x:1","listen":"127.1:0"}',
            500,
            "listen tcp: lookup 127.1: no such host",
            id="short",
        ),
    ],
)
def test_the_decoders_corners(proxy: Any, body: bytes, status: int, message: str) -> None:
    """Go's decoder has its own idea of where a value ends, how deep it may be, and what is wrong with it."""
    answer = proxy.call("POST", "/proxies", raw=body)

    expected = json.dumps({"error": message, "status": status}, separators=(",", ":"), ensure_ascii=False) + "\n"
    assert (answer.status, answer.body.decode()) == (status, expected)


def test_the_last_of_repeated_members_counts_and_halves_of_characters_are_replaced(toxiproxy: Any) -> None:
    """A lone surrogate and each byte that is no UTF-8 become U+FFFD; `null` leaves what was there."""
    body = (
        b'{"name":"a","upstream":"127.0.0.1:1","li\xc5\xbften":"127.0.0.1:0","name":"\\ud83d\\ude00\\ud83dx\xe2\x82",'
        b'"name":null,"enabled":false}'
    )

    made = toxiproxy.call("POST", "/proxies", raw=body).json()
    assert (made["name"], made["listen"]) == ("\U0001f600\ufffdx\ufffd\ufffd", "127.0.0.1:0")


def test_a_refused_update_of_a_toxic_applies_what_fits(proxy: Any) -> None:
    """The real server decodes into the toxic itself: 400, and the other attribute has changed."""
    proxy.toxic("p", "latency", name="t", latency=1, jitter=2)

    answer = proxy.call("PATCH", "/proxies/p/toxics/t", {"attributes": {"latency": "x", "jitter": 5}, "toxicity": 0.5})

    assert answer.status == 400
    found = proxy.call("GET", "/proxies/p/toxics/t").json()
    assert (found["attributes"], found["toxicity"]) == ({"latency": 1, "jitter": 5}, 1)


def test_keys_match_in_any_case_and_the_rest_is_ignored(toxiproxy: Any) -> None:
    """As Go's decoder does: `NAME` is `name`, and what follows the first value does not exist."""
    body = b'{"NAME":"p","Upstream":"127.0.0.1:1","listen":"127.0.0.1:0"} trailing'

    assert toxiproxy.call("POST", "/proxies", raw=body).status == 201


def test_a_taken_port_is_a_500(proxy: Any) -> None:
    """A proxy that cannot listen does not exist afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        answer = proxy.call("POST", "/proxies", {"name": "x", "upstream": NOWHERE, "listen": listen})

    message = f"listen tcp {listen}: bind: address already in use"
    assert (answer.status, answer.body) == (500, failure(message, 500))
    assert proxy.call("GET", "/proxies/x").status == 404


def test_the_list_is_sorted_by_name(toxiproxy: Any) -> None:
    """GET /proxies is an object, its keys in order."""
    for name in ("b", "a", "c"):
        toxiproxy.proxy(name, NOWHERE)

    assert list(toxiproxy.call("GET", "/proxies").json()) == ["a", "b", "c"]


@pytest.mark.parametrize("method", ["PATCH", "POST"])
def test_an_update_keeps_what_it_does_not_name(proxy: Any, method: str) -> None:
    """A proxy can be disabled and enabled; it listens where it did, and a name in the body is ignored."""
    before = proxy.call("GET", "/proxies/p").json()

    off = proxy.call(method, "/proxies/p", {"enabled": False, "name": "other"}).json()
    assert off == {**before, "enabled": False}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(before["listen"].rpartition(":")[2])))
    assert proxy.call(method, "/proxies/p", {"enabled": True}).json() == before
    assert proxy.call(method, "/proxies/p", raw=b'{"enabled":null}').json() == before


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        pytest.param("/proxies/q", b"{}", 404, "proxy not found", id="unknown"),
        pytest.param("/proxies/p", b"", 400, "bad request body: EOF", id="empty"),
        pytest.param(
            "/proxies/p", b'{"listen":"nohost"}', 500, "address nohost: missing port in address", id="no-port"
        ),
    ],
)
def test_an_update_is_refused(proxy: Any, path: str, body: bytes, status: int, message: str) -> None:
    """A refused update says why."""
    answer = proxy.call("PATCH", path, raw=body)

    assert (answer.status, answer.body) == (status, failure(message, status))


def test_an_update_to_a_taken_address_leaves_the_proxy_disabled_with_it(proxy: Any) -> None:
    """The real server's way: 500, disabled, new address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        assert proxy.call("PATCH", "/proxies/p", {"listen": listen}).status == 500

    found = proxy.call("GET", "/proxies/p").json()
    assert (found["listen"], found["enabled"]) == (listen, False)


def test_delete(proxy: Any) -> None:
    """204 without a body or a content type; then 404."""
    answer = proxy.call("DELETE", "/proxies/p")

    assert (answer.status, answer.body) == (204, b"")
    assert "content-type" not in answer.headers
    assert proxy.call("DELETE", "/proxies/p").body == failure("proxy not found", 404)


# -- toxics ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            '{"type":"latency","attributes":{"LATENCY":5,"foo":1,"jitter":null}}',
            '{"attributes":{"latency":5,"jitter":0},"name":"latency_downstream","type":"latency","stream":"downstream",'
            '"toxicity":1}',
            id="defaults",
        ),
        pytest.param(
            '{"type":"latency","stream":"UPSTREAM","toxicity":0.30000001}',
            '{"attributes":{"latency":0,"jitter":0},"name":"latency_UPSTREAM","type":"latency","stream":"UPSTREAM",'
            '"toxicity":0.3}',
            id="stream-as-given",
        ),
        pytest.param(
            '{"type":"noop","stream":null,"toxicity":null,"attributes":null,"name":null}',
            '{"attributes":{},"name":"noop_downstream","type":"noop","stream":"downstream","toxicity":1}',
            id="nulls",
        ),
        pytest.param(
            '{"type":"slicer","name":"s","toxicity":1e-7}',
            '{"attributes":{"average_size":0,"size_variation":0,"delay":0},"name":"s","type":"slicer",'
            '"stream":"downstream","toxicity":1e-7}',
            id="slicer-unchecked",
        ),
        pytest.param(
            '{"type":"bandwidth","attributes":{"rate":-5},"toxicity":7}',
            '{"attributes":{"rate":-5},"name":"bandwidth_downstream","type":"bandwidth","stream":"downstream",'
            '"toxicity":7}',
            id="nothing-is-range-checked",
        ),
        pytest.param(
            '{"type":"limit_data","toxicity":16777217}',
            '{"attributes":{"bytes":0},"name":"limit_data_downstream","type":"limit_data","stream":"downstream",'
            '"toxicity":16777216}',
            id="float32",
        ),
        pytest.param(
            '{"type":"reset_peer","toxicity":1e21}',
            '{"attributes":{"timeout":0},"name":"reset_peer_downstream","type":"reset_peer","stream":"downstream",'
            '"toxicity":1e+21}',
            id="exponent",
        ),
    ],
)
def test_a_toxics_wire_form(proxy: Any, body: str, expected: str) -> None:
    """A created toxic is answered with 200, not 201, its members in order, and reads the same afterwards."""
    answer = proxy.call("POST", "/proxies/p/toxics", raw=body.encode())

    assert (answer.status, answer.body.decode()) == (200, expected)
    assert answer.headers["content-type"] == "application/json"
    assert proxy.call("GET", "/proxies/p/toxics").body.decode() == f"[{expected}]"
    name = json.loads(expected)["name"]
    assert proxy.call("GET", f"/proxies/p/toxics/{name}").body.decode() == expected
    assert proxy.call("GET", "/proxies/p").json()["toxics"] == [json.loads(expected)]


ATTRIBUTE = "bad request body: json: cannot unmarshal {} into Go struct field {}Toxic.attributes.{} of type {}"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        pytest.param("{}", 400, "invalid toxic type", id="no-type"),
        pytest.param('{"type":"x"}', 400, "invalid toxic type", id="unknown-type"),
        pytest.param(
            '{"type":"noop","stream":"both"}',
            400,
            "stream was invalid, can be either upstream or downstream",
            id="stream",
        ),
        pytest.param(
            '{"type":"noop","stream":""}',
            400,
            "stream was invalid, can be either upstream or downstream",
            id="empty-stream",
        ),
        pytest.param('{"type":"noop","name":"there"}', 409, "toxic already exists", id="exists"),
        pytest.param(
            '{"type":"latency","name":"there","attributes":{"latency":"x"}}',
            409,
            "toxic already exists",
            id="exists-before-attributes",
        ),
        pytest.param(
            '{"type":"latency","attributes":{"latency":"100"}}',
            400,
            ATTRIBUTE.format("string", "Latency", "latency", "int64"),
            id="text",
        ),
        pytest.param(
            '{"type":"latency","attributes":{"jitter":1.5}}',
            400,
            ATTRIBUTE.format("number 1.5", "Latency", "jitter", "int64"),
            id="fraction",
        ),
        pytest.param(
            '{"type":"latency","attributes":{"latency":1e3}}',
            400,
            ATTRIBUTE.format("number 1e3", "Latency", "latency", "int64"),
            id="exponent",
        ),
        pytest.param(
            '{"type":"bandwidth","attributes":{"rate":99999999999999999999}}',
            400,
            ATTRIBUTE.format("number 99999999999999999999", "Bandwidth", "rate", "int64"),
            id="too-large",
        ),
        pytest.param(
            '{"type":"slicer","attributes":{"average_size":true}}',
            400,
            ATTRIBUTE.format("bool", "Slicer", "average_size", "int"),
            id="bool",
        ),
        pytest.param(
            '{"type":"latency","attributes":[]}',
            400,
            "bad request body: " + NO_FIELD.format("array", "ToxicWrapper.attributes", "toxics.NoopToxic"),
            id="attributes",
        ),
        pytest.param(
            '{"type":"noop","toxicity":"1"}',
            400,
            "bad request body: " + NO_FIELD.format("string", "ToxicWrapper.toxicity", "float32"),
            id="toxicity",
        ),
        pytest.param(
            '{"type":"noop","toxicity":3.4e39}',
            400,
            "bad request body: " + NO_FIELD.format("number 3.4e39", "ToxicWrapper.toxicity", "float32"),
            id="toxicity-too-large",
        ),
        pytest.param("", 400, "bad request body: EOF", id="empty"),
    ],
)
def test_a_toxic_is_refused(proxy: Any, body: str, status: int, message: str) -> None:
    """Each wrong toxic has its status and text, and none is added."""
    proxy.toxic("p", "noop", name="there")

    answer = proxy.call("POST", "/proxies/p/toxics", raw=body.encode())

    assert (answer.status, answer.body) == (status, failure(message, status))
    assert len(proxy.call("GET", "/proxies/p/toxics").json()) == 1


def test_toxics_are_listed_upstream_first(proxy: Any) -> None:
    """All upstream toxics, then all downstream ones, each in order of adding; names are unique over both."""
    proxy.toxic("p", "noop", name="d1")
    proxy.toxic("p", "noop", "upstream", name="u1")
    proxy.toxic("p", "noop", name="d2")
    proxy.toxic("p", "noop", "upstream", name="u2")

    assert [toxic["name"] for toxic in proxy.call("GET", "/proxies/p/toxics").json()] == ["u1", "u2", "d1", "d2"]
    twice = proxy.call("POST", "/proxies/p/toxics", {"type": "noop", "stream": "upstream", "name": "d1"})
    assert twice.status == 409


@pytest.mark.parametrize("method", ["PATCH", "POST"])
def test_an_update_merges_attributes(proxy: Any, method: str) -> None:
    """What an update does not name stays; name, type and stream cannot be changed."""
    proxy.toxic("p", "latency", name="t", latency=10, jitter=3)
    body = {"name": "x", "type": "noop", "stream": "upstream", "toxicity": 0.5, "attributes": {"latency": 20}}

    answer = proxy.call(method, "/proxies/p/toxics/t", body)

    assert answer.status == 200
    assert answer.json() == {
        "attributes": {"latency": 20, "jitter": 3},
        "name": "t",
        "type": "latency",
        "stream": "downstream",
        "toxicity": 0.5,
    }
    for unchanged in (b"{}", b"null", b'{"attributes":null}'):
        assert proxy.call(method, "/proxies/p/toxics/t", raw=unchanged).json() == answer.json()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"", "bad request body: EOF", id="empty"),
        pytest.param(
            b'{"toxicity":"x"}', "bad request body: " + NO_FIELD.format("string", ".toxicity", "float32"), id="toxicity"
        ),
        pytest.param(
            b'{"attributes":7}',
            "bad request body: " + NO_FIELD.format("number", ".attributes", "toxics.LatencyToxic"),
            id="attributes",
        ),
        pytest.param(
            b'{"attributes":{"latency":"x"}}', ATTRIBUTE.format("string", "Latency", "latency", "int64"), id="attribute"
        ),
        pytest.param(
            b"[]",
            "bad request body: json: cannot unmarshal array into Go value of type struct { Attributes interface {} "
            '"json:\\"attributes\\""; Toxicity float32 "json:\\"toxicity\\"" }',
            id="array",
        ),
    ],
)
def test_a_toxics_update_is_refused(proxy: Any, body: bytes, message: str) -> None:
    """A wrong update is a 400, and the toxic stays what it was."""
    before = proxy.toxic("p", "latency", name="t", latency=10)

    answer = proxy.call("PATCH", "/proxies/p/toxics/t", raw=body)

    assert (answer.status, answer.body) == (400, failure(message, 400))
    assert proxy.call("GET", "/proxies/p/toxics/t").json() == before


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_unknown_toxics_and_proxies(proxy: Any, method: str) -> None:
    """404 with its text, whatever the body."""
    assert proxy.call(method, "/proxies/p/toxics/x", raw=b"").body == failure("toxic not found", 404)
    assert proxy.call(method, "/proxies/q/toxics/x", raw=b"").body == failure("proxy not found", 404)


def test_a_toxic_can_be_added_to_a_disabled_proxy(proxy: Any) -> None:
    """200, and it survives being enabled."""
    proxy.call("PATCH", "/proxies/p", {"enabled": False})
    proxy.toxic("p", "latency", name="t", latency=1)
    proxy.call("PATCH", "/proxies/p", {"enabled": True})

    assert [toxic["name"] for toxic in proxy.call("GET", "/proxies/p/toxics").json()] == ["t"]
    answer = proxy.call("DELETE", "/proxies/p/toxics/t")
    assert (answer.status, answer.body) == (204, b"")


# -- several at once -------------------------------------------------------------------------------


def test_populate_makes_replaces_and_leaves_alone(toxiproxy: Any) -> None:
    """The same proxy is left as it is, toxics and all; another one of that name is made anew."""
    same = toxiproxy.proxy("same", NOWHERE)
    toxiproxy.toxic("same", "noop", name="t")
    toxiproxy.proxy("other", NOWHERE)
    toxiproxy.toxic("other", "noop", name="t")
    entries = [
        {"name": "same", "upstream": NOWHERE, "listen": same["listen"], "enabled": False},
        {"name": "other", "upstream": "127.0.0.1:2", "listen": "127.0.0.1:0"},
        {"name": "off", "upstream": NOWHERE, "listen": "localhost:0", "enabled": False, "toxics": ["ignored"]},
    ]

    answer = toxiproxy.call("POST", "/populate", entries)

    assert answer.status == 201
    found = {proxy["name"]: proxy for proxy in answer.json()["proxies"]}
    assert list(found) == ["same", "other", "off"]
    assert (found["same"]["enabled"], len(found["same"]["toxics"])) == (True, 1)
    assert (found["other"]["upstream"], found["other"]["toxics"]) == ("127.0.0.1:2", [])
    assert (found["off"]["enabled"], found["off"]["listen"]) == (False, "localhost:0")


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        pytest.param(b"[]", 201, '{"proxies":null}', id="nothing"),
        pytest.param(b"null", 201, '{"proxies":null}', id="null"),
        pytest.param(b"", 400, '{"error":"bad request body: EOF","status":400,"proxies":null}', id="empty"),
        pytest.param(
            b'[{"name":"q"}]',
            400,
            '{"error":"missing required field: upstream at proxy 1","status":400,"proxies":null}',
            id="no-upstream",
        ),
        pytest.param(
            b'[{"name":1}]',
            400,
            '{"error":"bad request body: '
            + NO_FIELD.format("number", ".Proxy.name", "string")
            + '","status":400,"proxies":null}',
            id="type",
        ),
        pytest.param(
            b"{}",
            400,
            '{"error":"bad request body: json: cannot unmarshal object into Go value of type []' + PROXY_TYPE + '",'
            '"status":400,"proxies":null}',
            id="object",
        ),
        pytest.param(
            b"[3]",
            400,
            '{"error":"bad request body: json: cannot unmarshal number into Go value of type ' + PROXY_TYPE + '",'
            '"status":400,"proxies":null}',
            id="number",
        ),
        pytest.param(
            b'[{"name":"q","upstream":"x:1","listen":"nohost"}]',
            500,
            '{"error":"listen tcp: address nohost: missing port in address","status":500,"proxies":null}',
            id="address",
        ),
    ],
)
def test_populates_answers(toxiproxy: Any, body: bytes, status: int, expected: str) -> None:
    """Errors come with the proxies done before, as JSON, here alone."""
    answer = toxiproxy.call("POST", "/populate", raw=body)

    assert (answer.status, answer.body.decode()) == (status, expected)
    assert answer.headers["content-type"] == "application/json"


def test_populate_stops_at_the_first_that_fails(toxiproxy: Any) -> None:
    """What was made before stays and is told."""
    entries = [
        {"name": "good", "upstream": NOWHERE, "listen": "127.0.0.1:0"},
        {"name": "bad", "upstream": NOWHERE, "listen": "nohost"},
        {"name": "never", "upstream": NOWHERE, "listen": "127.0.0.1:0"},
    ]

    answer = toxiproxy.call("POST", "/populate", entries)

    assert answer.status == 500
    assert [proxy["name"] for proxy in answer.json()["proxies"]] == ["good"]
    assert list(toxiproxy.call("GET", "/proxies").json()) == ["good"]


def test_reset_enables_and_clears(proxy: Any) -> None:
    """Every proxy enabled, every toxic gone."""
    proxy.toxic("p", "latency", latency=1)
    proxy.call("PATCH", "/proxies/p", {"enabled": False})

    answer = proxy.call("POST", "/reset")

    assert (answer.status, answer.body) == (204, b"")
    found = proxy.call("GET", "/proxies/p").json()
    assert (found["enabled"], found["toxics"]) == (True, [])


# -- routes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        pytest.param("GET", "/nope", 404, b"404 page not found\n", id="unknown"),
        pytest.param("GET", "/proxies/", 404, b"404 page not found\n", id="trailing-slash"),
        pytest.param("GET", "/proxies/a%2Fb", 404, b"404 page not found\n", id="slash-in-a-name"),
        pytest.param("GET", "/metrics", 404, b"404 page not found\n", id="metrics-without-the-flag"),
        pytest.param("PUT", "/proxies", 405, b"", id="method"),
        pytest.param("HEAD", "/version", 405, b"", id="head"),
        pytest.param("GET", "/reset", 405, b"", id="get-reset"),
        pytest.param("OPTIONS", "/proxies/p/toxics", 405, b"", id="options"),
    ],
)
def test_other_routes(toxiproxy: Any, method: str, path: str, status: int, body: bytes) -> None:
    """Routes are exact, and what does not match has no request id."""
    answer = toxiproxy.call(method, path)

    assert (answer.status, answer.body) == (status, body)
    assert "x-toxiproxy-request-id" not in answer.headers


def test_unclean_paths_are_redirected(toxiproxy: Any) -> None:
    """As the real router does it."""
    answer = toxiproxy.call("GET", "//proxies")

    assert (answer.status, answer.headers["location"]) == (301, "/proxies")


def test_browsers_are_blocked(toxiproxy: Any) -> None:
    """A Mozilla user agent is refused on matched routes, and not on others."""
    answer = toxiproxy.call("GET", "/version", agent="Mozilla/5.0")

    assert (answer.status, answer.body) == (403, b"User agent not allowed\n")
    assert toxiproxy.call("GET", "/nope", agent="Mozilla/5.0").status == 404
    assert toxiproxy.call("GET", "/version", agent="not Mozilla/5.0").status == 200


def test_chunked_bodies_and_keep_alive(toxiproxy: Any) -> None:
    """A body without a length is read, and one connection serves several calls."""
    connection = http.client.HTTPConnection("127.0.0.1", toxiproxy.port, timeout=10)
    pieces = iter([b'{"name":"p","upst', b'ream":"127.0.0.1:1","listen":"127.0.0.1:0"}'])
    connection.request("POST", "/proxies", body=pieces, encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    first = connection.getresponse()
    assert (first.status, json.loads(first.read())["name"]) == (201, "p")
    used = connection.sock

    connection.request("GET", "/proxies/p")

    answer = connection.getresponse()
    assert answer.status == 200
    answer.read()
    assert connection.sock is used
    connection.close()
