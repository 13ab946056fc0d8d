"""
Commands that make processes, end them or stop them, for as many as they can
reach. Each is stopped whole, and the session beside it is served meanwhile.
"""

import asyncio
import os
import re

import pytest

from clients import Client, echo_works
from harness import (
    AM_ROOT,
    pids_of,
    pids_with,
    proc_alive,
    proc_start,
    proc_state,
    until,
)
from hostile import attack, beside, cell_pids, entry_of, hold, probe, program

BOTH = pytest.mark.parametrize("level", ["full", "basic"])

# What a cell may hold: RLIMIT_NPROC of a command, and its init.
PROCESSES = 256

FORK_BOMB = """
tell("up")
while True:
    try:
        os.fork()
    except OSError:
        pass
"""

# Sixteen chains: each process forks, leaves its group and session, and ends; deaf to SIGTERM.
HARES = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(16):
    if os.fork() == 0:
        for fd in range(3):
            os.close(fd)
        while True:
            try:
                if os.fork():
                    os._exit(0)
                os.setsid()
            except OSError:
                pass
tell("up")
if given["stay"]:
    while True:
        signal.pause()
time.sleep(0.5)
os._exit(3)
"""


@pytest.mark.parametrize("ending", ["cancel", "timeout", "disconnect"])
async def test_hostile_fork_bomb(guarded, ending):
    async with attack(guarded) as client:
        more = {"timeout": 2} if ending == "timeout" else {}
        outcome = await client.start(argv=program(FORK_BOMB, mark=guarded.mark), **more)
        await client.output_until(outcome, lambda o: "up" in o.stdout)
        await until(lambda: len(cell_pids(guarded, client)) > 200, 5, "a cell full of processes")
        assert len(cell_pids(guarded, client)) <= PROCESSES + 1
        await asyncio.sleep(0.5)
        if ending == "disconnect":
            await client.drop()
            await until(lambda: not pids_with(guarded.mark), 6, "the end of the bomb")
            return
        if ending == "cancel":
            assert await client.control("CANCEL") == "canceled"
        await client.finish(outcome)
        assert outcome.done["reason"] == ending.replace("cancel", "canceled")
        assert outcome.done["signal"] == "SIGTERM" and outcome.done["exit_code"] == -15
        assert not pids_with(guarded.mark), "gone before the verdict, not after it"
        assert len(cell_pids(guarded, client)) == 1, "only the init is left"
        # the session is of use as before
        assert (await client.run("echo on")).stdout == "on\n"


@pytest.mark.parametrize("ending", ["exit", "cancel", "disconnect"])
async def test_hostile_fork_and_setsid_in_a_loop(guarded, ending):
    """No number and no group to send a signal to stays the same for long."""
    async with attack(guarded) as client:
        script = program(HARES, mark=guarded.mark, stay=ending != "exit")
        outcome = await client.start(argv=script)
        await client.output_until(outcome, lambda o: "up" in o.stdout)
        await until(lambda: len(cell_pids(guarded, client)) > 5, 5, "the chains")
        if ending == "disconnect":
            await client.drop()
            await until(lambda: not pids_with(guarded.mark), 6, "the end of the chains")
            return
        if ending == "cancel":
            await asyncio.sleep(0.3)
            assert await client.control("CANCEL") == "canceled"
        await client.finish(outcome)
        if ending == "exit":
            assert outcome.done["reason"] == "exited" and outcome.done["exit_code"] == 3
        else:
            assert outcome.done["reason"] == "canceled" and outcome.done["signal"] == "SIGKILL"
        assert not pids_with(guarded.mark), "gone before the verdict, not after it"
        assert len(cell_pids(guarded, client)) == 1, "only the init is left"
        assert (await client.run("echo on")).stdout == "on\n"


KILL_ALL = """
if given["own"] and os.readlink("/proc/self/ns/pid") == given["host"]:
    sys.exit("this is the host: nothing is killed")
children = []
for _ in range(3):
    children.append(os.fork())
    if not children[-1]:
        os.setsid()
        while True:
            signal.pause()
result = attempt(os.kill, -1, signal.SIGKILL)
ends = [os.WTERMSIG(os.waitpid(child, 0)[1]) for child in children]
tell([result, ends])
"""


@BOTH
async def test_hostile_kill_of_everybody(guarded, level):
    """kill -9 -1 ends what is the command's own, and nobody else."""
    if level == "basic" and not AM_ROOT:
        pytest.skip("with neither namespaces nor uids it would end the tests themselves")
    async with beside(guarded) as other, await Client.open(guarded) as third:
        # a command of another session that is there all the time
        bystander, _ = await hold(third, "tell(0)\nsignal.pause()")
        async with await Client.open(guarded) as client:
            await client.run("true")
            init = entry_of(guarded, client)["init_pid"]
            start = proc_start(init)
            own = level == "full"
            told = await probe(client, KILL_ALL, own=own, host=os.readlink("/proc/self/ns/pid"))
            assert told == ["ok", [9, 9, 9]]
            outcome = await client.run("kill -9 -1; kill -TERM -1; kill -9 0")
            assert outcome.done["reason"] == "signaled" and outcome.done["signal"] == "SIGKILL"
            assert proc_alive(init) and proc_start(init) == start
            assert (await client.run("echo on")).stdout == "on\n"
        assert proc_alive(bystander.started["pid"])
        assert other.connected and guarded.process.poll() is None
        await third.control("CANCEL")
        assert (await third.finish(bystander)).done["reason"] == "canceled"


ALL_SIGNALS = """
results = {}
for number in range(1, signal.NSIG):
    for target in {1, os.getppid()}:
        results[number] = attempt(os.kill, target, number)
time.sleep(0.1)
tell(results)
"""


@BOTH
async def test_hostile_signals_to_its_init(guarded, level):
    if level == "basic" and not AM_ROOT:
        pytest.skip("with neither namespaces nor uids the init is the command's to signal")
    async with attack(guarded) as client:
        await client.run("true")
        init = entry_of(guarded, client)["init_pid"]
        start = proc_start(init)
        results = await probe(client, ALL_SIGNALS)
        if AM_ROOT:
            # SIGCONT is allowed within a session: the init has none in common with a command
            assert set(results.values()) == {"EPERM"}, results
        await until(lambda: proc_state(init) == "S", 5, "an init that waits as before")
        assert proc_start(init) == start
        assert (await client.run("echo on")).stdout == "on\n"


@BOTH
async def test_hostile_stop_of_its_parent_and_of_itself(guarded, level):
    if level == "basic" and not AM_ROOT:
        pytest.skip("with neither namespaces nor uids the init is the command's to stop")
    async with attack(guarded) as client:
        outcome = await client.start("kill -STOP $PPID 2>&1; echo tried; kill -STOP $$; echo never")
        pid, init = outcome.started["pid"], entry_of(guarded, client)["init_pid"]
        await until(lambda: proc_state(pid) == "T", 5, "a command that stopped itself")
        await until(lambda: proc_state(init) == "S", 5, "an init that waits as before")
        await echo_works(guarded)
        assert await client.control("CANCEL") == "canceled"
        await client.finish(outcome)
        assert outcome.done["reason"] == "canceled" and outcome.done["signal"] == "SIGKILL"
        assert re.search(r"^tried$", outcome.stdout, re.M) and "never" not in outcome.stdout
        # and where nobody asks, the time is up one day
        outcome = await client.run("kill -STOP $$", timeout=0.3)
        assert outcome.done["reason"] == "timeout"
        assert (await client.run("echo on")).stdout == "on\n"


@pytest.mark.skipif(not AM_ROOT, reason="another uid can only be had by root")
async def test_hostile_no_uid_is_in_use_after_a_session(guarded):
    """Each session's uids are nobody's once it is over, whatever it started."""
    async with attack(guarded) as client:
        await hold(client, HARES, mark=guarded.mark, stay=True)
        uids = {entry_of(guarded, client)["uid"]}
        assert pids_of(uids) and uids <= set(guarded.uids)
        await client.drop()

    await until(lambda: not pids_of(uids), 6, "the end of all that ran under the session's uid")
