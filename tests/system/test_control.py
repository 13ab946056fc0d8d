"""Steering a running command, and steering one that is not there any more."""

import asyncio
import os
import signal
import subprocess

import pytest

from clients import Client, Packed, Refused
from harness import AM_ROOT, proc_alive, proc_stat, proc_state, until


async def refused_with(awaitable, code):
    with pytest.raises(Refused) as refused:
        await awaitable
    assert refused.value.code == code, refused.value
    assert refused.value.error["data"]["kind"]
    return refused.value.message


def start_as(pid):
    """
    Starts `sleep` with a chosen pid, leader of its own session and group, or
    gives None where the number was taken first.
    """
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(pid - 1))
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    if child.pid == pid:
        return child
    child.kill()
    child.wait()
    return None


async def test_fix_1_2_gone_process_is_not_found_and_never_signalled(server):
    async with await Client.open(server) as client, await Client.open(
        server, dialect=Packed
    ) as packed:
        # nothing ever ran
        for kind in ("PAUSE", "RESUME", "CANCEL"):
            assert await refused_with(client.control(kind), -32002) == "No process is running"
        # it ran, and is over
        over = await client.run("exit 3")
        pid = over.started["pid"]
        for kind in ("PAUSE", "RESUME", "CANCEL"):
            assert await refused_with(client.control(kind), -32002) == "No process is running"
        # another one runs: the old number is not it
        old = (await packed.run("true")).done["exec_id"]
        running = await packed.start("sleep 600")
        for number in (old, 99999):
            await refused_with(packed.control("KILL", exec_id=number), -32002)
        assert proc_alive(running.started["pid"])
        await packed.control("KILL")
        await packed.finish(running)

        # the race at the end: an answer each time, and never a wrong one
        for _ in range(40):
            outcome = await client.start("exit 7")
            try:
                assert await client.control("CANCEL") == "canceled"
            except Refused as refused:
                assert refused.code == -32002
            await client.finish(outcome)
            assert outcome.done["exit_code"] in (7, -15)

        # a stranger under the recycled number is never touched
        if AM_ROOT and os.access("/proc/sys/kernel/ns_last_pid", os.W_OK):
            await until(lambda: proc_stat(pid) is None, 5, "the end of the first command")
            stranger = None
            for _ in range(50):
                stranger = start_as(pid)
                if stranger:
                    break
            assert stranger, f"pid {pid} could not be had again"
            try:
                for kind in ("PAUSE", "CANCEL"):
                    await refused_with(client.control(kind), -32002)
                await client.close()
                await packed.close()
                await asyncio.sleep(0.3)
                assert stranger.poll() is None
                assert proc_state(pid) == "S", "the stranger was signalled"
            finally:
                stranger.kill()
                stranger.wait()


async def test_fix_3_4_unknown_control_type_is_answered(server):
    async with await Client.open(server) as client:
        outcome = await client.start("echo on; sleep 600")
        pid = outcome.started["pid"]
        for kind in ("EXPLODE", "pause", "", "STOP ME", "\u00fcber", "X" * 60):
            answer = await client.ask("control", type=kind)
            assert answer["error"]["code"] == -32602
            assert answer["error"]["message"] == f"Unknown control type: {kind}"
            assert answer["error"]["data"]["kind"]
        for params in ({}, {"type": None}, {"type": 5}, {"type": ["PAUSE"]}):
            answer = await client.ask("control", **params)
            assert answer["error"]["code"] == -32602
        # the session and its command go on
        assert proc_state(pid) not in (None, "T", "Z")
        assert await client.control("CANCEL") == "canceled"
        await client.finish(outcome)
        assert outcome.done["reason"] == "canceled"
        # also with nothing running
        answer = await client.ask("control", type="EXPLODE")
        assert answer["error"]["code"] == -32602
        assert (await client.run("echo fine")).stdout == "fine\n"


async def test_pause_stops_the_output_and_resume_brings_it_back(server):
    async with await Client.open(server) as client:
        outcome = await client.start("i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done")
        await client.output_until(outcome, lambda o: len(o.stdout) > 20)
        assert await client.control("PAUSE") == "paused"
        outcome.take(await client.next(lambda m: m.get("method") == "process.paused"))
        pid = outcome.started["pid"]
        await until(lambda: proc_state(pid) == "T", 2, "the command to stand still")
        await asyncio.sleep(0.3)  # what was on its way
        while True:
            try:
                outcome.take(await client.receive(timeout=0.25))
            except asyncio.TimeoutError:
                break
        quiet = len(outcome.stdout)
        with pytest.raises(asyncio.TimeoutError):
            await client.receive(timeout=0.5)
        # pausing what is paused is harmless
        assert await client.control("PAUSE") == "paused"
        assert await client.control("RESUME") == "resumed"
        params = await client.next_method("process.resumed")
        assert params["status"] == "resumed" and params["pid"] == pid
        await client.output_until(outcome, lambda o: len(o.stdout) > quiet + 20)
        await client.control("CANCEL")
        await client.finish(outcome)
        numbers = outcome.stdout.split()
        assert numbers == [str(n) for n in range(1, len(numbers) + 1)], "not one line was lost"


async def test_control_answers_first_and_then_notifies(server):
    async with await Client.open(server) as client:
        outcome = await client.start("sleep 600")
        for kind, word in (("PAUSE", "paused"), ("RESUME", "resumed"), ("CANCEL", "canceled")):
            await client.send(
                {"jsonrpc": "2.0", "id": kind, "method": "control", "params": {"type": kind}}
            )
            answer = await client.receive()
            assert answer["id"] == kind and answer["result"]["status"] == word
            note = await client.receive()
            assert note["method"] == f"process.{word}"
            params = note["params"]
            assert params["status"] == word
            assert params["pid"] == outcome.started["pid"]
            assert params["pgid"] == outcome.started["pgid"]
            assert params["exit_code"] is None and params["error"] is None
        await client.finish(outcome)


async def test_control_overtakes_output_that_waits(server):
    """A client that does not read can still steer; the answer is not behind 100 MB."""
    async with await Client.open(server, max_queue=1, read_limit=4096) as client:
        outcome = await client.start("yes overtaken")
        await asyncio.sleep(1)
        await client.send(
            {"jsonrpc": "2.0", "id": "stop", "method": "control", "params": {"type": "CANCEL"}}
        )
        seen = 0
        while True:
            message = await client.receive()
            if message.get("id") == "stop":
                break
            seen += len(message["params"]["data"])
        # what the sockets and the one buffer held, and no more
        assert seen < 16 << 20, f"{seen} bytes came before the answer"
        client.pending = []
        await client.finish(outcome)
        assert outcome.done["reason"] == "canceled"


async def test_msgpack_control_signals_by_name_and_number(server):
    async with await Client.open(server, dialect=Packed) as client:
        outcome = await client.start(
            "trap 'echo usr1' USR1; trap 'echo usr2' USR2; echo up; while :; do sleep 0.02; done"
        )
        await client.output_until(outcome, lambda o: b"up" in o.stdout)
        await client.control("SIGNAL", signal="SIGUSR1")
        await client.output_until(outcome, lambda o: b"usr1" in o.stdout)
        await client.control("SIGNAL", signal=int(signal.SIGUSR2))
        await client.output_until(outcome, lambda o: b"usr2" in o.stdout)
        for bad in (0, -1, 65, 1000, "SIGNOPE", "", None, 1.5):
            answer = await client.ask("control", type="SIGNAL", signal=bad)
            assert answer["error"]["code"] == -32602, bad
        await client.control("KILL")
        await client.finish(outcome)
        assert outcome.done["signal"] == "SIGKILL"
        assert outcome.done["exit_code"] == -9
