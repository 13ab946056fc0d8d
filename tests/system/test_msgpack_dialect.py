"""bulkhead.msgpack.v1: the binary dialect that our own client speaks."""

import asyncio
import json
import struct

import msgpack
import pytest

from clients import Client, Packed, Refused, echo_works
from harness import DATA, pids_with, until
from rawsocket import BINARY, RawSocket, upgrade_request

NAUGHTY = DATA / "strings" / "blns.json"


async def packed(server, **more):
    return await Client.open(server, dialect=Packed, **more)


async def test_command_end_to_end(server):
    async with await packed(server) as client:
        assert client.connected["session_id"]
        outcome = await client.run("echo out; echo err >&2; exit 3")
        assert outcome.order[:2] == ["reply", "process.started"]
        assert outcome.order[-1] == "process.completed"
        assert (outcome.stdout, outcome.stderr) == (b"out\n", b"err\n")
        assert outcome.done["exit_code"] == 3 and outcome.done["reason"] == "exited"
        for output in outcome.outputs:
            assert isinstance(output["data"], bytes)
            assert output["truncated"] is False and output["dropped"] == 0


async def test_nothing_is_cut(server):
    async with await packed(server) as client:
        outcome = await client.run("head -c 1000000 /dev/zero | tr '\\0' x; echo")
        assert outcome.stdout == b"x" * 1000000 + b"\n"
        assert outcome.done["stdout_dropped"] == 0


async def test_naughty_strings_are_byte_exact(server):
    """As arguments, environment, folder and output."""
    if not NAUGHTY.exists():
        pytest.skip("data not present")
    strings = [text for text in json.loads(NAUGHTY.read_text()) if "\0" not in text]
    assert len(strings) > 400
    raw = [text.encode() for text in strings]
    show = (
        'import os,sys; sys.stdout.buffer.write(b"\\0".join(os.fsencode(a) for a in sys.argv[1:]))'
    )
    async with await packed(server) as client:
        for given in (strings, raw):
            outcome = await client.run(argv=["/usr/bin/python3", "-c", show, *given])
            assert outcome.stdout.split(b"\0") == raw
        environment = {f"N{number}": text for number, text in enumerate(strings)}
        half = dict(list(environment.items())[: len(environment) // 2])
        rest = {name: text.encode() for name, text in environment.items() if name not in half}
        listing = (
            "import os,sys\n"
            "for k, v in sorted(os.environb.items()):\n"
            "    if k.startswith(b'N') and k[1:].isdigit():\n"
            "        sys.stdout.buffer.write(k + b'=' + v + b'\\0')"
        )
        outcome = await client.run(argv=["/usr/bin/python3", "-c", listing], env={**half, **rest})
        seen = dict(item.split(b"=", 1) for item in outcome.stdout.split(b"\0") if item)
        assert seen == {f"N{n}".encode(): text for n, text in enumerate(raw)}
        # as names of the folder a command runs in
        outcome = await client.run("mktemp -d /tmp/bulkhead-naughty-XXXXXX")
        base = outcome.stdout.strip()
        try:
            names = sorted(
                {text for text in raw if 0 < len(text) < 200 and b"/" not in text} - {b".", b".."}
            )
            for name in names[::4]:
                path = base + b"/" + name
                assert (await client.run(argv=["mkdir", "--", path])).done["exit_code"] == 0
                outcome = await client.run(
                    argv=[
                        "/usr/bin/python3",
                        "-c",
                        "import os,sys;sys.stdout.buffer.write(os.getcwdb())",
                    ],
                    cwd=path,
                )
                assert outcome.stdout == path
        finally:
            await client.run(argv=["rm", "-rf", "--", base])


async def test_stdin(server):
    async with await packed(server) as client:
        outcome = await client.start("cat; echo end; exit 6", stdin="pipe")
        exec_id = outcome.started["exec_id"]
        data = bytes(range(256)) * 2000
        credit = sent = 0
        while sent < len(data):
            while credit == 0:
                message = await client.next(
                    lambda m: m.get("method", "") in ("stdin.credit", "process.output")
                )
                if message["method"] == "process.output":
                    outcome.take(message)
                else:
                    credit += message["params"]["bytes"]
            piece = data[sent : sent + credit]
            await client.send([2, "stdin", {"exec_id": exec_id, "data": piece, "eof": False}])
            sent += len(piece)
            credit -= len(piece)
        await client.send([2, "stdin", {"exec_id": exec_id, "data": b"", "eof": True}])
        while outcome.done is None:
            message = await client.receive()
            if message["method"] != "stdin.credit":
                outcome.take(message)
        assert outcome.stdout == data + b"end\n"
        assert outcome.done["exit_code"] == 6


async def test_stdin_that_nobody_reads(server):
    """The command closes it: the client is told, nothing is stuck."""
    async with await packed(server) as client:
        outcome = await client.start("exec <&-; echo closed; sleep 1; echo went on", stdin="pipe")
        exec_id = outcome.started["exec_id"]
        params = await client.next_method("stdin.credit")
        assert params["exec_id"] == exec_id and params["bytes"] > 0
        await client.output_until(outcome, lambda o: o.stdout == b"closed\n")
        await client.send([2, "stdin", {"exec_id": exec_id, "data": b"x" * 1000, "eof": False}])
        seen = [params]  # what came so early may be told together
        while outcome.done is None:
            message = await client.next()
            if message["method"] == "stdin.credit":
                seen.append(message["params"])
            else:
                outcome.take(message)
        assert outcome.stdout == b"closed\nwent on\n"
        assert any(params["closed"] for params in seen), seen


async def test_stdin_without_a_pipe_is_dev_null(server):
    async with await packed(server) as client:
        for more in ({}, {"stdin": "null"}):
            outcome = await client.run("readlink /proc/self/fd/0; cat", **more)
            assert outcome.stdout == b"/dev/null\n"


async def test_ids_are_numbers_that_come_back(server):
    async with await packed(server) as client:
        for number in (0, 1, 127, 128, 2**32 - 1):
            await client.send([0, number, "no_such_method", {}])
            answer = await client.receive()
            assert answer["id"] == number
            assert answer["error"]["code"] == -32601
            assert answer["error"]["data"]["kind"]


async def test_text_frame_closes_1003(server):
    client = await packed(server)
    await client.socket.send('{"id":1,"method":"execute","params":{"command":"true"}}')
    code, _ = await client.wait_closed()
    assert code == 1003
    await echo_works(server, Packed)


BAD = [
    b"",
    b"\xc1",
    b"\xff",
    b"\x94\x00",
    msgpack.packb({}),
    msgpack.packb([]),
    msgpack.packb([0]),
    msgpack.packb([0, 1, "execute"]),
    msgpack.packb([0, 1, "execute", {}, 5]),
    msgpack.packb([7, 1, "execute", {}]),
    msgpack.packb([0, 1, 5, {}]),
    msgpack.packb([0, 1, "execute", {"command": "true"}]) + b"\0",
    msgpack.packb([1, 1, None, {}]),
    b"\x91" * 100000,
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff" * 10,
    b"\x94\x00\x01\xa7execute\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff" + b"x" * 100,
]


async def test_bad_frames_are_answered_or_close(server):
    """An error or a close code of the table, and never harm to another."""
    before = server.steady()
    frontend = server.frontend_pid()
    loop = asyncio.get_running_loop()

    def offer(data):
        with RawSocket(server) as raw:
            raw.send(upgrade_request(server, more=["Sec-WebSocket-Protocol: bulkhead.msgpack.v1"]))
            assert raw.read_head()[0] == 101
            raw.receive_message()
            raw.send_frame(BINARY, data)
            raw.send_frame(BINARY, msgpack.packb([0, 77, "no_such_method", {}]))
            while True:
                opcode, payload = raw.receive_message()
                if opcode == 8:
                    return struct.unpack(">H", payload[:2])[0]
                message = msgpack.unpackb(payload, raw=True, strict_map_key=False)
                assert message[0] == 1, message
                if message[1] == 77:
                    return "answered"
                assert message[2][b"code"] in (-32700, -32600, -32602), message

    for data in BAD:
        what = await loop.run_in_executor(None, offer, data)
        assert what in ("answered", 1002, 1003, 1007, 1008), (data[:20], what)
    await echo_works(server, Packed)
    assert server.frontend_pid() == frontend
    server.wait_back(before)


async def test_bad_parameters(server):
    async with await packed(server) as client:
        for params in (
            {},
            {"argv": [b"a\0b"]},
            {"argv": ["true"], "env": {"A": 5}},
            {"argv": ["true"], "env": {b"A=": b"x"}},
            {"argv": ["true"], "cwd": 5},
            {"argv": []},
            {"argv": [5]},
            {"command": 5},
            {"argv": ["true"], "timeout": "x"},
            {"argv": ["true"], "stdin": "tape"},
        ):
            answer = await client.ask("execute", **params)
            assert answer.get("error", {}).get("code") == -32602, params
        for params in (None, [], 5, "x"):
            await client.send([0, 5, "execute", params])
            assert (await client.receive())["error"]["code"] == -32602
        with pytest.raises(Refused) as refused:
            await client.run(argv=["/no/such/program"])
        data = refused.value.error["data"]
        assert refused.value.code == -32013 and data["stage"] == "exec" and data["errno"] == 2


async def test_plain_frames_do_not_pass_for_packed_ones(server):
    """A TEXT frame in the middle of a command ends the session, and the command with it."""
    client = await packed(server)
    await client.start(f"sleep {server.mark}")
    await client.socket.send("a text frame")
    code, _ = await client.wait_closed()
    assert code == 1003
    await until(lambda: not pids_with(server.mark), 6, "the end of the command")
