"""
What two sessions, or a session and the host, could share: each has its own,
or none. One session holds it while the other looks for it.
"""

import os
import socket
import stat

import pytest

from clients import Client, Refused
from hostile import attack, beside, hold, numbers_of, probe

FAMILIES = {
    "unix": (1, 1, 0),
    "inet stream": (2, 1, 0),
    "inet datagram": (2, 2, 0),
    "inet raw": (2, 3, 1),
    "inet6 raw": (10, 3, 58),
    "ping": (2, 2, 1),
    "packet": (17, 3, 0),
    "netlink route": (16, 3, 0),
    "netlink audit": (16, 3, 9),
    "netlink uevent": (16, 3, 15),
    "alg": (38, 5, 0),
    "vsock": (40, 1, 0),
    "xdp": (44, 3, 0),
    "bluetooth": (31, 3, 0),
    "key": (15, 3, 2),
    "tipc": (30, 2, 0),
    "rds": (21, 5, 0),
    "can": (29, 3, 1),
}

SOCKETS = """
results = {}
for each, (family, kind, protocol) in given["families"].items():
    results[each] = call(given["socket"], family, kind, protocol)
    results[each + ", pair"] = call(given["socketpair"], family, kind, protocol,
                                    (ctypes.c_int * 2)())
tell(results)
"""


@pytest.mark.parametrize("level", ["full", "basic"])
async def test_hostile_sockets_that_may_be_made(guarded, level):
    """No raw, no netlink, no family with a history; in a cell of one's own, internet sockets."""
    async with attack(guarded) as client:
        results = await probe(
            client, SOCKETS, families=FAMILIES, **numbers_of(["socket", "socketpair"])
        )
    allowed = {each for each, said in results.items() if said == "ok"}
    assert {"unix", "unix, pair"} <= allowed
    internet = {"inet stream", "inet datagram"} if level == "full" else set()
    assert allowed == {"unix", "unix, pair"} | internet
    refused = {results[each] for each in results if each not in allowed}
    assert refused <= {"EAFNOSUPPORT", "EPERM", "EACCES", "EPROTONOSUPPORT"}, results


LOOPBACK = """
import socket
results = {}
with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    with socket.create_connection(listener.getsockname(), 5) as out:
        peer = listener.accept()[0]
        out.sendall(b"inside")
        results["inside"] = peer.recv(10).decode()
for address, port in given["targets"]:
    with socket.socket() as attempted:
        attempted.settimeout(2)
        results[address + " " + str(port)] = attempt(attempted.connect, (address, port))
with open("/proc/net/dev") as file:
    results["devices"] = [line.split(":")[0].strip() for line in file.readlines()[2:]]
tell(results)
"""


async def test_hostile_loopback_is_the_cells_own(guarded):
    """It is up and works, and no listener of the host is to be found on it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        async with attack(guarded) as client:
            results = await probe(
                client,
                LOOPBACK,
                targets=[("127.0.0.1", port), ("127.0.0.1", guarded.port), ("192.0.2.1", 80)],
            )
    assert results.pop("inside") == "inside"
    assert [each for each in results.pop("devices") if each != "lo"] == []
    assert results == {
        f"127.0.0.1 {port}": "ECONNREFUSED",
        f"127.0.0.1 {guarded.port}": "ECONNREFUSED",
        "192.0.2.1 80": "ENETUNREACH",
    }


ABSTRACT = """
import socket
results = []
for each in given["names"]:
    results.append(attempt(socket.socket(socket.AF_UNIX).connect, "\\0" + each))
    results.append(attempt(socket.socket(socket.AF_UNIX).bind, "\\0" + each))
tell(results)
"""

HOLD_NAMES = """
import socket
listener = socket.socket(socket.AF_UNIX)
listener.bind("\\0" + given["name"])
listener.listen()
tell("up")
signal.pause()
"""


async def test_hostile_abstract_sockets_are_the_cells_own(guarded):
    host, inside = f"bulkhead-host-{guarded.mark}", f"bulkhead-cell-{guarded.mark}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + host)
        listener.listen()
        async with beside(guarded), await Client.open(guarded) as other:
            held, _ = await hold(other, HOLD_NAMES, name=inside)
            async with await Client.open(guarded) as client:
                results = await probe(client, ABSTRACT, names=[host, inside])
            await other.control("CANCEL")
            await other.finish(held)
    # nobody is there, and the name is free
    assert results == ["ECONNREFUSED", "ok"] * 2


HOLD_FILES = """
held = []
for folder in ("/tmp", "/dev/shm", "/workspace"):
    fd = os.open(folder + "/shared-" + given["mark"], os.O_RDWR | os.O_CREAT, 0o666)
    os.write(fd, b"secret")
    fcntl.flock(fd, fcntl.LOCK_EX)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    os.mkfifo(folder + "/fifo-" + given["mark"])
    held.append(fd)
umask = os.umask(0)
tell("up")
signal.pause()
"""

FIND_FILES = """
results = []
for folder in ("/tmp", "/dev/shm", "/workspace"):
    results.append(os.listdir(folder))
    fd = os.open(folder + "/shared-" + given["mark"], os.O_RDWR | os.O_CREAT, 0o666)
    results.append(os.read(fd, 10).decode())
    results.append(attempt(fcntl.flock, fd, fcntl.LOCK_EX | fcntl.LOCK_NB))
    results.append(attempt(fcntl.lockf, fd, fcntl.LOCK_EX | fcntl.LOCK_NB))
with open("/proc/locks") as file:
    results.append(len(file.readlines()))
tell(results)
"""


async def test_hostile_files_and_locks_are_the_sessions_own(guarded):
    """The same names, in /tmp, shared memory and the workspace, are other files elsewhere."""
    async with beside(guarded), await Client.open(guarded) as other:
        held, _ = await hold(other, HOLD_FILES, mark=guarded.mark)
        async with await Client.open(guarded) as client:
            results = await probe(client, FIND_FILES, mark=guarded.mark)
        assert results[:-1] == [[], "", "ok", "ok"] * 3
        assert not os.path.exists(f"/tmp/shared-{guarded.mark}")
        assert not os.path.exists(f"/dev/shm/shared-{guarded.mark}")
        await other.control("CANCEL")
        await other.finish(held)
        # they stay for the session's next command
        assert (await other.run("cat /workspace/shared-*")).stdout == "secret"


STDIN = """
before = [fcntl.fcntl(0, fcntl.F_GETSIG), fcntl.fcntl(0, fcntl.F_GETFL) & os.O_NONBLOCK,
          fcntl.fcntl(0, fcntl.F_GETOWN)]
fcntl.fcntl(0, fcntl.F_SETSIG, 42)
fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
fcntl.fcntl(0, fcntl.F_SETFL, os.O_NONBLOCK)
tell(before)
if given["stay"]:
    signal.pause()
"""


async def test_hostile_stdin_is_not_shared_between_sessions(guarded):
    """What one command sets on its stdin, no other command sees on its own."""
    async with beside(guarded), await Client.open(guarded) as other:
        held, told = await hold(other, STDIN, stay=True)
        assert told == [0, 0, 0]
        async with await Client.open(guarded) as client:
            assert await probe(client, STDIN, stay=False) == [0, 0, 0]
            assert await probe(client, STDIN, stay=False) == [0, 0, 0]
        await other.control("CANCEL")
        await other.finish(held)


STRANGE = """
results = {
    "character device": attempt(os.mknod, "null", stat.S_IFCHR | 0o666, os.makedev(1, 3)),
    "block device": attempt(os.mknod, "disk", stat.S_IFBLK | 0o666, os.makedev(8, 0)),
    "fifo": attempt(os.mkfifo, "fifo"),
    "socket": attempt(os.mknod, "socket", stat.S_IFSOCK | 0o666),
    "link out": attempt(os.symlink, "/proc/1/root", "out"),
    "link to itself": attempt(os.symlink, "loop", "loop"),
    "link to etc": attempt(os.symlink, "/etc/passwd", "passwd"),
    "hard link": attempt(os.link, "/usr/bin/env", "env"),
    "deep": None,
}
for _ in range(200):
    os.mkdir("d" * 200)
    os.chdir("d" * 200)
results["deep"] = "ok"
tell(results)
"""


async def test_hostile_strange_files_in_the_workspace(guarded):
    """Links, pipes and devices where we would look: they are the command's own trouble."""
    async with beside(guarded), await Client.open(guarded) as client:
        results = await probe(client, "import stat\n" + STRANGE)
        assert results == {
            "character device": "EPERM",
            "block device": "EPERM",
            "fifo": "ok",
            "socket": "ok",
            "link out": "ok",
            "link to itself": "ok",
            "link to etc": "ok",
            "hard link": "EXDEV",
            "deep": "ok",
        }
        # as a program, or as a folder to begin in, none of them holds anybody up
        for params in (
            {"argv": ["/workspace/fifo"]},
            {"argv": ["/workspace/socket"]},
            {"argv": ["/workspace/loop"]},
            {"argv": ["/workspace/out/bin/true"]},
            {"argv": ["true"], "cwd": "/workspace/fifo"},
            {"argv": ["true"], "cwd": "/workspace/out"},
            {"argv": ["true"], "cwd": "/workspace/loop"},
        ):
            with pytest.raises(Refused) as refused:
                await client.run(**params)
            assert refused.value.code == -32013, params
        # a workspace that its owner closed is the owner's to open again
        assert (await client.run("chmod 0 /workspace")).done["exit_code"] == 0
        with pytest.raises(Refused) as refused:
            await client.run("true")
        assert refused.value.error["data"]["stage"] == "chdir"
        assert (await client.run("chmod 700 /workspace", cwd="/")).done["exit_code"] == 0
        assert (await client.run("echo on")).stdout == "on\n"


async def test_hostile_files_last_as_long_as_the_session(guarded):
    async with attack(guarded) as client:
        await client.run("echo kept >file; echo kept >/tmp/file; echo kept >/dev/shm/file")
        outcome = await client.run("cat file /tmp/file /dev/shm/file; ls -A /workspace /tmp")
        assert outcome.stdout.count("kept") == 3
    async with await Client.open(guarded) as client:
        outcome = await client.run("ls -A /workspace /tmp /dev/shm /var/tmp/")
        assert outcome.stdout.split() == ["/dev/shm:", "/tmp:", "/var/tmp/:", "/workspace:"]


async def test_hostile_devices_work_and_are_all_there_is(guarded):
    async with attack(guarded) as client:
        told = await probe(
            client,
            """
import stat
results = {}
for folder, folders, files in os.walk("/dev"):
    for each in files:
        path = os.path.join(folder, each)
        mode = os.lstat(path).st_mode
        results[path] = stat.S_IFMT(mode)
with open("/dev/zero", "rb") as zero, open("/dev/urandom", "rb") as random:
    read = [zero.read(4).hex(), len(random.read(32))]
tell([results, read, attempt(os.write, os.open("/dev/full", os.O_WRONLY), b"x"),
      attempt(os.open, "/dev/tty", os.O_RDWR), os.isatty(os.openpty()[1])])
""",
        )
    found, read, full, tty, terminal = told
    assert {path for path in found if stat.S_ISBLK(found[path])} == set()
    assert {path for path in found if stat.S_ISCHR(found[path])} == {
        *(f"/dev/{each}" for each in ("null", "zero", "full", "random", "urandom", "tty")),
        "/dev/pts/ptmx",
    }
    assert read == ["00000000", 32] and full == "ENOSPC" and tty == "ENXIO" and terminal
