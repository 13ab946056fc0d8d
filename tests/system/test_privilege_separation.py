"""Who may what, read from the kernel's own records and not from our word."""

import asyncio
import os
import pathlib
import re
import subprocess

import pytest

from clients import Client, Packed
from harness import (
    AM_ROOT,
    BULKHEADD,
    CANARY,
    FRONTEND,
    SANITIZED,
    descendants,
    is_ours,
    proc_alive,
    proc_cmdline,
    proc_fds,
    proc_start,
    proc_status,
    read_file,
    until,
    wait_until,
)

CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
KILL, SETGID, SETUID = 1 << 5, 1 << 6, 1 << 7


def capabilities(pid):
    status = proc_status(pid)
    return {name: int(status[name], 16) for name in CAPABILITIES}


def namespace(pid, kind):
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def needs_root(what):
    return pytest.mark.skipif(not AM_ROOT, reason=f"{what} can be read by root only")


# ---- the frontend ----


def test_frontend_has_no_privilege(server):
    pid = server.frontend_pid()
    status = proc_status(pid)
    rights = capabilities(pid)
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd"):
        assert rights[name] == 0, name
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert int(status["Seccomp_filters"]) >= 1
    assert status["Groups"].strip() == "" or not AM_ROOT


@pytest.mark.skipif(not AM_ROOT, reason="another uid can only be had by root")
def test_frontend_has_a_uid_of_its_own(server):
    pid = server.frontend_pid()
    uids = proc_status(pid)["Uid"].split()
    assert len(set(uids)) == 1
    assert int(uids[0]) != 0
    assert uids[0] != proc_status(server.pid)["Uid"].split()[0]
    assert int(uids[0]) in server.uids


@needs_root("the namespaces of another user's process")
def test_frontend_has_namespaces_of_its_own(server):
    pid = server.frontend_pid()
    for kind in ("net", "mnt", "user", "ipc", "uts"):
        assert namespace(pid, kind) != namespace("self", kind), kind
        assert namespace(pid, kind) != namespace(server.pid, kind), kind


@needs_root("the root folder of another user's process")
def test_frontend_sees_an_empty_root(server):
    pid = server.frontend_pid()
    assert os.listdir(f"/proc/{pid}/root/") == []
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    mounts = pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    assert len(mounts) == 1 and " ro" in mounts[0], mounts


@needs_root("the network of another user's process")
def test_frontend_sees_an_empty_network(server):
    pid = server.frontend_pid()
    devices = pathlib.Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    assert all(line.split(":")[0].strip() == "lo" for line in devices), devices
    route = pathlib.Path(f"/proc/{pid}/net/route").read_text().splitlines()[1:]
    assert route == []


@needs_root("the descriptors of another user's process")
def test_frontend_holds_only_what_it_was_handed(server):
    kinds = proc_fds(server.frontend_pid())
    assert kinds.pop(0) == "/dev/null"
    for number in (1, 2, 3, 4):
        assert number in kinds, kinds
    for number in list(kinds):
        if kinds[number] == str(server.log_path):
            del kinds[number]
    strange = [
        kind
        for kind in kinds.values()
        if not kind.startswith(("socket:", "anon_inode:[event", "anon_inode:[timerfd", "pipe:"))
        and kind not in ("/dev/null", "/dev/urandom")
    ]
    assert not strange, strange


def test_frontend_has_no_arguments_and_no_environment(server):
    pid = server.frontend_pid()
    assert len(proc_cmdline(pid)) == 1
    if AM_ROOT and not SANITIZED:
        assert pathlib.Path(f"/proc/{pid}/environ").read_bytes().strip(b"\0") == b""


@needs_root("the limits of another user's process")
def test_frontend_cannot_make_processes_or_files(server):
    limits = pathlib.Path(f"/proc/{server.frontend_pid()}/limits").read_text()
    # a sanitizer writes what it found
    assert SANITIZED or re.search(r"Max file size\s+0\s+0", limits), limits
    assert re.search(r"Max core file size\s+0\s+0", limits), limits
    assert re.search(r"Max processes\s+[01]\s+[01]\s", limits), limits


def test_frontend_dies_with_bulkheadd(make_server):
    server = make_server()
    pid = server.frontend_pid()
    start = proc_start(pid)
    server.crash()
    wait_until(lambda: not proc_alive(pid) or proc_start(pid) != start, 3, "the frontend's end")
    wait_until(lambda: not server.left(), 3, "the end of everything")
    server.process = None


def test_frontend_started_by_hand_says_so():
    done = subprocess.run(
        [FRONTEND],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        close_fds=True,
    )
    assert done.returncode == 100, done
    assert "bulkheadd" in done.stderr and len(done.stderr.splitlines()) == 1


# ---- the supervisor ----


@pytest.mark.skipif(not AM_ROOT, reason="started by root is what is tested")
def test_bulkheadd_is_not_root_after_its_start(server):
    status = proc_status(server.pid)
    assert "0" not in status["Uid"].split() and "0" not in status["Gid"].split()
    assert status["Groups"].strip() == ""
    rights = capabilities(server.pid)
    for name in CAPABILITIES:
        assert rights[name] & ~(SETUID | SETGID) == 0, name
    assert rights["CapAmb"] == 0 and rights["CapInh"] == 0
    assert status["NoNewPrivs"] == "1"
    for pid, name in server.ours():
        assert "0" not in proc_status(pid)["Uid"].split(), name


@pytest.mark.skipif(AM_ROOT, reason="started by an ordinary user is what is tested")
def test_bulkheadd_of_a_user_has_no_capability(server):
    rights = capabilities(server.pid)
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert rights[name] == 0, name
    assert proc_status(server.pid)["NoNewPrivs"] == "1"


ALLOWED = {
    "libc",
    "libseccomp",
    "libcap",
    "libmsgpackc",
    "libmsgpack-c",
    "libinih",
    "ld-linux-x86-64",
    "linux-vdso",
    "libgcc_s",
    "libm",
}
SANITIZERS = {"libasan", "libubsan", "libstdc++", "libpthread", "libdl", "librt"}


def libraries(program):
    text = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return {
        re.sub(r"\.so.*", "", os.path.basename(line.split()[0]))
        for line in text.splitlines()
        if line.strip()
    }


def test_bulkheadd_is_linked_with_little():
    allowed = ALLOWED - {"libgcc_s", "libm"} if not SANITIZED else ALLOWED | SANITIZERS
    assert libraries(BULKHEADD) <= allowed
    assert not any("websockets" in name or "jansson" in name for name in libraries(BULKHEADD))


def test_bulkheadd_listens_but_never_accepts(server):
    """The listening sockets are the frontend's to use."""
    text = subprocess.run(["nm", "-D", BULKHEADD], capture_output=True, text=True).stdout
    if SANITIZED or not text:
        pytest.skip("needs nm(1) and a build without sanitizers")
    assert not re.search(r"\baccept4?@", text)


def test_programs_are_hardened():
    for program in (BULKHEADD, FRONTEND):
        header = subprocess.run(["readelf", "-hldW", program], capture_output=True, text=True)
        if header.returncode != 0:
            pytest.skip("needs readelf(1)")
        assert re.search(r"Type:\s+DYN", header.stdout), "position independent"
        assert "GNU_RELRO" in header.stdout and "BIND_NOW" in header.stdout
        assert re.search(
            r"GNU_STACK\s+\S+ \S+ \S+ \S+ \S+ RW ", header.stdout
        ), "no executable stack"


# ---- inits ----


async def test_inits_have_no_capability_on_the_host(server):
    """What an init keeps is worth something in its own user namespace only."""
    async with await Client.open(server) as client:
        await client.run("true")
        inits = [entry["init_pid"] for entry in server.status()["session_list"]]
        assert inits
        for pid in inits:
            status, rights = proc_status(pid), capabilities(pid)
            assert status["NoNewPrivs"] == "1"
            kept = KILL | SETGID | SETUID if AM_ROOT else 0
            assert rights.pop("CapPrm") == rights.pop("CapEff") == kept
            assert set(rights.values()) == {0}, rights
            name = read_file(f"/proc/{pid}/comm").strip()
            assert name == "bulkhead-init", "named by its role"
            # a pid in two pid namespaces, and 1 in the inner one
            assert status["NSpid"].split() == [str(pid), "1"]
            if AM_ROOT:
                for kind in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup"):
                    assert namespace(pid, kind) != namespace("self", kind), kind
                uids = {int(uid) for uid in status["Uid"].split()}
                assert len(uids) == 1 and uids <= set(server.uids)
            # no way to be looked into, nor to leave a core file
            with pytest.raises(PermissionError):
                open_as_user(pid, f"/proc/{pid}/environ")


def open_as_user(pid, path):
    """Opens a file of a process as the user it runs as, whoever we are."""
    if not AM_ROOT:
        return open(path, "rb").close()
    uid = proc_status(pid)["Uid"].split()[0]
    done = subprocess.run(
        ["cat", path], user=int(uid), group=int(uid), extra_groups=[], capture_output=True
    )
    if done.returncode:
        raise PermissionError(done.stderr)
    return None


# The sets of each role, by level and whether root started the server: what is permitted and
# effective, what is in the bounding set (None: whatever the caller had), the filter.
BOTH_IDS = SETGID | SETUID
ROLES = {
    ("full", True): {
        "bulkheadd": (BOTH_IDS, 0, "0"),
        "bulkhead-frontend": (0, 0, "2"),
        "bulkhead-init": (KILL | BOTH_IDS, 0, "0"),
        "command": (0, 0, "2"),
    },
    ("full", False): {
        "bulkheadd": (0, None, "0"),
        "bulkhead-frontend": (0, 0, "2"),
        "bulkhead-init": (0, 0, "0"),
        "command": (0, 0, "2"),
    },
    ("basic", True): {
        "bulkheadd": (BOTH_IDS, 0, "0"),
        "bulkhead-frontend": (0, 0, "2"),
        "bulkhead-init": (0, 0, "0"),
        "command": (0, 0, "2"),
    },
    ("basic", False): {
        "bulkheadd": (0, None, "0"),
        "bulkhead-frontend": (0, 0, "2"),
        "bulkhead-init": (0, None, "0"),
        "command": (0, None, "2"),
    },
}


@pytest.mark.parametrize("level", ["full", "basic"])
async def test_capabilities_of_every_process(server, level):
    """The table of bulkheadd(8), for each process there is while commands run."""
    # the kernel keeps 15 characters of a name
    expected = {role[:15]: sets for role, sets in ROLES[level, AM_ROOT].items()}
    seen = set()
    async with await Client.open(server) as one, await Client.open(server) as other:
        for client in (one, other):
            outcome = await client.start("echo up; sleep 600 & sleep 600")
            await client.output_until(outcome, lambda o: "up" in o.stdout)
        for pid in [server.pid, *descendants(server.pid)]:
            role = read_file(f"/proc/{pid}/comm").strip() if is_ours(pid) else "command"
            kept, bounding, seccomp = expected[role]
            if bounding is None:
                bounding = capabilities("self")["CapBnd"]
            wanted = {
                "CapInh": 0,
                "CapPrm": kept,
                "CapEff": kept,
                "CapBnd": bounding,
                "CapAmb": 0,
            }
            if role == "bulkhead-init":
                # one of a cell that is being made ahead is not confined yet
                await until(lambda: capabilities(pid) == wanted, 5, f"the sets of init {pid}")
            assert capabilities(pid) == wanted, role
            status = proc_status(pid)
            assert status["NoNewPrivs"] == "1" and status["Seccomp"] == seccomp, role
            seen.add(role)
    assert seen == set(expected)


# ---- commands ----


async def held(client):
    """A command that stands still: (pid, outcome)."""
    outcome = await client.start("sleep 600 & wait")
    return outcome.started["pid"], outcome


@pytest.mark.parametrize("dialect", ["plain", "msgpack"])
async def test_command_has_no_privilege(server, dialect):
    kind = {"dialect": Packed} if dialect == "msgpack" else {}
    async with await Client.open(server, **kind) as client:
        pid, _ = await held(client)
        wait_until(lambda: "sh" in proc_cmdline(pid)[0], 5, "the shell")
        status = proc_status(pid)
        for name, value in capabilities(pid).items():
            # a user may not empty the bounding set; with no_new_privs it gives nothing
            assert value == 0 or (name == "CapBnd" and not AM_ROOT), name
        assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
        assert len(set(status["Uid"].split())) == 1 and len(set(status["Gid"].split())) == 1
        if AM_ROOT:
            uid = int(status["Uid"].split()[0])
            assert uid in server.uids
            assert uid != int(proc_status(server.pid)["Uid"].split()[0])
            assert status["Groups"].strip() == ""
            assert int(status["Gid"].split()[0]) != 0
        # own session and process group
        assert os.getsid(pid) == pid and os.getpgid(pid) == pid
        # nothing blocked, nothing ignored from us
        assert int(status["SigBlk"], 16) == 0 and int(status["SigIgn"], 16) == 0


@pytest.mark.parametrize("level", ["full", "basic"])
async def test_command_can_not_open_what_is_ours(server, level):
    """In a cell none of it is there; without one, uids stand between."""
    async with await Client.open(server) as client:
        outcome = await client.run(
            f"ls -l /proc/{server.pid}/fd 2>&1; cat {server.runtime}/token 2>&1; "
            f"kill -0 {server.pid} 2>&1; kill -0 {server.frontend_pid()} 2>&1; kill -9 $PPID 2>&1; echo $?"
        )
        if level == "full":
            assert server.token not in outcome.stdout
            assert outcome.stdout.count("No such file") == 2, outcome.stdout
            assert outcome.stdout.count("No such process") == 2, outcome.stdout
            # pid 1 of its namespace: another's there, or deaf to what it did not ask for
            assert "not permitted" in outcome.stdout or not AM_ROOT
            assert outcome.done["exit_code"] == 0
        elif AM_ROOT:
            assert server.token not in outcome.stdout
            assert outcome.stdout.count("ermi") >= 4, outcome.stdout
            assert outcome.done["exit_code"] == 0
        if level == "full" or AM_ROOT:
            assert (await client.run("echo on")).stdout == "on\n"
        assert server.process.poll() is None


async def test_command_has_exactly_three_descriptors(server):
    async with await Client.open(server) as client:
        for command in ("/bin/ls -l /proc/self/fd",):
            outcome = await client.run(argv=command.split())
            numbers = re.findall(r" (\d+) -> (\S+)", outcome.stdout)
            # ls itself opens the folder it lists
            links = {int(number): path for number, path in numbers}
            assert set(links) == {0, 1, 2, 3} and links[3].startswith("/proc/")
            assert links[0] == "/dev/null"
            assert links[1] != links[2]
        outcome = await client.run("sleep 0.3 & readlink /proc/$!/fd/0; wait")
        assert outcome.stdout == "/dev/null\n"
        if AM_ROOT:
            pid, outcome = await held(client)
            wait_until(lambda: set(proc_fds(pid)) == {0, 1, 2}, 5, "three descriptors")
            await client.control("CANCEL")
            await client.finish(outcome)


async def test_command_has_a_clean_environment(server):
    async with await Client.open(server) as client:
        outcome = await client.run(argv=["/usr/bin/env", "-0"])
        names = {item.split("=", 1)[0] for item in outcome.stdout.split("\0") if item}
        assert CANARY not in outcome.stdout
        assert "PATH" in names
        assert names <= {
            "PATH",
            "HOME",
            "USER",
            "LOGNAME",
            "SHELL",
            "LANG",
            "TERM",
            "TMPDIR",
            "PWD",
        }, names
        outcome = await client.run(argv=["/usr/bin/env", "-0"], env={"MINE": "x", "PATH": "/bin"})
        seen = outcome.stdout.split("\0")
        assert "MINE=x" in seen and "PATH=/bin" in seen
        assert len([item for item in seen if item.startswith("PATH=")]) == 1


async def test_command_cannot_be_more_than_it_is(server):
    """no_new_privs and the filter, tried from inside."""
    async with await Client.open(server) as client:
        outcome = await client.run(
            "unshare -U true 2>/dev/null; echo unshare $?; "
            "mount -t tmpfs none /mnt 2>/dev/null; echo mount $?; "
            "/usr/bin/python3 -c 'import os; os.setuid(0)' 2>/dev/null; echo setuid $?; "
            "dmesg >/dev/null 2>&1; echo dmesg $?; "
            "/usr/bin/python3 -c 'import os; os.ptrace' 2>/dev/null; strace true 2>/dev/null; echo strace $?"
        )
        results = dict(
            line.split() for line in outcome.stdout.splitlines() if len(line.split()) == 2
        )
        assert set(results) == {"unshare", "mount", "setuid", "dmesg", "strace"}, outcome.stdout
        assert all(code != "0" for code in results.values()), results


async def test_forbidden_system_call_is_named_in_the_verdict_or_fails(server):
    """A filtered call ends with an error or with SIGSYS, which has its own reason."""
    async with await Client.open(server) as client:
        outcome = await client.run(
            argv=[
                "/usr/bin/python3",
                "-c",
                "import ctypes,os; libc=ctypes.CDLL(None,use_errno=True);"
                "r=libc.syscall(175,0,0,b''); print(r, ctypes.get_errno())",
            ]  # init_module
        )
        done = outcome.done
        if done["reason"] == "seccomp":
            assert done["signal"] == "SIGSYS" and done["exit_code"] == -31
        else:
            assert outcome.stdout.startswith("-1 "), outcome.stdout


@pytest.mark.parametrize("level", ["full", "basic"])
async def test_sessions_have_different_uids(server, level):
    """As the host sees them; inside a cell everyone is uid 1000."""
    if not AM_ROOT:
        pytest.skip("started by an ordinary user, there is one uid for all")
    async with await Client.open(server) as one, await Client.open(server) as other:
        pids = [(await held(client))[0] for client in (one, other)]
        uids = [set(proc_status(pid)["Uid"].split()) for pid in pids]
        assert len(uids[0]) == len(uids[1]) == 1 and uids[0] != uids[1]
        assert {int(uid) for uid in uids[0] | uids[1]} <= set(server.uids)
        async with await Client.open(server) as third:
            inside = (await third.run("id -u")).stdout.strip()
            assert inside == "1000" if level == "full" else int(inside) in server.uids
            outcome = await third.run(f"kill -9 {pids[0]} 2>&1; echo $?")
            assert outcome.stdout.endswith("1\n")
        assert all(proc_alive(pid) for pid in pids)


SHOW_DESCRIPTORS = """
import os
for number in range(1024):
    try:
        print(number, os.fstat(number).st_mode >> 12)
    except OSError:
        pass
"""


async def test_commands_in_parallel_have_exactly_three_descriptors(server):
    """64 starts at the same time, with stdin and without: no pipe of one shows up in another."""
    before = server.steady()
    clients = await asyncio.gather(*(Client.open(server) for _ in range(64)))
    argv = ["/usr/bin/python3", "-I", "-S", "-c", SHOW_DESCRIPTORS]

    async def play(number, client):
        return await client.run(argv=argv, stdin="pipe" if number % 2 else "null")

    outcomes = await asyncio.gather(*(play(*each) for each in enumerate(clients)))
    for number, outcome in enumerate(outcomes):
        assert outcome.done["exit_code"] == 0, outcome.done
        # a character device or a pipe, and two pipes
        assert outcome.stdout == ("0 1\n1 1\n2 1\n" if number % 2 else "0 2\n1 1\n2 1\n")
    for client in clients:
        await client.close()
    server.wait_back(before)


async def test_resource_limits_are_set(server):
    async with await Client.open(server) as client:
        text = (await client.run("cat /proc/self/limits")).stdout
        limits = dict(re.findall(r"^(Max [a-z ]+?) {2,}(\S+)", text, re.M))
        assert limits["Max core file size"] == "0"
        assert limits["Max open files"].isdigit()
        assert limits["Max processes"].isdigit()
