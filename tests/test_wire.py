from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.wire import MAX_DEPTH, Framer, WireError, encode, frame, parse

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[low:high] for low, high in itertools.pairwise(edges)]


@given(st.lists(st.binary(max_size=60), max_size=8), st.lists(st.integers(0, 10_000), max_size=20))
@settings(deadline=None)
def test_bodies_come_out_as_they_went_in_wherever_the_stream_is_split(bodies: list[bytes], places: list[int]) -> None:
    framer = Framer()
    out = [body for part in cut(b"".join(map(frame, bodies)), places) for body in framer.feed(part)]
    assert out == bodies
    assert framer.rest == b""


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=5), st.integers(0, 10_000))
@settings(deadline=None)
def test_a_truncated_stream_gives_the_complete_bodies_and_keeps_the_rest(bodies: list[bytes], place: int) -> None:
    stream = b"".join(map(frame, bodies))
    end = place % (len(stream) + 1)
    framer = Framer()
    out = framer.feed(stream[:end])
    assert out == bodies[: len(out)]
    assert Framer().feed(framer.rest + stream[end:]) == bodies[len(out) :]


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=10))
@settings(deadline=None, max_examples=400)
def test_garbage_is_refused_in_the_same_way_wherever_it_is_split(data: bytes, places: list[int]) -> None:
    assert digest([data]) == digest(cut(data, places))


@given(
    st.lists(
        st.sampled_from(
            [
                frame(b"{}"),
                b"Content-Length: 3\r\n\r\nabc",
                b"\r\n\r\n",
                b"X: y\r\n",
                b"content-length:2\r\n",
                b"7",
                b"\n",
            ]
        ),
        max_size=12,
    ),
    st.lists(st.integers(0, 400), max_size=10),
)
@settings(deadline=None, max_examples=400)
def test_near_misses_are_refused_in_the_same_way_wherever_they_are_split(parts: list[bytes], places: list[int]) -> None:
    assert digest(parts) == digest(cut(b"".join(parts), places))


def digest(parts: list[bytes]) -> tuple[list[bytes], bool]:
    framer, bodies = Framer(), []
    for part in parts:
        try:
            bodies += framer.feed(part)
        except WireError as error:
            return bodies + list(error.bodies), True
    return bodies, False


@pytest.mark.parametrize(
    "header",
    [
        b"content-length: 2\r\n\r\n",
        b"CONTENT-LENGTH:2\r\n\r\n",
        b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nContent-Length: 2\r\n\r\n",
        b"Content-Length:   2  \r\nX-Other: a:b\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n",
        b"Content-Length: 0000000002\r\n\r\n",
    ],
)
def test_headers_are_read_as_http_reads_them(header: bytes) -> None:
    assert Framer().feed(header + b"{}") == [b"{}"]


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: +1\r\n\r\n",
        b"Content-Length: 1_0\r\n\r\n",
        b"Content-Length: 0x10\r\n\r\n",
        b"Content-Length: \r\n\r\n",
        b"Content-Length: 67108865\r\n\r\n",
        b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        "Content-Length: ٣\r\n\r\n".encode(),
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n",
        b"Content-Type: x\r\n\r\n",
        b"\r\n\r\n",
        b"no colon\r\n\r\n",
        b"X: " + b"y" * 8200 + b"\r\n\r\n",
        b"y" * 9000,
    ],
)
def test_headers_that_lie_or_are_too_long_are_refused_at_once(header: bytes) -> None:
    framer = Framer()
    with pytest.raises(WireError) as refused:
        framer.feed(frame(b"{}") + header)
    assert refused.value.bodies == (b"{}",)
    assert str(refused.value).endswith(".")


def test_the_largest_header_and_body_are_accepted_and_one_byte_more_is_not() -> None:
    assert Framer(max_body=10).feed(frame(b"x" * 10)) == [b"x" * 10]
    with pytest.raises(WireError):
        Framer(max_body=10).feed(frame(b"x" * 11))
    header = b"Content-Length: 1\r\nX: "
    header += b"y" * (100 - len(header))
    assert Framer(max_header=100).feed(header + b"\r\n\r\nz") == [b"z"]
    for part in (header + b"y", header + b"y\r\n\r\nz"):
        with pytest.raises(WireError):
            Framer(max_header=100).feed(part * 2)


def test_a_large_body_in_small_pieces_takes_linear_time() -> None:
    def seconds(size: int) -> float:
        data, framer = frame(b"x" * size), Framer()
        began = time.perf_counter()
        bodies = [body for low in range(0, len(data), 4096) for body in framer.feed(data[low : low + 4096])]
        assert [len(body) for body in bodies] == [size]
        return time.perf_counter() - began

    small = min(seconds(1 << 20) for _ in range(3))
    assert seconds(16 << 20) < small * 16 * 6 + 0.2


@given(st.dictionaries(st.text(), JSON, max_size=5))
@settings(deadline=None)
def test_what_is_encoded_is_parsed_again(message: dict[str, Any]) -> None:
    assert parse(encode(message)) == message


def parsed(body: bytes) -> dict[str, Any] | str:
    """The message, or the sentence that refuses it; anything else that is raised fails the test."""
    try:
        return parse(body)
    except WireError as error:
        return str(error)


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=400)
def test_bodies_of_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    assert isinstance(parsed(body), (dict, str))


@given(st.text(alphabet='{}[]",:\\ud8dcefNaInty0123456789.-+ \n\0é', max_size=60))
@settings(deadline=None, max_examples=400)
def test_bodies_that_look_like_json_are_parsed_or_refused(text: str) -> None:
    encode(parsed(text.encode())).decode("utf-8")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"x": NaN}', -32700),
        (b'{"x": Infinity}', -32700),
        (b'{"x": -Infinity}', -32700),
        (b'{"x": 1e999}', -32700),
        (b'{"x": ' + b"9" * 5000 + b"}", -32700),
        (b'{"x": "\xff"}', -32700),
        (b'{"x": "\xed\xa0\x80"}', -32700),
        (b'{"x": 1', -32700),
        (b'{"x": 1} {}', -32700),
        (b"\xef\xbb\xbf{}", -32700),
        (b"", -32700),
        (b'{"x": ' + b"[" * 100_000, -32700),
        (b'{"x": ' + b"[" * 300 + b"]" * 300 + b"}", -32700),
        (b'{"a":' * 400 + b"1" + b"}" * 400, -32700),
        (b"[]", -32600),
        (b'[{"jsonrpc":"2.0"}]', -32600),
        (b"null", -32600),
        (b'"x"', -32600),
    ],
)
def test_messages_outside_of_the_rules_are_refused_with_the_right_code(body: bytes, code: int) -> None:
    with pytest.raises(WireError) as refused:
        parse(body)
    assert refused.value.code == code
    assert str(refused.value).endswith(".")


def test_depth_is_allowed_up_to_its_bound() -> None:
    def nested(levels: int) -> bytes:
        return b'{"x":' * (levels - 1) + b"{}" + b"}" * (levels - 1)

    assert parse(nested(MAX_DEPTH))
    with pytest.raises(WireError):
        parse(nested(MAX_DEPTH + 1))
    wide: dict[str, Any] = {"x": [[{}, []] for _ in range(1000)]}
    assert parse(encode(wide)) == wide


def test_lone_surrogates_become_harmless_and_pairs_stay() -> None:
    message = parse(rb'{"a\ud800": ["\udc00x", "\ud83d\ude00", "\\ud800"]}')
    assert message == {"a\ufffd": ["\ufffdx", "\U0001f600", "\\ud800"]}
    json.dumps(message, ensure_ascii=False).encode("utf-8")


def test_a_file_name_that_is_not_unicode_can_be_sent() -> None:
    assert json.loads(encode({"path": "a\udcff.py"})) == {"path": "a?.py"}
    with pytest.raises(ValueError, match="JSON"):
        encode({"x": float("nan")})


def test_error_sentences_do_not_repeat_what_was_sent() -> None:
    with pytest.raises(WireError) as refused:
        parse(b'{"x": "canary-4711" oops}')
    assert "canary" not in str(refused.value)


def test_wire_and_all_that_the_proxy_imports_is_of_the_standard_library() -> None:
    program = (
        "import sys; before = set(sys.modules); import plait.proxy; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    out = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True, env={"PYTHONPATH": "server"}
    )
    foreign = [name for name in out.stdout.split() if name not in sys.stdlib_module_names and name != "plait"]
    assert foreign == []
    assert "asyncio" not in out.stdout.split()
