"""
What the tests of hostile commands share: programs that run inside, as the
command; another session that must stay served beside them.

The programs are Python, handed over as an argument: a cell shows a command
nothing of ours, and may have no compiler.
"""

import asyncio
import contextlib
import ctypes
import functools
import json
import statistics
import time

import harness
from clients import Client

# What a neighbour's `true` may take while a command does its worst, against what it took before.
RATIO = 50
FLOOR = 0.1

PRELUDE = r"""
import ctypes, errno, fcntl, json, os, signal, sys, time
given = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)

def name(number):
    return errno.errorcode.get(number, str(number))

def call(number, *arguments):
    "One system call by its number: ok, or the name of its errno."
    words = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    ctypes.set_errno(0)
    if libc.syscall(ctypes.c_long(number), *words) != -1:
        return "ok"
    return name(ctypes.get_errno())

def attempt(function, *arguments):
    "The same for a function of Python's."
    try:
        function(*arguments)
    except OSError as error:
        return name(error.errno)
    return "ok"

def in_child(function, *arguments):
    "How a child that does it ends: the code it leaves with, or the signal's name."
    pid = os.fork()
    if pid == 0:
        function(*arguments)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return os.WEXITSTATUS(status)

def tell(value):
    print(json.dumps(value), flush=True)
"""


def program(script, **given):
    """The arguments of a command that runs a script with what it is given."""
    return ["/usr/bin/python3", "-I", "-S", "-c", PRELUDE + script, json.dumps(given)]


async def probe(client, script, **given):
    """Runs a script to its end; returns what it told."""
    outcome = await client.run(argv=program(script, **given))
    assert outcome.done["reason"] == "exited", (outcome.done, outcome.stderr)
    assert outcome.done["exit_code"] == 0 and outcome.stderr == "", outcome.stderr
    return json.loads(outcome.stdout)


async def hold(client, script, **given):
    """Starts a script that goes on once it told something; returns (outcome, what it told)."""
    outcome = await client.start(argv=program(script, **given))
    await client.output_until(outcome, lambda o: "\n" in o.stdout)
    return outcome, json.loads(outcome.stdout.splitlines()[0])


@functools.lru_cache(None)
def libseccomp():
    return ctypes.CDLL("libseccomp.so.2")


def numbers_of(names):
    """{name: number} of the system calls that this machine and libseccomp know."""
    found = {each: libseccomp().seccomp_syscall_resolve_name(each.encode()) for each in names}
    return {each: number for each, number in found.items() if number >= 0}


def entry_of(server, client):
    """The line of /status about a client's session."""
    wanted = client.connected["session_id"]
    return next(e for e in server.status()["session_list"] if e["session_id"] == wanted)


def cell_pids(server, client):
    """Every process in the cell of a client, its init too, as the host numbers them."""
    init = entry_of(server, client)["init_pid"]
    return [init] + harness.descendants(init)


async def timed(client):
    begin = time.monotonic()
    outcome = await client.run(argv=["/usr/bin/true"])
    assert outcome.done["exit_code"] == 0, outcome.done
    return time.monotonic() - begin


@contextlib.asynccontextmanager
async def beside(server):
    """Another session, which has all its commands done while the block does what it likes."""
    async with await Client.open(server) as client:
        alone = [await timed(client) for _ in range(10)]
        meanwhile, going = [], True

        async def work():
            while going or not meanwhile:
                meanwhile.append(await timed(client))
                await asyncio.sleep(0.01)

        task = asyncio.create_task(work())
        try:
            yield client
        finally:
            going = False
            await task
        usual, now = statistics.median(alone), statistics.median(meanwhile)
        print(
            f"the neighbour: {1000 * usual:.1f} ms alone, {1000 * now:.1f} ms beside, "
            f"{1000 * max(meanwhile):.1f} ms at most, {len(meanwhile)} commands"
        )
        assert now <= max(RATIO * usual, FLOOR * harness.PATIENCE), "the neighbour waits"


@contextlib.asynccontextmanager
async def attack(server):
    """The session of a hostile command; its neighbour is served from beginning to end."""
    async with beside(server):
        async with await Client.open(server) as client:
            yield client
