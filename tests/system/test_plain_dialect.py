"""The predecessor's protocol: its clients must work against this server unchanged."""

import asyncio
import json
import math
import uuid

import pytest
import websockets

from clients import Client, Refused
from harness import PATIENCE
from rawsocket import RawSocket

COMPLETED = {
    "status",
    "pid",
    "pgid",
    "exit_code",
    "error",
    "execution_time",
    "early_completion_detected",
    "early_completion_time",
    "time_saved",
    "completion_marker",
    "exec_id",
    "reason",
    "signal",
    "wall_ms",
    "user_ms",
    "system_ms",
    "peak_bytes",
    "stdout_bytes",
    "stdout_dropped",
    "stderr_bytes",
    "stderr_dropped",
    "protections",
}
OUTPUT = [
    "type",
    "truncated",
    "chunk_index",
    "total_chunks",
    "exec_id",
    "offset",
    "bytes",
    "dropped",
    "data",
]


async def test_connected_is_first_and_complete(server):
    for path in ("/ws", "/ws/mcp"):
        async with await Client.open(server, path=path) as client:
            params = client.connected
            assert uuid.UUID(params["session_id"])
            assert isinstance(params["version"], str) and params["version"]
            assert params["capabilities"] == ["execute", "control", "stream"]


async def test_order_of_messages(server):
    """connected, response, process.started, process.output, process.completed."""
    async with await Client.open(server) as client:
        for _ in range(2):  # the same connection may execute again
            await client.send(
                {
                    "jsonrpc": "2.0",
                    "id": 5,
                    "method": "execute",
                    "params": {"command": "echo a; sleep 0.1; echo b; exit 2"},
                }
            )
            kinds = []
            while "process.completed" not in kinds:
                message = await client.receive()
                kinds.append(message.get("method", "response"))
            assert kinds[:2] == ["response", "process.started"]
            assert set(kinds[2:-1]) == {"process.output"}
            assert kinds.count("process.completed") == 1
        with pytest.raises(asyncio.TimeoutError):
            await client.receive(timeout=0.1)


async def test_every_field_of_every_message(server):
    async with await Client.open(server) as client:
        outcome = await client.run("echo out; echo err >&2; exit 4", unknown_parameter=[1, {}])
        started = outcome.started
        pid = started["pid"]
        assert outcome.reply["status"] == "started"
        assert outcome.reply["pid"] == pid and outcome.reply["pgid"] == pid
        expected = {
            "status": "started",
            "pid": pid,
            "pgid": pid,
            "exit_code": None,
            "error": None,
            "exec_id": started["exec_id"],
        }
        assert started == expected
        for output in outcome.outputs:
            assert list(output) == OUTPUT
            assert output["type"] in ("stdout", "stderr")
            assert output["chunk_index"] is None and output["total_chunks"] is None
            assert output["truncated"] is False and output["dropped"] == 0
            assert output["exec_id"] == started["exec_id"]
        done = outcome.done
        assert COMPLETED <= set(done), COMPLETED - set(done)
        assert done["status"] == "failed" and done["exit_code"] == 4
        assert done["pid"] == pid and done["pgid"] == pid
        assert done["reason"] == "exited" and done["signal"] is None
        assert done["early_completion_detected"] is False
        assert done["early_completion_time"] is None
        assert done["time_saved"] == 0 and done["completion_marker"] is None
        assert done["exec_id"] == started["exec_id"]
        for name in ("wall_ms", "user_ms", "system_ms", "execution_time"):
            assert isinstance(done[name], (int, float)) and done[name] >= 0
        assert math.isclose(done["wall_ms"] / 1000, done["execution_time"], abs_tol=0.005)
        assert done["stdout_bytes"] == 4 and done["stderr_bytes"] == 4
        assert done["stdout_dropped"] == 0 and done["stderr_dropped"] == 0
        assert done["peak_bytes"] > 0
        assert isinstance(done["protections"], list) and "seccomp" in done["protections"]
        done = (await client.run("true")).done
        assert done["status"] == "completed" and done["exit_code"] == 0
        assert done["error"] is None and done["reason"] == "exited"
        assert done["exec_id"] != started["exec_id"]


async def test_exit_codes_and_signals(server):
    async with await Client.open(server) as client:
        for code in (0, 1, 2, 77, 126, 127, 128, 137, 255):
            done = (await client.run(f"exit {code}")).done
            assert done["exit_code"] == code and done["reason"] == "exited"
            assert done["status"] == ("failed" if code else "completed")
        for number, name in ((9, "SIGKILL"), (15, "SIGTERM"), (6, "SIGABRT"), (1, "SIGHUP")):
            done = (await client.run(f"kill -{number} $$")).done
            assert done["exit_code"] == -number and done["signal"] == name
            assert done["status"] == "failed" and done["reason"] == "signaled"
        # as a shell would say it
        assert (await client.run("no-such-program-here")).done["exit_code"] == 127


async def test_ids_come_back_as_they_came(server):
    async with await Client.open(server) as client:
        for number in (
            0,
            1,
            -7,
            2**31,
            2**53,
            -(2**53),
            "",
            "text",
            "7",
            "\u00e4\n\u20ac\0",
            None,
        ):
            await client.send({"jsonrpc": "2.0", "id": number, "method": "hook_status"})
            answer = await client.receive()
            assert answer["id"] == number and type(answer["id"]) is type(number)
        # the largest that JSON readers agree on, and how it was written
        await client.socket.send('{"id":9007199254740993,"method":"hook_status"}')
        assert '"id":9007199254740993' in (await client.receive_frame()).replace(" ", "")
        await client.socket.send('{"id":1.5,"method":"hook_status"}')
        assert (await client.receive())["id"] == 1.5
        # no id: answered without one
        await client.send({"jsonrpc": "2.0", "method": "hook_status"})
        assert "id" not in await client.receive()
        await client.send({"jsonrpc": "2.0", "method": "no_such_method"})
        answer = await client.receive()
        assert answer["error"]["code"] == -32601 and "id" not in answer
        # anything else is no id
        for bad in ([], {}, True, False, [1], {"a": 1}):
            await client.send({"jsonrpc": "2.0", "id": bad, "method": "hook_status"})
            answer = await client.receive()
            assert answer["error"]["code"] == -32600, bad
        # an id of an execute comes back, too, and the command runs without one as well
        await client.send({"jsonrpc": "2.0", "method": "execute", "params": {"command": "exit 0"}})
        answer = await client.receive()
        assert answer["result"]["status"] == "started" and "id" not in answer
        await client.next_method("process.completed")


async def test_hook_status_and_pong(server):
    async with await Client.open(server) as client:
        assert await client.call("hook_status") == {
            "enabled": False,
            "message": "hooks are not supported",
        }
        for params in ({}, {"timestamp": 1}, [1, 2], "x", None, 7):
            await client.send({"jsonrpc": "2.0", "id": 3, "method": "pong", "params": params})
        await client.send({"jsonrpc": "2.0", "method": "pong"})
        with pytest.raises(asyncio.TimeoutError):
            await client.receive(timeout=0.15)
        await client.call("hook_status")


async def test_jsonrpc_member_may_be_missing_but_not_wrong(server):
    async with await Client.open(server) as client:
        await client.send({"id": 1, "method": "hook_status"})
        assert "result" in await client.receive()
        for wrong in ("1.0", "2", 2, 2.0, None, ["2.0"]):
            await client.send({"jsonrpc": wrong, "id": 1, "method": "hook_status"})
            assert (await client.receive())["error"]["code"] == -32600, wrong


async def test_execute_parameters(server):
    async with await Client.open(server) as client:
        outcome = await client.run(argv=["printf", "%s|", "a b", "", "c'd", "\u20ac"])
        assert outcome.stdout == "a b||c'd|\u20ac|"
        outcome = await client.run("pwd", cwd="/usr")
        assert outcome.stdout == "/usr\n"
        outcome = await client.run('echo "$A-$B"', env={"A": "one two", "B": "\u00fc"})
        assert outcome.stdout == "one two-\u00fc\n"
        outcome = await client.run("cat; echo end")
        assert outcome.stdout == "end\n", "stdin is /dev/null"
        # sh -c, whatever the first word is
        outcome = await client.run("x=5; echo $((x+1)) | cat && exit 3")
        assert outcome.stdout == "6\n" and outcome.done["exit_code"] == 3


BAD_EXECUTES = [
    {},
    {"command": None},
    {"command": 5},
    {"command": ["echo"]},
    {"command": ""},
    {"command": "echo \0 hidden"},
    {"argv": []},
    {"argv": "echo"},
    {"argv": ["echo", 5]},
    {"argv": [None]},
    {"argv": [""]},
    {"argv": ["a\0b"]},
    {"command": "true", "argv": ["true"]},
    {"command": "true", "cwd": 5},
    {"command": "true", "cwd": "a\0b"},
    {"command": "true", "env": ["A=1"]},
    {"command": "true", "env": {"A": 1}},
    {"command": "true", "env": {"": "x"}},
    {"command": "true", "env": {"A=B": "x"}},
    {"command": "true", "env": {"A": "x\0y"}},
    {"command": "true", "env": "A=1"},
    {"command": "true", "timeout": "soon"},
    {"command": "true", "timeout": -5},
    {"command": "true", "stdin": "file"},
    {"command": "true", "stdin": 7},
]


async def test_bad_execute_parameters_are_refused(server):
    async with await Client.open(server) as client:
        for params in BAD_EXECUTES:
            answer = await client.ask("execute", **params)
            assert answer.get("error", {}).get("code") == -32602, (params, answer)
            assert answer["error"]["message"] and answer["error"]["data"]["kind"]
        for params in (None, [], [1], "command", 5, True):
            await client.send({"jsonrpc": "2.0", "id": 9, "method": "execute", "params": params})
            assert (await client.receive())["error"]["code"] == -32602, params
        assert (await client.run("echo fine")).stdout == "fine\n"


async def test_large_commands_are_run_or_refused_but_never_cut(server):
    async with await Client.open(server) as client:
        text = "x" * 100000
        outcome = await client.run(f"printf %s {text} | wc -c")
        assert outcome.stdout.strip() == "100000"
        outcome = await client.run(argv=["sh", "-c", 'echo "$#"', "sh"] + ["y" * 100] * 1000)
        assert outcome.stdout == "1000\n"
        for params in (
            {"command": "true " + "z" * 300000},
            {"argv": ["true"] + ["z" * 1000] * 300},
            {"command": "true", "env": {f"V{n}": "z" * 1000 for n in range(100)}},
            {"command": "true", "cwd": "/" + "z" * 5000},
        ):
            with pytest.raises(Refused) as refused:
                await client.run(**params)
            assert refused.value.code in (-32602, -32017, -32013), refused.value
        assert (await client.run("echo fine")).stdout == "fine\n"


async def test_errors_say_what_is_wrong(server):
    async with await Client.open(server) as client:
        cases = [
            ("not json", -32700),
            ("", -32700),
            ("{", -32700),
            ("[]", -32600),
            ('[{"id":1,"method":"hook_status"}]', -32600),
            ("7", -32600),
            ('"text"', -32600),
            ("null", -32600),
            ("true", -32600),
            ("{}", -32600),
            ('{"id":1}', -32600),
            ('{"id":1,"method":5}', -32600),
            ('{"id":1,"method":null}', -32600),
            ('{"id":1,"method":""}', -32601),
            ('{"id":1,"method":"Execute"}', -32601),
            ('{"id":1,"method":"execute\\u0000"}', -32601),
        ]
        for text, code in cases:
            await client.socket.send(text)
            answer = await client.receive()
            assert answer["error"]["code"] == code, (text, answer)
            assert answer["error"]["message"]
            assert answer["error"]["data"]["kind"]
            if code in (-32700,):
                assert answer["id"] is None
        assert (await client.run("echo on")).stdout == "on\n"


async def test_binary_frame_is_answered_and_the_connection_goes_on(server):
    async with await Client.open(server) as client:
        for data in (b"", b"\0", b'{"id":1,"method":"hook_status"}', bytes(70000)):
            await client.socket.send(data)
            answer = await client.receive()
            assert answer["error"]["code"] == -32600, answer
        assert (await client.run("echo on")).stdout == "on\n"


async def test_requests_are_answered_while_a_command_runs(server):
    async with await Client.open(server) as client:
        outcome = await client.start("sleep 600")
        for number in range(30):
            await client.send({"jsonrpc": "2.0", "id": number, "method": "hook_status"})
        for number in range(30):
            assert (await client.receive())["id"] == number, "in order, and none is lost"
        await client.control("CANCEL")
        await client.finish(outcome)


async def test_fragmented_and_compressed_clients(server):
    """Frames in pieces are put together; an offer to compress does no harm."""
    async with await Client.open(server, compression="deflate") as client:
        text = json.dumps({"id": 1, "method": "execute", "params": {"command": "echo pieces"}})
        await client.socket.send([text[:10], text[10:30], "", text[30:]])
        assert (await client.receive())["result"]["status"] == "started"
        outcome = await client.next_method("process.output")
        assert outcome["data"] == "pieces\n"


async def test_ping_frame_gets_a_pong(server):
    async with await Client.open(server) as client:
        for payload in (b"", b"hello", b"x" * 125):
            await asyncio.wait_for(await client.socket.ping(payload), 5 * PATIENCE)


async def test_unknown_subprotocol_is_refused_in_the_handshake(server):
    for offered in (["nonsense"], ["bulkhead"], ["mcp", "graphql-ws"], ["bulkhead.msgpack.v2"]):
        with pytest.raises(websockets.exceptions.InvalidStatusCode) as refused:
            await Client.open(server, subprotocols=offered)
        assert refused.value.status_code == 400, offered
    with pytest.raises(websockets.exceptions.InvalidStatusCode) as refused:
        await Client.open(server, path="/ws/mcp", subprotocols=["bulkhead.msgpack.v1"])
    assert refused.value.status_code == 400
    # by hand: an empty list, and one with the known name inside
    raw = RawSocket(server)
    from rawsocket import upgrade_request

    raw.send(upgrade_request(server, more=["Sec-WebSocket-Protocol: foo, bar"]))
    assert raw.read_head()[0] == 400
    raw.socket.close()


async def test_known_subprotocol_is_chosen_among_others(server):
    socket = await websockets.client.connect(
        f"ws://{server.origin}/ws",
        subprotocols=["nonsense", "bulkhead.msgpack.v1"],
        extra_headers=server.bearer(),
        compression=None,
    )
    assert socket.subprotocol == "bulkhead.msgpack.v1"
    await socket.close()


async def test_two_sessions_do_not_see_each_other(server):
    async with await Client.open(server) as one, await Client.open(server) as other:
        mine = await one.start("echo mine; sleep 600")
        with pytest.raises(Refused) as refused:
            await other.control("CANCEL")
        assert refused.value.code == -32002
        assert (await other.run("echo yours")).stdout == "yours\n"
        await one.control("CANCEL")
        await one.finish(mine)
        assert mine.stdout == "mine\n"
