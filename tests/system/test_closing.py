"""Connections that end, in order and not, while something is on its way."""

import asyncio
import json
import os
import pathlib
import subprocess
import threading

import pytest

import rawsocket
from clients import Client, Packed, Refused, echo_works
from harness import HERE, pids_with, proc_fds, until
from rawsocket import CLOSE, PING, TEXT, RawSocket, frame


def execute(command, number=1):
    return json.dumps(
        {"jsonrpc": "2.0", "id": number, "method": "execute", "params": {"command": command}}
    )


def control(kind, number=2):
    return json.dumps(
        {"jsonrpc": "2.0", "id": number, "method": "control", "params": {"type": kind}}
    )


def frames_of(data):
    """The opcodes of the frames in data."""
    opcodes = []
    while len(data) >= 2:
        size, head = data[1] & 0x7F, 2
        if size == 126:
            size, head = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(data[2:10], "big"), 10
        opcodes.append(data[0] & 0x0F)
        data = data[head + size :]
    return opcodes


async def test_fix_1_4_nothing_is_sent_to_a_closed_connection(server):
    before = server.steady()
    normal = frame(CLOSE, (1000).to_bytes(2, "big"))
    scripts = {
        "closed while output floods": [frame(TEXT, execute("yes")), 0.3, normal],
        "closed in the same breath as execute": [frame(TEXT, execute("yes")) + normal],
        "requests behind the close": [
            normal + frame(TEXT, execute("echo never")) + frame(TEXT, control("CANCEL"))
        ],
        "a ping behind the close": [normal + frame(PING, b"hello")],
        "closed while the answer is out": [
            frame(TEXT, execute("sleep 600")) + frame(TEXT, control("CANCEL")) + normal
        ],
        "closed before the greeting was read": [normal],
        "an error and a close at once": [frame(TEXT, b"not json") + normal],
    }

    def play(steps):
        import time

        with RawSocket(server) as raw:
            raw.upgrade()
            for step in steps:
                time.sleep(step) if isinstance(step, float) else raw.send(step)
            return frames_of(raw.at_end())

    loop = asyncio.get_running_loop()
    for name, steps in scripts.items():
        opcodes = await loop.run_in_executor(None, play, steps)
        assert CLOSE in opcodes, f"{name}: the close is answered"
        assert opcodes.index(CLOSE) == len(opcodes) - 1, f"{name}: something after the close"
    server.wait_back(before)

    # a connection shut for writing, and one that is gone while frames wait for it
    def vanish(half):
        raw = RawSocket(server, receive_buffer=4096)
        raw.upgrade()
        raw.send(frame(TEXT, execute("yes " + "x" * 100)))
        raw.receive_answer(1)
        if half:
            import socket

            raw.socket.shutdown(socket.SHUT_WR)
            raw.at_end()
            raw.socket.close()
        else:
            raw.reset()

    for half in (False, True, False):
        await loop.run_in_executor(None, vanish, half)
    server.wait_back(before)
    await echo_works(server)


@pytest.mark.bound(90)
async def test_fix_1_8_error_reply_when_its_session_ends(server):
    """
    The reply is delivered or dropped in order; no crash, no use after free
    (the sanitizers watch in `make asan`).
    """
    before = server.steady()
    pid, frontend = server.pid, server.frontend_pid()
    failing = [
        json.dumps({"id": 1, "method": "execute", "params": {"argv": ["/no/such/program"]}}),
        json.dumps({"id": 1, "method": "execute", "params": {"argv": ["true"], "cwd": "/none"}}),
        json.dumps({"id": 1, "method": "control", "params": {"type": "CANCEL"}}),
        json.dumps({"id": 1, "method": "execute", "params": {}}),
        json.dumps({"id": 1, "method": "nothing"}),
        "not json",
    ]

    def rush(worker):
        for number in range(40):
            text = failing[(number + worker) % len(failing)]
            raw = RawSocket(server)
            raw.upgrade()
            data = frame(TEXT, text)
            way = (number // len(failing)) % 4
            if way == 0:  # reset behind the request
                raw.send(data)
                raw.reset()
            elif way == 1:  # close frame behind the request, both in one segment
                raw.send(data + frame(CLOSE, (1000).to_bytes(2, "big")))
                code, _, _ = raw.receive_close()
                assert code in (1000, None)
                raw.socket.close()
            elif way == 2:  # several requests, then gone
                raw.send(data * 5)
                raw.socket.close()
            else:  # delivered where the client waits
                raw.send(data)
                while True:
                    message = raw.receive_json()
                    if "error" in message:
                        break
                raw.reset()

    workers = [threading.Thread(target=rush, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        await asyncio.get_running_loop().run_in_executor(None, worker.join)
    assert server.process.poll() is None
    assert server.frontend_pid() == frontend and server.pid == pid, "nothing was restarted"
    server.wait_back(before)
    await echo_works(server)

    # an error reply that waits behind output nobody reads, when the session is closed
    async with await Client.open(server, max_queue=1, read_limit=1024) as client:
        await client.start("yes")
        await asyncio.sleep(0.2)
        for number in range(4):
            await client.send(
                {"jsonrpc": "2.0", "id": f"e{number}", "method": "control", "params": {"type": "?"}}
            )
        await client.drop()
    server.wait_back(before)
    assert server.frontend_pid() == frontend


def build_fault(folder):
    """A library that lets read(2) fail where the data says so; see fault/fault.c."""
    path = folder / "fault.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-o", path, HERE / "fault" / "fault.c", "-ldl"],
        check=True,
    )
    return path


async def test_fix_1_10_error_in_one_stream_ends_both(make_server, folder):
    server = make_server(
        environment={
            "LD_PRELOAD": str(build_fault(folder)),
            "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0",
        }
    )
    server.expect_log("Input/output error")
    async with await Client.open(server) as client:
        assert (await client.run("echo out; echo err >&2")).stderr == "err\n"
        before = server.steady()
        for bad, good in ((1, 2), (2, 1)) * 3:
            outcome = await client.run(
                f"echo before >&{good}; sleep 0.2; echo BULKHEAD-TEST-EIO >&{bad}; "
                f"sleep {server.mark} & sleep {server.mark}"
            )
            done = outcome.done
            assert done["exit_code"] != 0 and done["status"] == "failed"
            assert done["error"], "it is said what went wrong"
            assert (outcome.stdout, outcome.stderr)[good - 1] == "before\n", "what was read is kept"
            await until(lambda: not pids_with(server.mark), 5, "the end of the command")
            server.wait_back(before)
            if proc_fds(server.pid) is not None:
                pipes = [kind for kind in proc_fds(server.pid).values() if "pipe" in kind]
                assert not pipes, "no pipe of a command is left open"
        outcome = await client.run("echo good; echo fine >&2")
        assert (outcome.stdout, outcome.stderr) == ("good\n", "fine\n")


async def test_closing_one_stream_is_no_error_for_the_other(server):
    async with await Client.open(server) as client:
        assert (await client.run("true")).done["exit_code"] == 0
        before = server.steady()
        for _ in range(10):
            outcome = await client.run("echo first; exec >&-; sleep 0.05; echo second >&2; exit 4")
            assert (outcome.stdout, outcome.stderr) == ("first\n", "second\n")
            assert outcome.done["exit_code"] == 4
            outcome = await client.run("exec 2>&-; echo only; exit 0")
            assert outcome.stdout == "only\n"
        server.wait_back(before)


async def test_descriptors_are_given_back_whatever_the_end(server):
    """Exits, signals, cancels, timeouts, refusals, vanished clients: fifty of them."""
    async with await Client.open(server) as client:
        await client.run("true")
    before = server.steady()
    for number in range(10):
        async with await Client.open(server) as client:
            await client.run("exit 1")
            await client.run("kill -9 $$")
            await client.run("sleep 600", timeout=0.05)
            with pytest.raises(Refused):
                await client.run(argv=["/no/such/program"])
            outcome = await client.start("sleep 600")
            if number % 2:
                await client.control("CANCEL")
                await client.finish(outcome)
    server.wait_back(before)


async def test_verdict_of_a_disconnected_command_is_logged(make_server):
    """Nobody is left to read it, but the host's log says how it ended."""
    server = make_server("--trace", "command")
    async with await Client.open(server) as client:
        await client.start(f"sleep {server.mark}")
    await until(lambda: "disconnected" in server.log_text(), 5, "the reason in the log")


async def test_reset_at_full_upgrade_500_times(server):
    """libwebsockets reports CLOSED for connections that never were ESTABLISHED."""
    before = server.steady()
    frontend = server.frontend_pid()
    request = rawsocket.upgrade_request(server)

    def reset_many(ways):
        for way in ways:
            raw = RawSocket(server)
            raw.send(request)
            if way % 3 == 1:
                raw.read_head()
            elif way % 3 == 2:
                raw.send(frame(TEXT, execute("sleep 600"))[: way % 40])
            raw.reset()

    loop = asyncio.get_running_loop()
    await asyncio.gather(
        *(loop.run_in_executor(None, reset_many, range(n, 500, 4)) for n in range(4))
    )
    await echo_works(server)
    assert server.frontend_pid() == frontend
    server.wait_back(before)


@pytest.mark.parametrize("dialect", [Client, Packed], ids=["plain", "msgpack"])
async def test_client_may_close_with_any_code(server, dialect):
    kind = {"dialect": Packed} if dialect is Packed else {}
    for code in (1000, 1001, 1003, 1008, 1011, 3000, 4999):
        client = await Client.open(server, **kind)
        await client.socket.close(code, "good bye")
    await echo_works(server)
    assert pathlib.Path(f"/proc/{server.pid}").exists()
