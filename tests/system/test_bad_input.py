"""A clear error and nothing lost: what clients send that breaks every rule."""

import asyncio
import json
import os
import struct
import time

import pytest

import rawsocket
from clients import Client, Packed, echo_works
from harness import DATA, SANITIZED, pids_with, until
from rawsocket import BINARY, CLOSE, MORE, PING, PONG, TEXT, Gone, RawSocket, frame, upgrade_request

PARSING = DATA / "json-parsing" / "test_parsing"
MIB = 1 << 20


@pytest.fixture
def watched(server):
    """A server that must hold afterwards what it held before, with the same frontend."""
    before = server.steady()
    frontend = server.frontend_pid()
    yield server
    asyncio.run(echo_works(server))
    assert server.frontend_pid() == frontend, "the frontend was restarted"
    server.wait_back(before)


def plain_socket(server):
    raw = RawSocket(server).upgrade()
    assert raw.receive_json()["method"] == "connected"
    return raw


def alive(raw):
    raw.send_json({"id": "alive", "method": "hook_status"})
    return "result" in raw.receive_answer("alive")


def verdict_on(raw, data):
    """The error code for a text, or the close code; None when it was taken."""
    raw.send_frame(TEXT, data)
    raw.send_json({"id": "mark", "method": "hook_status"})
    code = None
    while True:
        opcode, payload = raw.receive_message()
        if opcode == CLOSE:
            return struct.unpack(">H", payload[:2])[0]
        message = json.loads(payload)
        if message.get("id") == "mark":
            return code
        assert "error" in message, message
        code = message["error"]["code"]


def test_json_texts(watched):
    """318 texts: y_ are JSON, n_ are not, i_ may be either; none does harm."""
    if not PARSING.is_dir():
        pytest.skip("data not present")
    wrong = []
    raw = plain_socket(watched)
    files = sorted(PARSING.glob("*.json"))
    assert len(files) > 300
    for path in files:
        code = verdict_on(raw, path.read_bytes())
        kind = path.name[0]
        if kind == "y" and code != -32600:
            wrong.append((path.name, code))
        if kind == "n" and code not in (-32700, 1007):
            wrong.append((path.name, code))
        if kind == "i" and code not in (-32700, -32600, 1007):
            wrong.append((path.name, code))
        if code is not None and code > 0:
            raw.socket.close()
            raw = plain_socket(watched)
    raw.socket.close()
    assert not wrong, wrong


def test_nesting(watched):
    with plain_socket(watched) as raw:
        for text in (
            "[" * 100000,
            "[" * 100000 + "]" * 100000,
            '{"a":' * 100000,
            '{"a":' * 100000 + "1" + "}" * 100000,
            '{"id":1,"method":"execute","params":' + "[" * 50000 + "]" * 50000 + "}",
        ):
            assert verdict_on(raw, text) in (-32700, -32600, -32602)
        assert alive(raw)


def request_of(size):
    """A request whose text has exactly that many bytes."""
    start = '{"id":1,"method":"hook_status","params":{"x":"'
    return start + "x" * (size - len(start) - 3) + '"}}'


def test_message_of_exactly_one_mebibyte_is_taken(watched):
    with plain_socket(watched) as raw:
        text = request_of(MIB)
        assert len(text) == MIB
        raw.send_frame(TEXT, text)
        assert "result" in raw.receive_answer(1)
        assert alive(raw)


def too_big(watched, send):
    with plain_socket(watched) as raw:
        try:
            send(raw)
        except (BrokenPipeError, ConnectionResetError):
            pass
        code, _, before = raw.receive_close()
        assert code == 1009
        assert not any(opcode == TEXT and b'"result"' in payload for opcode, payload in before)


def test_frame_over_one_mebibyte_closes_1009(watched):
    too_big(watched, lambda raw: raw.send_frame(TEXT, request_of(MIB + 1)))


def test_fragments_over_one_mebibyte_close_1009(watched):
    def send(raw):
        piece = "x" * 65536
        raw.send_frame(TEXT, piece, fin=False)
        for _ in range(16):
            raw.send_frame(MORE, piece, fin=False)
        raw.send_frame(MORE, piece)

    too_big(watched, send)


def test_tiny_fragments_without_end_close_1009(watched):
    def send(raw):
        raw.send(frame(TEXT, "x", fin=False))
        many = frame(MORE, "y" * 100, fin=False) * 2000
        for _ in range(6):
            raw.send(many)

    too_big(watched, send)


def test_frame_that_claims_exabytes(watched):
    for claimed in (MIB * 2, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1):
        with plain_socket(watched) as raw:
            raw.send(frame(TEXT, b"x" * 100, length=claimed))
            code, _, _ = raw.receive_close()
            # a length with its highest bit set is no length; the connection may just end
            assert code in (1009, 1002) or claimed >= 2**63, claimed
    low = watched.memory()
    with plain_socket(watched) as raw:
        raw.send(frame(TEXT, b"x" * 100, length=MIB - 1))
        time.sleep(0.2)
        assert SANITIZED or watched.memory() - low < 3 * MIB
        raw.reset()


def test_unmasked_frame_does_no_harm(watched):
    """libwebsockets answers it, where RFC 6455 would have the connection failed."""
    with plain_socket(watched) as raw:
        raw.send(frame(TEXT, '{"id":1,"method":"hook_status"}', masked=False))
        raw.socket.settimeout(0.5)
        try:
            raw.receive_message()
        except (Gone, TimeoutError):
            pass


def test_frames_against_the_rules_close_1002(watched):
    cases = {
        "a reserved bit": frame(TEXT, "{}", reserved=4),
        "other reserved bits": frame(TEXT, "{}", reserved=3),
        "reserved opcode 3": frame(3, "x"),
        "reserved opcode 11": frame(11, "x"),
        "continuation of nothing": frame(MORE, "x"),
        "text inside of a fragmented text": frame(TEXT, "x", fin=False) + frame(TEXT, "y"),
        "ping in fragments": frame(PING, "x", fin=False),
        "ping of 126 bytes": frame(PING, "x" * 126),
        "close of one byte": frame(CLOSE, b"\x03"),
        "close 1005": frame(CLOSE, struct.pack(">H", 1005)),
        "close 1006": frame(CLOSE, struct.pack(">H", 1006)),
        "close 999": frame(CLOSE, struct.pack(">H", 999)),
    }
    wrong = []
    for what, data in cases.items():
        with plain_socket(watched) as raw:
            raw.send(data)
            code, _, _ = raw.receive_close()
            # No more may be asked than that the connection ends, and not as if all were well.
            if code not in (1002, None):
                wrong.append((what, code))
    assert not wrong, wrong


def test_invalid_utf8_closes_1007(watched):
    for text in (
        b"\xff",
        b'{"id":"\xc3\x28"}',
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xc0\xaf",
        b'"\xe2\x82',
    ):
        with plain_socket(watched) as raw:
            raw.send_frame(TEXT, text)
            code, _, _ = raw.receive_close()
            assert code == 1007, text
    # a character across two fragments is sound, a broken one is not
    with plain_socket(watched) as raw:
        text = '{"id":"\u20ac","method":"hook_status"}'.encode()
        cut = text.index(b"\xe2") + 1
        raw.send_frame(TEXT, text[:cut], fin=False)
        raw.send_frame(MORE, text[cut:])
        assert raw.receive_json()["id"] == "\u20ac"
        raw.send_frame(TEXT, text[:cut], fin=False)
        raw.send_frame(MORE, b"x" + text[cut:])
        assert raw.receive_close()[0] == 1007
    # not UTF-8 in the reason of a close
    with plain_socket(watched) as raw:
        raw.send_frame(CLOSE, struct.pack(">H", 1000) + b"\xff\xfe")
        assert raw.receive_close()[0] in (1007, 1002, 1000, None)


def test_binary_frames(watched):
    with plain_socket(watched) as raw:
        for data in (b"", b"\0" * 100, os.urandom(1000), b"{}"):
            raw.send_frame(BINARY, data)
            assert raw.receive_json()["error"]["code"] == -32600
        raw.send_frame(BINARY, b"a", fin=False)
        raw.send_frame(MORE, b"b")
        assert raw.receive_json()["error"]["code"] == -32600
        assert alive(raw)


def test_nul_bytes(watched):
    with plain_socket(watched) as raw:
        for text in (b"\0", b'{"id":1}\0', b'{"id":1,"method":"hook_status"}\0'):
            assert verdict_on(raw, text) == -32700, text
        for params in (
            {"command": "echo a\0b"},
            {"argv": ["a\0"]},
            {"command": "true", "env": {"A": "b\0"}},
        ):
            raw.send_json({"id": 5, "method": "execute", "params": params})
            assert raw.receive_answer(5)["error"]["code"] == -32602
        # jansson cannot hold such a name; the text is JSON all the same
        raw.send_json({"id": 6, "method": "execute", "params": {"env": {"A\0": "b"}}})
        assert raw.receive_json()["error"]["code"] in (-32600, -32602)
        raw.send_json({"id": "nul\0id", "method": "hook_status"})
        assert raw.receive_json()["id"] == "nul\0id"
        assert alive(raw)


def test_pings_and_pongs_without_end(watched):
    with plain_socket(watched) as raw:
        raw.send(frame(PONG, "unasked") * 1000)
        raw.send(frame(PING, "p" * 125) * 200)
        raw.send_json({"id": "end", "method": "hook_status"})
        pongs = 0
        while True:
            opcode, payload = raw.receive_message()
            if opcode == PONG:
                pongs += 1
            elif opcode == TEXT and json.loads(payload).get("id") == "end":
                break
        assert pongs >= 1


def test_half_handshakes(watched):
    whole = upgrade_request(watched)
    for cut in (0, 1, 3, 5, 14, 15, 40, len(whole) // 2, len(whole) - 2, len(whole) - 1):
        for ending in ("close", "reset"):
            raw = RawSocket(watched)
            raw.send(whole[:cut])
            raw.reset() if ending == "reset" else raw.socket.close()
    # byte by byte is slow, but right
    with RawSocket(watched) as raw:
        for byte in whole:
            raw.send(bytes([byte]))
        assert raw.read_head()[0] == 101


def test_nonsense_instead_of_http(watched):
    for data in (
        b"\0" * 1000,
        b"\xff" * 5000,
        b"\r\n\r\n",
        b"HELLO\r\n\r\n",
        os.urandom(4000),
        b"GET\r\n\r\n",
        b"GET /ws\r\n\r\n",
        b"GET /ws HTTP/9.9\r\n\r\n",
        b"POST /ws HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"GET /ws HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: " + b"h" * 60000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500),
    ):
        with RawSocket(watched) as raw:
            try:
                raw.send(data)
                raw.socket.settimeout(0.3)
                raw.socket.recv(4096)
            except (OSError, Gone):
                pass


def test_wrong_upgrades(watched):
    good = upgrade_request(watched)
    changes = [
        (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 8"),
        (b"Sec-WebSocket-Key: ", b"X-Key: "),
        (b"Upgrade: websocket", b"Upgrade: h2c"),
        (b"GET ", b"POST "),
        (b" /ws ", b" /nowhere "),
        (b" /ws ", b" /ws/mcp/more "),
        (b" /ws ", b" /WS "),
    ]
    for old, new in changes:
        with RawSocket(watched) as raw:
            raw.send(good.replace(old, new, 1))
            try:
                code, _ = raw.read_head()
                assert code != 101 and code >= 200, (new, code)
            except Gone:
                pass
    with RawSocket(watched) as raw:
        raw.send(good.replace(b" /ws ", b" /nowhere "))
        assert raw.read_head()[0] == 404


def test_requests_without_end(watched):
    """A client that asks and never reads: what waits for it has a bound."""
    low = watched.memory()
    raw = RawSocket(watched, receive_buffer=4096).upgrade()
    raw.socket.settimeout(1)
    many = frame(TEXT, '{"id":1,"method":"no_such_method"}') * 1000
    try:
        for _ in range(300):
            raw.send(many)
    except (TimeoutError, OSError):
        pass
    assert SANITIZED or watched.memory() - low < 3 * MIB
    asyncio.run(echo_works(watched))
    raw.reset()


def test_unknown_and_odd_methods(watched):
    with plain_socket(watched) as raw:
        for method in (
            "",
            "nothing",
            "execute ",
            "__proto__",
            "x" * 10000,
            "\u20ac",
            "a\0b",
            "../x",
        ):
            raw.send_json({"id": 1, "method": method})
            answer = raw.receive_answer(1)
            assert answer["error"]["code"] == -32601, method
            assert len(json.dumps(answer)) < 5000, "not an echo of everything"
        for params in ([], "x", 5, None, [[]], True):
            raw.send_json({"id": 2, "method": "control", "params": params})
            assert raw.receive_answer(2)["error"]["code"] == -32602, params
        assert alive(raw)


def test_duplicate_members(watched):
    with plain_socket(watched) as raw:
        raw.send_frame(TEXT, '{"id":1,"id":2,"method":"hook_status","method":"hook_status"}')
        assert raw.receive_json().get("id") in (1, 2, None)
        assert alive(raw)


async def test_vanish_at_each_step(server):
    """At every byte of a conversation, in order and by reset."""
    before = server.steady()
    request = upgrade_request(server)
    command = json.dumps(
        {"id": 1, "method": "execute", "params": {"command": f"echo x; sleep {server.mark}"}}
    )
    script = (
        request
        + frame(TEXT, command)
        + frame(TEXT, '{"id":2,"method":"control","params":{"type":"CANCEL"}}')
    )
    cuts = sorted(
        set(range(0, len(request), 40)) | set(range(len(request), len(script), 7)) | {len(script)}
    )

    def play(some):
        for number, cut in enumerate(some):
            raw = RawSocket(server)
            raw.send(script[:cut])
            if number % 3 == 2:
                time.sleep(0.01)
            raw.reset() if number % 2 else raw.socket.close()

    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(None, play, cuts[n::4]) for n in range(4)))
    await until(lambda: not pids_with(server.mark), 6, "the end of what they started")
    await echo_works(server)
    server.wait_back(before)


async def test_clients_that_do_harm_do_not_disturb_others(server):
    """One works, forty misbehave."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def misbehave(number):
        end = time.monotonic() + 3
        while time.monotonic() < end:
            try:
                raw = RawSocket(server)
                raw.send(
                    [
                        b"\xff" * 200,
                        upgrade_request(server)[:50],
                        upgrade_request(server) + frame(TEXT, b"\xff"),
                        upgrade_request(server) + frame(TEXT, "x" * 1000, length=MIB + 5),
                        upgrade_request(server) + frame(TEXT, "[" * 100000),
                        upgrade_request(server, token="wrong"),
                    ][number % 6]
                )
                time.sleep(0.01)
                raw.reset()
            except OSError:
                pass

    async def work():
        served = 0
        async with await Client.open(server) as client, await Client.open(
            server, dialect=Packed
        ) as other:
            while not stop.is_set():
                assert (await client.run("echo fine")).stdout == "fine\n"
                assert (await other.run("echo fine")).stdout == b"fine\n"
                served += 1
        return served

    worker = asyncio.create_task(work())
    await asyncio.gather(*(loop.run_in_executor(None, misbehave, n) for n in range(6)))
    stop.set()
    assert await worker > 5


async def test_upgrade_and_reset_then_a_command(server):
    """The rest of a full upgrade that was reset is gone before the next one is served."""
    for _ in range(30):
        raw = RawSocket(server)
        raw.send(rawsocket.upgrade_request(server))
        raw.reset()
        await echo_works(server)
