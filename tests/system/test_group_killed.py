"""A command ends whole: group, sessions of its own, double forks; on every path."""

import asyncio
import os
import re
import signal
import subprocess

import pytest

from clients import Client, Refused, echo_works
from harness import AM_ROOT, pids_with, proc_alive, proc_status, read_file, until, wait_until
from rawsocket import RawSocket


# With namespaces the kernel ends what is in them; without, a sweep by uid or down the tree does.
both_levels = pytest.mark.parametrize("level", ["full", "basic"])
level_basic = pytest.mark.parametrize("level", ["basic"])


def family(mark):
    """
    A command with a child in its group, one in a session of its own, one whose
    parents are gone, and one that does not listen to SIGTERM.
    """
    return (
        f"sleep {mark}1 & "
        f"setsid sleep {mark}2 & "
        f"setsid sh -c 'sleep {mark}3 & exit' & "
        f"(setsid sh -c '(setsid sleep {mark}4 &) & exit' &) ; "
        f"sh -c 'trap \"\" TERM HUP INT; sleep {mark}5; sleep {mark}5' & "
        f"echo ready; sleep {mark}6"
    )


FAMILY = range(1, 7)


async def start_family(client, mark):
    outcome = await client.start(family(mark))
    await client.output_until(outcome, lambda o: "ready" in o.stdout)
    await until(
        lambda: all(pids_with(f"{mark}{n}") for n in FAMILY), 5, "every process of the command"
    )
    return outcome


async def test_fix_1_1_group_ends_on_disconnect_and_cancel(server):
    before = server.steady()
    async with await Client.open(server) as client:
        outcome = await start_family(client, server.mark)
        pid, pgid = outcome.started["pid"], outcome.started["pgid"]
        assert pid == pgid > 0
        assert os.getpgid(pid) == pgid
        # cancel: everything is gone when the verdict is there
        assert await client.control("CANCEL") == "canceled"
        await client.finish(outcome)
        assert outcome.done["reason"] == "canceled"
        assert not pids_with(server.mark), "gone before the verdict, not after it"
        # disconnect in order
        await start_family(client, server.mark)
    await until(lambda: not pids_with(server.mark), 6, "the end of all after a close")
    # disconnect by a reset
    client = await Client.open(server)
    await start_family(client, server.mark)
    await client.drop()
    await until(lambda: not pids_with(server.mark), 6, "the end of all after a reset")
    server.wait_back(before)


@both_levels
async def test_group_is_stopped_while_paused(server):
    """SIGCONT goes along with SIGTERM: a paused command can say good-bye."""
    async with await Client.open(server) as client:
        outcome = await client.start(
            "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"
        )
        await client.output_until(outcome, lambda o: "up" in o.stdout)
        assert await client.control("PAUSE") == "paused"
        assert await client.control("CANCEL") == "canceled"
        await client.finish(outcome)
    assert outcome.done["reason"] == "canceled"
    assert outcome.stdout.endswith("bye\n")
    assert outcome.done["exit_code"] == 3


@both_levels
async def test_group_that_ignores_sigterm_gets_sigkill_after_the_grace(make_server):
    server = make_server("--grace", "500ms")
    async with await Client.open(server) as client:
        outcome = await client.start(f"trap '' TERM; echo up; sleep {server.mark}; sleep 600")
        await client.output_until(outcome, lambda o: "up" in o.stdout)
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await client.control("CANCEL")
        await client.finish(outcome)
        took = loop.time() - begin
    assert 0.4 <= took, "SIGKILL before the grace was over"
    assert outcome.done["reason"] == "canceled"
    assert outcome.done["signal"] == "SIGKILL" and outcome.done["exit_code"] == -9


@both_levels
async def test_grandchild_that_holds_the_pipe_is_ended(server):
    """The end is bounded: 2 s after the exit a holder of the pipe is killed."""
    async with await Client.open(server) as client:
        outcome = await client.run(f"setsid sleep {server.mark} & echo done; exit 5")
        assert outcome.stdout == "done\n"
        assert outcome.done["exit_code"] == 5 and outcome.done["reason"] == "exited"
        assert outcome.done["wall_ms"] < 10000
        assert not pids_with(server.mark)


@both_levels
async def test_background_child_does_not_outlast_its_command(server):
    """Not even one that closed everything we could wait for."""
    async with await Client.open(server) as client:
        outcome = await client.run(
            f"setsid sleep {server.mark} </dev/null >/dev/null 2>&1 & exit 0"
        )
        assert outcome.done["exit_code"] == 0
        assert not pids_with(server.mark)


RUNAWAY = """
import os, sys
os.setsid()
for _ in range(int(sys.argv[1])):
    os.fork()
while True:
    if os.fork():
        os._exit(0)
"""


@both_levels
async def test_processes_that_run_away_by_forking_are_ended(server):
    """Each lives for a moment only: no list of them is ever up to date."""
    async with await Client.open(server) as client:
        for ending in ("CANCEL", "timeout", "exit"):
            command = f"/usr/bin/python3 -c '{RUNAWAY}' 2 {server.mark} & echo up; "
            command += "exit 3" if ending == "exit" else "wait; sleep 600"
            more = {"timeout": 1} if ending == "timeout" else {}
            outcome = await client.start(command, **more)
            if ending == "CANCEL":
                await client.output_until(outcome, lambda o: o.stdout)
                await asyncio.sleep(0.3)
                await client.control("CANCEL")
            await client.finish(outcome)
            assert not pids_with(server.mark), ending


@pytest.mark.bound(120)
async def test_fix_1_6_started_process_is_always_cleaned_up(make_server):
    server = make_server()
    before = server.steady()

    # the program is missing, is no program, the folder is missing, the env is wrong
    async with await Client.open(server) as client:
        for params in (
            {"argv": ["/no/such/program"]},
            {"argv": ["/etc/passwd"]},
            {"argv": ["/"]},
            {"argv": ["true"], "cwd": "/no/such/folder"},
        ):
            with pytest.raises(Refused) as refused:
                await client.run(**params)
            assert refused.value.code == -32013, refused.value
            assert refused.value.error["data"]["kind"]
            assert refused.value.error["data"]["stage"]
            assert refused.value.error["data"]["errno"] > 0
        assert (await client.run("echo on")).stdout == "on\n"
    server.wait_back(before)

    # the client vanishes at every step
    for step in range(8):
        await vanish_at(server, step)
    await until(lambda: not pids_with(server.mark), 6, "the commands of vanished clients")
    server.wait_back(before)

    # the frontend dies while a command runs
    client = await Client.open(server)
    await start_family(client, server.mark)
    frontend = server.frontend_pid()
    server.expect_log("frontend")
    os.kill(frontend, signal.SIGKILL)
    await until(lambda: not pids_with(server.mark), 6, "commands of a lost frontend")
    await client.drop()
    await until(lambda: frontend_is_back(server, frontend), 10, "a new frontend")
    await echo_works(server)
    server.wait_back(before)

    # no descriptors left at any point of a start
    await starve(server)
    server.wait_back(before)
    await echo_works(server)


def frontend_is_back(server, old):
    try:
        return server.frontend_pid() != old
    except (OSError, AssertionError, ValueError):
        return False


async def vanish_at(server, step):
    """Resets a connection at one of eight points of a command's life."""
    loop = asyncio.get_running_loop()

    def play():
        raw = RawSocket(server)
        if step >= 1:
            raw.upgrade()
        if step >= 2:
            raw.receive_json()
        if step >= 3:
            command = f"echo ready; sleep {server.mark}; echo never"
            raw.send_json({"id": 1, "method": "execute", "params": {"command": command}})
        if step >= 4:
            raw.receive_answer(1)
        if step >= 5:
            assert raw.receive_json()["method"] == "process.started"
        if step >= 6:
            assert raw.receive_json()["method"] == "process.output"
        if step >= 7:
            raw.send_json({"id": 2, "method": "control", "params": {"type": "CANCEL"}})
        raw.reset()

    await loop.run_in_executor(None, play)


def limit_descriptors(pid, soft):
    """Sets a live process's soft limit, as its own user: root may lack the capability."""
    user = {}
    if AM_ROOT:
        status = proc_status(pid)
        user["user"], user["group"] = (int(status[name].split()[0]) for name in ("Uid", "Gid"))
        user["extra_groups"] = []
    subprocess.run(["prlimit", f"--pid={pid}", f"--nofile={soft}:"], check=True, cwd="/", **user)


async def starve(server):
    """
    Takes descriptors away from the live bulkheadd, one limit after the other,
    and starts commands: each fails with a clear error or runs whole.
    """
    limits = read_file(f"/proc/{server.pid}/limits")
    soft = int(re.search(r"Max open files\s+(\d+)", limits).group(1))
    used = server.status()["descriptors"]
    failed = ran = 0
    try:
        async with await Client.open(server) as client:
            for room in range(0, 16):
                limit_descriptors(server.pid, used + room)
                try:
                    outcome = await client.run("echo out; echo err >&2")
                    assert (outcome.stdout, outcome.stderr) == ("out\n", "err\n")
                    assert outcome.done["exit_code"] == 0
                    ran += 1
                except Refused as refused:
                    assert refused.code in (-32013, -32603), refused
                    failed += 1
    finally:
        limit_descriptors(server.pid, soft)
    assert failed, "the limit was never reached: the test shows nothing"
    assert ran, "even with room nothing ran"


async def test_fix_3_6_cancelled_command_is_cleaned_up_and_judged(server):
    async with await Client.open(server) as client:
        assert (await client.run("true")).done["exit_code"] == 0
        before = server.steady()
        for round_number in range(3):
            outcome = await client.start(
                f"echo out; echo err >&2; sleep {server.mark} & sleep {server.mark}"
            )
            await client.output_until(outcome, lambda o: o.stdout and o.stderr)
            assert await client.control("CANCEL") == "canceled"
            await client.finish(outcome)
            assert outcome.order.index("process.canceled") < outcome.order.index(
                "process.completed"
            )
            assert outcome.order.count("process.completed") == 1
            done = outcome.done
            assert done["status"] == "failed" and done["reason"] == "canceled"
            assert done["exit_code"] == -15 and done["signal"] == "SIGTERM"
            assert (outcome.stdout, outcome.stderr) == ("out\n", "err\n")
            assert done["stdout_bytes"] == 4 and done["stderr_bytes"] == 4
            assert not proc_alive(outcome.started["pid"])
            assert not pids_with(server.mark)
            server.wait_back(before)
            # the session goes on
            assert (await client.run(f"echo {round_number}")).stdout == f"{round_number}\n"
        with pytest.raises(Refused) as refused:
            await client.control("CANCEL")
        assert refused.value.code == -32002


@both_levels
def test_nothing_is_left_when_bulkheadd_is_killed(make_server):
    """SIGKILL for the supervisor is the end of the frontend and of every command."""
    server = make_server()
    marks = server.mark

    async def play():
        client = await Client.open(server)
        await start_family(client, marks)
        other = await Client.open(server)
        await start_family(other, marks)
        server.remember()
        server.crash()
        await client.drop()
        await other.drop()

    asyncio.run(play())
    wait_until(lambda: not server.left(), 5, "the end of everything below a killed bulkheadd")
    server.check_log()
    server.process = None


# The fixes of this file once more, without namespaces.


@level_basic
async def test_basic_group_ends_on_disconnect_and_cancel(server):
    await test_fix_1_1_group_ends_on_disconnect_and_cancel(server)


@level_basic
@pytest.mark.bound(120)
async def test_basic_started_process_is_always_cleaned_up(make_server):
    await test_fix_1_6_started_process_is_always_cleaned_up(make_server)


@level_basic
async def test_basic_cancelled_command_is_cleaned_up_and_judged(server):
    await test_fix_3_6_cancelled_command_is_cleaned_up_and_judged(server)
