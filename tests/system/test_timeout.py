"""The total time of a command, and what is kept when it is over."""

import asyncio
import re
import subprocess

import pytest

from clients import Client, Packed, Refused
from harness import BULKHEADD, PATIENCE, pids_with


async def test_fix_1_9_total_timeout_stops_the_command_and_warns(make_server):
    server = make_server("--timeout", "1s", "--max-timeout", "1s")
    async with await Client.open(server) as client:
        # a command that never falls silent: the limit is for all of it
        position = server.log_position()
        outcome = await client.run(f"sleep {server.mark} & while :; do echo tick; sleep 0.1; done")
        done = outcome.done
        assert done["reason"] == "timeout"
        assert done["status"] == "failed" and done["exit_code"] != 0
        assert 900 <= done["wall_ms"] <= 1000 + 3000 * PATIENCE
        assert 0.9 <= done["execution_time"] <= 1 + 3 * PATIENCE
        assert outcome.stdout.count("tick\n") >= 5
        assert not pids_with(server.mark)
        warning = [line for line in server.log_from(position).splitlines() if "warn" in line]
        assert any(re.search("time|timeout", line) for line in warning), warning
        # the session goes on
        assert (await client.run("echo on")).done["reason"] == "exited"
        # a client may ask for less, not for more
        outcome = await client.run("sleep 600", timeout=0.2)
        assert outcome.done["reason"] == "timeout" and outcome.done["wall_ms"] < 900 * PATIENCE
        with pytest.raises(Refused) as refused:
            await client.run("sleep 600", timeout=2)
        assert refused.value.code == -32602


def test_default_timeout_is_300_seconds():
    text = subprocess.run([BULKHEADD, "--help"], capture_output=True, text=True, check=True).stdout
    lines = text.split("--timeout", 1)[1].split("\n  ", 1)[0]
    assert re.search(r"\b(300s?|5m)\b", lines), lines


async def test_fix_3_3_silent_command_times_out_and_output_is_kept(make_server):
    server = make_server("--timeout", "1s")
    commands = {
        "silent": ("sleep 3600", "", ""),
        "silent after some output": (
            "echo before; echo err >&2; printf partial; sleep 3600",
            "before\npartial",
            "err\n",
        ),
        "both streams closed": ("echo x; exec >&- 2>&-; sleep 3600", "x\n", ""),
        "stopped by itself": ("kill -STOP $$", "", ""),
        "deaf": ("trap '' TERM INT HUP; echo deaf; sleep 3600; sleep 3600", "deaf\n", ""),
        "a child holds the streams": ("setsid sleep 3600 & echo up; wait", "up\n", ""),
    }

    async def play(name, command, stdout, stderr):
        async with await Client.open(server) as client:
            outcome = await client.run(command)
            assert outcome.done["reason"] == "timeout", name
            assert outcome.stdout == stdout, name
            assert outcome.stderr == stderr, name
            assert outcome.order[-1] == "process.completed", name
            assert outcome.done["exit_code"] < 0 or outcome.done["exit_code"] > 0, name
            assert outcome.done["wall_ms"] < (1000 + 2000 + 2000) * PATIENCE, name
            return outcome

    await asyncio.gather(*(play(name, *rest) for name, rest in commands.items()))
    async with await Client.open(server) as client:
        assert (await client.run("echo on")).stdout == "on\n"


async def test_output_that_nobody_reads_does_not_hold_the_timeout_up(make_server):
    server = make_server("--timeout", "1s")
    async with await Client.open(server, max_queue=1, read_limit=1024) as client:
        outcome = await client.start(f"yes {server.mark}")
        await asyncio.sleep(1)
        for _ in range(100 * PATIENCE):
            if not pids_with(server.mark):
                break
            await asyncio.sleep(0.1)
        assert not pids_with(server.mark), "stopped although nobody read"
        await client.finish(outcome)
        assert outcome.done["reason"] == "timeout"


@pytest.mark.parametrize("dialect", ["plain", "msgpack"])
@pytest.mark.parametrize("timeout", [-1, "10", [], {}, True, float("1e300"), 0])
async def test_bad_timeouts_are_refused(server, dialect, timeout):
    kind = {"dialect": Packed} if dialect == "msgpack" else {}
    async with await Client.open(server, **kind) as client:
        answer = await client.ask("execute", command="true", timeout=timeout)
        if "error" in answer:
            assert answer["error"]["code"] == -32602
        else:
            # only a number may be read in a useful way: 0 as none of its own, more as the most
            assert not isinstance(timeout, (str, list, dict, bool)) and timeout >= 0
            await client.next_method("process.completed")
