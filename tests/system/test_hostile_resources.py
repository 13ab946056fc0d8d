"""
Commands that take as much as they can get: memory, disk, descriptors. They
meet a limit of their own, the session beside them does not, and all of it is
given back.
"""

import re
import subprocess

import pytest

from clients import Client
from harness import AM_ROOT, SANITIZED, proc_status, read_file, wait_until
from hostile import attack, beside, hold, numbers_of, probe

MIB = 1 << 20

SIZES = {"/tmp": 256 * MIB, "/workspace": 256 * MIB, "/dev/shm": 64 * MIB}

FILL = """
block, written, end = b"x" * (1 << 20), 0, None
fd = os.open(given["folder"] + "/fill", os.O_WRONLY | os.O_CREAT)
while end is None:
    try:
        written += os.write(fd, block)
    except OSError as error:
        end = name(error.errno)
tell([written, end])
"""

MANY_FILES = """
count, end = 0, None
while end is None:
    try:
        os.close(os.open(given["folder"] + "/" + str(count), os.O_WRONLY | os.O_CREAT))
        count += 1
    except OSError as error:
        end = name(error.errno)
tell([count, end])
"""

WRITE_SOME = """
with open(given["folder"] + "/mine", "wb") as file:
    file.write(b"y" * given["size"])
tell(os.listdir(given["folder"]))
"""


def shmem_bytes():
    """All that the tmpfs mounts of the machine hold."""
    return int(re.search(r"^Shmem:\s+(\d+) kB", read_file("/proc/meminfo"), re.M).group(1)) * 1024


@pytest.mark.parametrize("folder", SIZES)
async def test_hostile_filling_what_can_be_written(guarded, folder):
    idle = shmem_bytes()
    size = SIZES[folder]
    async with beside(guarded), await Client.open(guarded) as other:
        async with await Client.open(guarded) as client:
            written, end = await probe(client, FILL, folder=folder)
            assert end == "ENOSPC" and size - MIB <= written <= size
            assert shmem_bytes() > idle + size // 2, "it is memory that is filled"
            # every other session has its own
            assert await probe(other, WRITE_SOME, folder=folder, size=8 * MIB) == ["mine"]
            # and the rest of the cell works on
            assert (await client.run("echo on")).stdout == "on\n"
            outcome = await client.run(f"echo more >{folder}/more")
            assert outcome.done["exit_code"] != 0 and outcome.stderr != ""
            assert (await client.run(f"rm {folder}/fill; echo more >{folder}/more")).stderr == ""
            await probe(client, FILL, folder=folder)
    wait_until(lambda: shmem_bytes() < idle + size // 4, 10, "the memory of a full folder back")


async def test_hostile_more_files_than_there_may_be(guarded):
    async with attack(guarded) as client:
        count, end = await probe(client, MANY_FILES, folder="/dev/shm")
        assert end == "ENOSPC" and 4000 < count <= 4096
        assert (await client.run("echo on")).stdout == "on\n"


async def test_hostile_nothing_else_can_be_written(guarded):
    """The rest of the view, made by whoever it may be, is read-only."""
    async with attack(guarded) as client:
        outcome = await client.run(
            "for d in / /usr /usr/bin /usr/lib /etc /dev /var /run /etc/ssl/certs /proc; do "
            "touch $d/x 2>/dev/null && echo made $d; done; "
            "for f in /etc/passwd /etc/ld.so.cache /usr/bin/env /etc/hostname; do "
            "(echo x >>$f) 2>/dev/null && echo wrote $f; chmod 777 $f 2>/dev/null && echo mode $f; "
            "mv $f /tmp 2>/dev/null && echo moved $f; done; echo done"
        )
        assert outcome.stdout == "done\n"


LARGE = """
fd = os.open("/workspace/large", os.O_RDWR | os.O_CREAT)
results = [attempt(os.ftruncate, fd, 2 << 30), attempt(os.posix_fallocate, fd, 0, 2 << 30)]
os.lseek(fd, (2 << 30) - 1, os.SEEK_SET)
results.append(attempt(os.write, fd, b"x"))
# the limit itself is as large as a file may be, and costs nothing while it is a hole
results.append(attempt(os.ftruncate, fd, 1 << 30))
tell([results, os.fstat(fd).st_blocks])
"""


async def test_hostile_sparse_file_of_two_gigabytes(guarded):
    async with attack(guarded) as client:
        outcome = await client.run(argv=["/usr/bin/truncate", "-s", "2G", "/workspace/large"])
        done = outcome.done
        assert done["reason"] == "signaled" and done["signal"] == "SIGXFSZ", done
        # Python ignores the signal and sees the error
        assert await probe(client, LARGE) == [["EFBIG", "EFBIG", "EFBIG", "ok"], 0]


OPEN_ALL = """
kinds = {
    "files": lambda: os.open("/dev/null", os.O_RDONLY),
    "pipes": os.pipe,
    "events": lambda: libc.eventfd(0, 0),
}
results = {}
for kind, make in kinds.items():
    made, end = [], None
    while end is None:
        try:
            new = make()
            if new == -1:
                raise OSError(ctypes.get_errno(), "")
            made += new if isinstance(new, tuple) else [new]
        except OSError as error:
            end = name(error.errno)
    results[kind] = [len(made), end]
    for fd in made:
        os.close(fd)
results["more"] = attempt(os.dup2, 0, 1024)
import resource
try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 2048))
except (OSError, ValueError) as error:
    results["limit"] = "refused"
tell(results)
"""


async def test_hostile_descriptor_exhaustion(guarded):
    async with attack(guarded) as client:
        results = await probe(client, OPEN_ALL)
        assert results == {
            "files": [1021, "EMFILE"],
            "pipes": [1020, "EMFILE"],
            "events": [1021, "EMFILE"],
            "more": "EBADF",
            "limit": "refused",
        }


# Touches what it asks for, so that it is really there.
EAT = """
held, end = [], None
while end is None and len(held) < given["blocks"]:
    try:
        held.append(bytearray(b"x") * (16 << 20))
    except MemoryError:
        end = "MemoryError"
tell([len(held) * 16, end])
if given["stay"]:
    signal.pause()
"""


def limit_data(pid, size):
    """Gives a live bulkheadd a limit, as a service manager would have at its start."""
    user = {}
    if AM_ROOT:
        status = proc_status(pid)
        user["user"], user["group"] = (int(status[name].split()[0]) for name in ("Uid", "Gid"))
        user["extra_groups"] = []
    limit = f"--data={size}:{size}"
    subprocess.run(["prlimit", f"--pid={pid}", limit], check=True, cwd="/", **user)


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's shadow is data too, far beyond any limit")
async def test_hostile_memory_bomb_meets_the_limit_of_the_service(guarded):
    """What bulkheadd was given as a limit of its own, each process of a command has, too."""
    limit_data(guarded.pid, 512 * MIB)
    async with await Client.open(guarded) as used_up:
        await used_up.run("true")  # takes the cell that was ready before the limit
    async with attack(guarded) as client:
        eaten, end = await probe(client, EAT, blocks=256, stay=False)
        assert end == "MemoryError" and 256 <= eaten <= 512
        assert (await client.run("echo on")).stdout == "on\n"


async def test_hostile_memory_bomb_ends_with_its_command(guarded):
    """
    Without cgroup v2 nothing bounds the sum of what all processes of a command
    take: the size here is the test's own. What holds: the verdict tells the
    peak, the end of the command gives everything back, the neighbour is served.
    """
    async with attack(guarded) as client:
        outcome, (eaten, end) = await hold(client, EAT, blocks=64, stay=True)
        assert eaten == 1024 and end is None
        assert await client.control("CANCEL") == "canceled"
        await client.finish(outcome)
        assert outcome.done["reason"] == "canceled"
        assert outcome.done["peak_bytes"] >= 1024 * MIB
        assert (await client.run("echo on")).stdout == "on\n"


async def test_hostile_locked_memory_is_bounded(guarded):
    async with attack(guarded) as client:
        told = await probe(
            client,
            """
import mmap
area = mmap.mmap(-1, 1 << 20)
at = ctypes.addressof(ctypes.c_char.from_buffer(area))
tell([call(given["mlock"], at, 1 << 20), call(given["mlock"], at, 4096)])
""",
            mlock=numbers_of(["mlock"])["mlock"],
        )
        assert told[0] in ("ENOMEM", "EPERM", "EAGAIN") and told[1] == "ok"
