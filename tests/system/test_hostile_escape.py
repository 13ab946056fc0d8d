"""
Commands that try to be more than they are, or to get out: by system calls, by
/proc, by what is set-user-ID, by our own program.
"""

import os
import platform
import shutil

import pytest

from clients import Client, Refused
from harness import AM_ROOT, BULKHEADD, read_file
from hostile import attack, beside, entry_of, hold, numbers_of, probe, program

BOTH = pytest.mark.parametrize("level", ["full", "basic"])

ON_X86 = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="only x86_64 has other machines' calls"
)

# Each is tried with arguments that are all 0: without the filter most would say EFAULT or EINVAL.
REFUSED = (
    "mount umount2 pivot_root chroot unshare setns fsopen fsmount fsconfig fspick move_mount "
    "open_tree mount_setattr name_to_handle_at open_by_handle_at "
    "ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd process_madvise "
    "add_key keyctl request_key bpf perf_event_open userfaultfd fanotify_init fanotify_mark "
    "io_uring_setup io_uring_enter io_uring_register "
    "init_module finit_module delete_module kexec_load reboot swapon swapoff acct quotactl "
    "sethostname setdomainname settimeofday clock_settime adjtimex syslog vhangup iopl ioperm "
    "setgroups modify_ldt"
).split()

ABSENT = (
    "clone3 shmget shmat shmctl semget semop semctl msgget msgsnd msgrcv msgctl mq_open mq_unlink "
    "io_setup io_submit memfd_secret mbind set_mempolicy move_pages"
).split()

CALLS = """
tell({each: in_child_call(number) for each, number in given["numbers"].items()})
"""

# A child for each, as one that goes through may not come back.
IN_CHILD_CALL = """
def in_child_call(number, *arguments):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, call(number, *(arguments or (0,) * 6)).encode())
        os._exit(0)
    os.close(writing)
    said = os.read(reading, 100).decode()
    os.close(reading)
    status = os.waitpid(pid, 0)[1]
    return said or signal.Signals(os.WTERMSIG(status)).name
"""


@BOTH
async def test_hostile_calls_that_are_not_for_commands(guarded, level):
    refused, absent = numbers_of(REFUSED), numbers_of(ABSENT)
    assert len(refused) > 40 and len(absent) > 10
    async with attack(guarded) as client:
        said = await probe(client, IN_CHILD_CALL + CALLS, numbers=refused)
        assert said == {each: "EPERM" for each in refused}
        said = await probe(client, IN_CHILD_CALL + CALLS, numbers=absent)
        assert said == {each: "ENOSYS" for each in absent}


NAMESPACES = """
flags = {"newns": 0x20000, "newcgroup": 0x2000000, "newuts": 0x4000000, "newipc": 0x8000000,
         "newuser": 0x10000000, "newpid": 0x20000000, "newnet": 0x40000000}
results = {}
for each, flag in flags.items():
    results[each] = [
        in_child_call(given["clone"], flag | signal.SIGCHLD, 0, 0, 0, 0),
        in_child_call(given["clone"], flag | signal.SIGCHLD | 0xdead << 32, 0, 0, 0, 0),
        in_child_call(given["unshare"], flag, 0),
    ]
for kind in ("mnt", "net", "pid", "user"):
    fd = os.open("/proc/self/ns/" + kind, os.O_RDONLY)
    results[kind] = [in_child_call(given["setns"], fd, 0)]
tell(results)
"""


@BOTH
async def test_hostile_no_namespace_of_its_own(guarded, level):
    """Not with flags in the high half either, where a filter could be fooled."""
    async with attack(guarded) as client:
        numbers = numbers_of(["clone", "unshare", "setns"])
        results = await probe(client, IN_CHILD_CALL + NAMESPACES, **numbers)
        assert {word for words in results.values() for word in words} == {"EPERM"}, results


INJECT = """
import pty, termios
master, slave = pty.openpty()
byte = ctypes.create_string_buffer(b"x")
results = []
for high in (0, 1, 0xdead, 0xffffffff, 0x80000000):
    for request in (termios.TIOCSTI, 0x541C):
        results.append(call(given["ioctl"], slave, request | high << 32, ctypes.byref(byte)))
        results.append(call(given["ioctl"], 0, request | high << 32, ctypes.byref(byte)))
        results.append(call(given["ioctl"], 1, request | high << 32, ctypes.byref(byte)))
tell(results)
"""


@BOTH
async def test_hostile_no_character_is_put_into_a_terminal(guarded, level):
    """TIOCSTI and TIOCLINUX; the kernel looks at the low half of the request only."""
    async with attack(guarded) as client:
        assert set(await probe(client, INJECT, **numbers_of(["ioctl"]))) == {"EPERM"}


# mov eax, 20 (getpid of i386); int 0x80; ret
INT80 = """
import mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex("b814000000cd80c3"))
function = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
print("trying", flush=True)
print("returned", function(), flush=True)
"""

X32 = """
print("trying", flush=True)
print("returned", libc.syscall(ctypes.c_long(0x40000000 | 39)), flush=True)
"""


@ON_X86
@BOTH
@pytest.mark.parametrize("machine", ["i386", "x32"])
async def test_hostile_calls_of_other_machines_kill(guarded, level, machine):
    async with attack(guarded) as client:
        outcome = await client.run(argv=program(INT80 if machine == "i386" else X32))
        done = outcome.done
        assert outcome.stdout == "trying\n"
        if machine == "i386" and done["signal"] == "SIGSEGV":
            pytest.skip("a kernel without int 0x80")
        assert done["reason"] == "seccomp" and done["signal"] == "SIGSYS"
        assert done["exit_code"] == -31


LOOK = """
results = {}
for pid in given["pids"] + [1]:
    at = "/proc/%d/" % pid
    results[pid] = {
        "kill": attempt(os.kill, pid, 0),
        "ptrace": call(given["ptrace"], 16, pid, 0, 0),
        "pidfd": attempt(os.pidfd_open, pid),
        "listed": str(pid) in os.listdir("/proc"),
        "files": sorted({attempt(os.open, at + each, os.O_RDONLY)
                         for each in ("mem", "environ", "maps", "status", "stat", "cmdline",
                                      "exe", "fd", "root", "cwd", "ns/mnt", "ns/net", "task")}),
        "links": sorted({attempt(os.readlink, at + each)
                         for each in ("exe", "root", "cwd", "fd/0", "fd/3", "ns/user")}),
    }
own = {str(os.getpid())}
tell([results, sorted(set(filter(str.isdigit, os.listdir("/proc"))) - own), os.getppid()])
"""


async def test_hostile_no_process_of_others_is_visible(guarded):
    """Neither ours nor another session's: no number leads to it, and /proc shows none."""
    async with beside(guarded), await Client.open(guarded) as other:
        held, _ = await hold(other, "tell(0)\nsignal.pause()")
        async with await Client.open(guarded) as client:
            await client.run("true")
            pids = [
                guarded.pid,
                guarded.frontend_pid(),
                os.getpid(),
                entry_of(guarded, client)["init_pid"],
                entry_of(guarded, other)["init_pid"],
                held.started["pid"],
            ]
            results, listed, parent = await probe(
                client, LOOK, pids=pids, **numbers_of(["ptrace"])
            )
        assert listed == [] and parent == 1
        own_init = results.pop("1")
        assert own_init.pop("kill") in ("ok", "EPERM"), "it exists, and that is all"
        assert own_init.pop("pidfd") in ("ok", "EPERM")
        assert own_init == {
            "ptrace": "EPERM",
            "listed": False,
            "files": ["ENOENT"],
            "links": ["ENOENT"],
        }
        for pid, seen in results.items():
            assert seen == {
                "kill": "ESRCH",
                "ptrace": "EPERM",
                "pidfd": "ESRCH",
                "listed": False,
                "files": ["ENOENT"],
                "links": ["ENOENT"],
            }, pid
        await other.control("CANCEL")
        await other.finish(held)


async def test_hostile_root_of_init_is_no_way_out(guarded):
    async with attack(guarded) as client:
        outcome = await client.run(
            "ls /proc/1/root /proc/1/cwd 2>/dev/null; cat /proc/1/environ 2>/dev/null; "
            "cd /proc/1/root 2>/dev/null && ls; ls /proc/self/root /proc/self/root/../../..; "
            "ls /.. /../../home /home /root /boot /opt /srv 2>/dev/null; echo done"
        )
        words = set(outcome.stdout.split())
        assert "done" in words and "usr" in words
        assert not words & {"home", "root", "boot", "srv", "opt", "mnt", "media", "sys"}, words
        for cwd in ("/proc/1/root", "/proc/1/cwd", "/proc/self/fd/3", "/proc/self/fd/5"):
            with pytest.raises(Refused) as refused:
                await client.run("pwd", cwd=cwd)
            assert refused.value.code == -32013


TOUCH_OWN = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Preloaded into what /proc/self/exe is before a command's own program is there. */
__attribute__((constructor)) static void touch(void)
{
    char path[4096] = "";

    if (readlink("/proc/self/exe", path, sizeof(path) - 1) < 0 ||
        strstr(path, "bulkhead") == NULL) {
        return;
    }
    printf("running %s\n", path);
    printf("written %d\n", open("/proc/self/exe", O_WRONLY) >= 0);
    printf("truncated %d\n", truncate("/proc/self/exe", 0) == 0);
    chmod("/proc/self/exe", 0777);
    setxattr("/proc/self/exe", "user.touched", "1", 1, 0);
    fflush(stdout);
    _exit(0);
}
"""


async def test_hostile_own_program_is_out_of_reach(guarded):
    """
    What a command is before its own program is loaded is ours, and
    /proc/self/exe leads to it, as a program and as an interpreter. Whoever
    gets code to run there has a copy that cannot be written, and no file of
    the host.
    """
    before = BULKHEADD.stat()
    async with attack(guarded) as client:
        await client.run("printf '#!/proc/self/exe --version\\n' >x; chmod 755 x")
        more = {}
        if shutil.which("gcc"):
            outcome = await client.run(
                f"cat >touch.c <<'END'\n{TOUCH_OWN}\nEND\n"
                "gcc -shared -fPIC -o touch.so touch.c && echo made"
            )
            more = {"env": {"LD_PRELOAD": "/workspace/touch.so"}} if outcome.stdout else {}
        for argv in (["/proc/self/exe", "--version"], ["/workspace/x"]):
            try:
                outcome = await client.run(argv=argv, **more)
            except Refused as refused:
                assert refused.code == -32013
                continue
            words = outcome.stdout.split()
            if more and words[:1] == ["running"]:
                assert words[1].startswith("/memfd:"), words
                assert words[-4:] == ["written", "0", "truncated", "0"], words
        told = await probe(client, TOUCH_OTHERS)
        assert "ok" not in told, told
    after = BULKHEADD.stat()
    assert (after.st_mode, after.st_size, after.st_mtime, after.st_ctime) == (
        before.st_mode,
        before.st_size,
        before.st_mtime,
        before.st_ctime,
    )


TOUCH_OTHERS = """
results = []
for path in ("/proc/self/exe", os.readlink("/proc/self/exe"), "/proc/1/exe"):
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        results.append(attempt(os.open, path, flags))
    results.append(attempt(os.chmod, path, 0o777))
    results.append(attempt(os.utime, path))
    results.append(attempt(os.setxattr, path, "user.x", b"1"))
tell(results)
"""


WRITE_PROC = """
opened, written = [], []
for folder, folders, files in os.walk("/proc"):
    folders[:] = [each for each in folders
                  if not each.isdigit() and each not in ("self", "thread-self", "net")]
    for each in files:
        path = os.path.join(folder, each)
        try:
            fd = os.open(path, os.O_WRONLY)
        except OSError:
            continue
        opened.append(path)
        # what it holds already, so that nothing changes where it goes through
        if path.startswith("/proc/sys/"):
            try:
                with open(path, "rb") as file:
                    data = file.read(4096)
                os.write(fd, data)
                written.append(path)
            except OSError:
                pass
        os.close(fd)
tell([opened, written])
"""


@BOTH
async def test_hostile_nothing_of_the_kernel_is_set_through_proc(guarded, level):
    async with attack(guarded) as client:
        opened, written = await probe(client, WRITE_PROC)
        assert written == []
        # the one asks for a capability on write; the others take a request to be woken, no setting
        pressure = {f"/proc/pressure/{each}" for each in ("cpu", "io", "memory", "irq")}
        assert set(opened) <= {"/proc/sys/kernel/ns_last_pid"} | pressure, opened
        outcome = await client.run(
            "for f in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/vm/drop_caches "
            "/proc/sys/net/ipv4/ip_forward /proc/1/oom_score_adj /proc/sys/kernel/hostname; do "
            "(echo h >$f) 2>/dev/null && echo wrote $f; done; "
            "echo -1000 2>/dev/null >/proc/self/oom_score_adj && echo oom; echo done"
        )
        assert outcome.stdout.splitlines()[-1] == "done" and "wrote" not in outcome.stdout
        assert "oom" not in outcome.stdout


async def test_hostile_no_sys_and_no_cgroup(guarded):
    async with attack(guarded) as client:
        outcome = await client.run(
            "cat /proc/self/mountinfo; ls -d /sys /sys/fs/cgroup 2>/dev/null"
        )
        kinds = {line.split(" - ")[1].split()[0] for line in outcome.stdout.splitlines()}
        assert not kinds & {"sysfs", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "bpf"}
        assert "/sys" not in outcome.stdout.replace("/proc/sys", "")


WRITABLE = {"/tmp", "/dev/shm", "/workspace", "/proc", "/dev/pts"}
DEVICES = {f"/dev/{each}" for each in ("null", "zero", "full", "random", "urandom", "tty")}


async def test_hostile_every_mount_is_as_it_must_be(guarded):
    """nosuid all; nodev but for the devices themselves; read-only but where a command works."""
    async with attack(guarded) as client:
        lines = (await client.run("cat /proc/self/mountinfo")).stdout.splitlines()
    assert len(lines) > 10
    for line in lines:
        before, _ = line.split(" - ")
        place, options = before.split()[4], before.split()[5].split(",")
        assert "nosuid" in options, line
        assert "nodev" in options or place in DEVICES | {"/dev/pts"}, line
        assert "ro" in options or place in WRITABLE | DEVICES, line
        assert "shared:" not in before and "master:" not in before, line


SETUID = """
import glob, stat, subprocess
found = []
for path in sorted(glob.glob("/usr/bin/*")):
    mode = os.lstat(path).st_mode
    if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID) and os.access(path, os.X_OK):
        found.append(path)
# of one's own: without another uid it gives nothing, and may not be given away
mine = "/tmp/mine-" + given["mark"]
os.system("cp /usr/bin/true %s && chmod 6755 %s" % (mine, mine))
found.append(mine)
results = {}
for path in found[-8:]:
    try:
        shown = subprocess.run([path, "--version"], env={"LD_SHOW_AUXV": "1"}, timeout=2,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL).stdout
    except subprocess.TimeoutExpired as late:
        shown = late.stdout
    words = dict(line.split(":", 1) for line in (shown or b"").decode().splitlines()
                 if line.startswith("AT_") and ":" in line)
    results[path] = [words.get(each, "none").strip()
                     for each in ("AT_SECURE", "AT_UID", "AT_EUID", "AT_GID", "AT_EGID")]
chown = attempt(os.chown, mine, 0, 0)
os.unlink(mine)
tell([results, chown, os.getuid(), os.getgid()])
"""


@BOTH
async def test_hostile_set_user_id_gives_nothing(guarded, level):
    """
    The loader shows what the kernel says of a program that it runs: a program
    that gains something is marked secure, and shows nothing at all.
    """
    async with attack(guarded) as client:
        results, chown, uid, gid = await probe(client, SETUID, mark=guarded.mark)
        # in a cell of an ordinary user's there is no uid 0 at all
        assert chown in ("EPERM", "EINVAL")
        own = ["0", str(uid), str(uid), str(gid), str(gid)]
        assert results and all(seen == own for seen in results.values()), results


SWITCH = """
results = {}
for each, function in {
    "setuid": lambda: os.setuid(0), "setgid": lambda: os.setgid(0),
    "setreuid": lambda: os.setreuid(0, 0), "setresuid": lambda: os.setresuid(0, 0, 0),
    "setresuid 1": lambda: os.setresuid(1, 1, 1),
    "setgroups": lambda: os.setgroups([0]), "chroot": lambda: os.chroot("/usr"),
    "nice": lambda: os.setpriority(os.PRIO_PROCESS, 0, -5),
    "fifo": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
}.items():
    results[each] = attempt(function)
with open("/proc/self/status") as file:
    status = dict(line.rstrip("\\n").split(":\\t", 1) for line in file if ":\\t" in line)
libc.prctl(4, 1)  # dumpable again, that is all
results["no_new_privs"] = libc.prctl(38, 0, 0, 0, 0)  # cannot be taken back
tell([results, {each: status[each] for each in
     ("CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs", "Seccomp", "Uid")}])
"""


@BOTH
async def test_hostile_no_other_identity_can_be_had(guarded, level):
    async with attack(guarded) as client:
        results, status = await probe(client, SWITCH)
        assert results.pop("no_new_privs") == -1
        assert set(results.values()) <= {"EPERM", "EINVAL", "EACCES"}, results
        uid = status.pop("Uid").split()
        assert len(set(uid)) == 1 and uid[0] != "0"
        assert status == {
            "CapInh": "0" * 16,
            "CapPrm": "0" * 16,
            "CapEff": "0" * 16,
            "CapAmb": "0" * 16,
            "NoNewPrivs": "1",
            "Seccomp": "2",
        }


async def test_hostile_the_cell_says_nothing_of_the_host(guarded):
    async with attack(guarded) as client:
        outcome = await client.run("uname -n; hostname; cat /etc/hostname /etc/passwd; id; env")
        assert outcome.stdout.splitlines()[:3] == ["cell", "cell", "cell"]
        host = os.uname().nodename
        assert host == "cell" or host not in outcome.stdout.split()
        assert "uid=1000(tenant) gid=1000(tenant)" in outcome.stdout
        assert str(guarded.folder) not in outcome.stdout
        if AM_ROOT:
            assert (read_file("/etc/passwd") or "") not in outcome.stdout
