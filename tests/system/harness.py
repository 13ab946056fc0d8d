"""
What the system tests share: servers of their own, looks into /proc, waiting
with a bound.

A Server runs the real bulkheadd in a folder of its own on a free port. When a
test is over, the server is stopped in order and the harness proves that
nothing of it is left: no process, no file it made, no error in its log.
"""

import asyncio
import http.client
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = pathlib.Path(os.environ.get("BULKHEAD_BUILD") or ROOT / "build").resolve()
DATA = ROOT.parent / "shared" / "data"
AM_ROOT = os.geteuid() == 0
SANITIZED = os.environ.get("BULKHEAD_SANITIZED", "") not in ("", "0")
KEEP = os.environ.get("KEEP", "") not in ("", "0")

BULKHEADD = BUILD / "bulkheadd"
FRONTEND = BUILD / "bulkhead-frontend"
CLIENT = BUILD / "bulkhead"

# Ready cells that a server keeps where it is not told otherwise.
POOL = 1

# How much longer than on a quiet machine a bound may take.
PATIENCE = 4 if SANITIZED else 2

TICK = os.sysconf("SC_CLK_TCK")

# Values that may be in our own environment and must never reach a command.
CANARY = "canary-" + secrets.token_hex(8)


# ---- waiting ----


def wait_until(check, seconds, what):
    """Returns check()'s first true value; fails when the bound is over."""
    end = time.monotonic() + seconds * PATIENCE
    pause = 0.005
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds * PATIENCE:g} s in vain for: {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


async def until(check, seconds, what):
    """As wait_until, while the event loop goes on."""
    end = time.monotonic() + seconds * PATIENCE
    pause = 0.005
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds * PATIENCE:g} s in vain for: {what}")
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.1)


# ---- /proc ----


def read_file(path):
    """The text of a file in /proc, or None when the process is gone."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None


def proc_stat(pid):
    """The fields of /proc/PID/stat after the name, or None. [0] is the state."""
    text = read_file(f"/proc/{pid}/stat")
    return text[text.rindex(")") + 2 :].split() if text else None


def proc_state(pid):
    stat = proc_stat(pid)
    return stat[0] if stat else None


def proc_start(pid):
    """With the pid, this names a process for good."""
    stat = proc_stat(pid)
    return stat[19] if stat else None


def proc_alive(pid):
    """Whether the process is there and not merely waiting to be reaped."""
    return proc_state(pid) not in (None, "Z", "X")


def proc_ticks(pid):
    stat = proc_stat(pid)
    return int(stat[11]) + int(stat[12]) if stat else 0


def proc_status(pid):
    text = read_file(f"/proc/{pid}/status")
    if text is None:
        return None
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def proc_cmdline(pid):
    text = read_file(f"/proc/{pid}/cmdline")
    return text.rstrip("\0").split("\0") if text else []


def proc_fds(pid):
    """{number: what it points to}, or None where we may not look."""
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except FileNotFoundError:
        return {}
    except PermissionError:
        return None
    found = {}
    for number in numbers:
        try:
            found[int(number)] = os.readlink(f"/proc/{pid}/fd/{number}")
        except OSError:
            pass
    return found


def all_pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def descendants(pid):
    """The pids of every process below pid."""
    parents = {}
    for other in all_pids():
        stat = proc_stat(other)
        if stat:
            parents.setdefault(int(stat[1]), []).append(other)
    found, left = [], [pid]
    while left:
        for child in parents.get(left.pop(), []):
            found.append(child)
            left.append(child)
    return found


def pids_with(mark):
    """Every living process with mark somewhere in its command line."""
    found = []
    for pid in all_pids():
        if pid == os.getpid() or not proc_alive(pid):
            continue
        if any(mark in word for word in proc_cmdline(pid)):
            found.append(pid)
    return found


def memory_of(pids):
    """
    The proportional set sizes together. Where we may not read one (as an
    ordinary user, of a process that is not dumpable): what it has for itself,
    and its file pages once for each program, as all processes of a program
    share them.
    """
    total, files = 0, {}
    for pid in pids:
        try:
            text = read_file(f"/proc/{pid}/smaps_rollup")
            match = re.search(r"^Pss:\s+(\d+) kB", text or "", re.M)
            total += int(match.group(1)) if match else 0
        except PermissionError:
            status = proc_status(pid) or {}
            own, shared, file = (
                int(status.get(name, "0 kB").split()[0])
                for name in ("RssAnon", "RssShmem", "RssFile")
            )
            total += own + shared
            program = (proc_cmdline(pid) or ["?"])[0]
            files[program] = max(files.get(program, 0), file)
    return (total + sum(files.values())) * 1024


def is_ours(pid):
    """Whether a process runs one of our programs and not a command."""
    try:
        program = os.readlink(f"/proc/{pid}/exe")
        # bulkheadd and the inits, its forks, run from a copy in memory
        return program.startswith("/memfd:bulkheadd") or pathlib.Path(program).parent == BUILD
    except PermissionError:
        return (read_file(f"/proc/{pid}/comm") or "").startswith("bulkhead")
    except OSError:
        return False


def pids_of(uids):
    """Every living process of a range of uids."""
    found = []
    for pid in all_pids() if uids else []:
        try:
            if os.stat(f"/proc/{pid}").st_uid in uids and proc_alive(pid):
                found.append(pid)
        except FileNotFoundError:
            pass
    return found


def new_uids():
    first = 1000000 + 1024 * secrets.randbelow(2**20)
    return range(first, first + 1024)


def new_mark():
    """A number no other process has in its arguments; also good as seconds to sleep."""
    return f"7{secrets.randbelow(10**9):09d}"


# ---- servers ----

# Those that were started and not yet ended.
running = set()


class Server:
    """A bulkheadd of one's own. Use it as a context, or start() and stop()."""

    def __init__(self, *options, listen=("127.0.0.1:0",), frontend=None, environment=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bulkhead-test-"))
        self.folder.chmod(0o755)  # other uids must reach what lies in it
        self.runtime = self.folder / "runtime"
        self.log_path = self.folder / "log"
        self.options = [str(option) for option in options]
        # A Unix socket lies in the runtime folder, which is made for it.
        self.listen = [address.replace("{runtime}", str(self.runtime)) for address in listen]
        if any("unix:" in address for address in self.listen):
            self.runtime.mkdir(mode=0o755)
        self.frontend_program = frontend
        self.environment = environment or {}
        self.process = None
        self.mark = new_mark()
        # Started by root: uids that no other server uses, so that what it leaves is seen.
        self.uids = new_uids() if AM_ROOT else None
        self.expected_log = []
        self.seen = {}

    # life

    def command_line(self):
        config = self.folder / "empty.conf"
        config.write_text("")
        line = [str(BULKHEADD), "--config", str(config), "--runtime-dir", str(self.runtime)]
        for address in self.listen:
            line += ["--listen", address]
        if self.uids:
            line += ["--uid-range", f"{self.uids[0]}-{self.uids[-1]}"]
        if self.frontend_program:
            line += ["--frontend", str(self.frontend_program)]
        return line + self.options

    def start(self, wait=True):
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in ("PATH", "HOME", "LANG", "XDG_RUNTIME_DIR") or name.endswith("SAN_OPTIONS")
        }
        environment.update({"BULKHEAD_TEST_CANARY": CANARY, "LD_BIND_NOW": ""})
        environment.update(self.environment)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command_line(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        running.add(self)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError(
                    f"bulkheadd left with {self.process.returncode}:\n{self.log_text()}"
                )
            return (self.runtime / "address").exists()

        wait_until(ready, 10, "the address file of bulkheadd")
        self.remember()

    def stop(self):
        """Ends the server in order and proves that nothing is left of it."""
        running.discard(self)
        if self.process is None:
            return
        self.remember()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(15 * PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait()
            self.end_rest()
            raise AssertionError("bulkheadd did not stop on SIGTERM:\n" + self.log_text()) from None
        try:
            assert code == 0, f"bulkheadd left with {code}:\n{self.log_text()}"
            self.check_nothing_left()
            self.check_log()
            assert not list(self.runtime.glob("*")), "files were left in the runtime folder"
        finally:
            self.end_rest()

    def crash(self):
        """SIGKILL, for tests of what happens then."""
        self.remember()
        self.process.kill()
        self.process.wait()

    def remember(self):
        """Keeps the names of all processes below the server, for check_nothing_left()."""
        for pid in descendants(self.process.pid):
            self.seen[pid] = proc_start(pid)

    def left(self):
        family = [
            pid for pid, start in self.seen.items() if proc_alive(pid) and proc_start(pid) == start
        ]
        return sorted(set(family + pids_with(self.mark) + pids_of(self.uids)))

    def check_nothing_left(self):
        wait_until(
            lambda: not self.left(),
            3,
            "the end of " + ", ".join(f"{pid} {proc_cmdline(pid)}" for pid in self.left()),
        )

    def end_rest(self):
        """After a failure: ends, by number, what this server left behind."""
        for pid in self.left():
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass

    def expect_log(self, pattern):
        """Says that an error line that matches is no surprise in this test."""
        self.expected_log.append(re.compile(pattern))

    def check_log(self):
        bad = [
            line
            for line in self.log_text().splitlines()
            if re.search(
                r"\berror\b|AddressSanitizer|LeakSanitizer|runtime error:|\bbug\b|"
                r"Assertion|stack smashing|buffer overflow|panic",
                line,
            )
            and not any(pattern.search(line) for pattern in self.expected_log)
        ]
        assert not bad, "in the log:\n" + "\n".join(bad[:40])

    def log_text(self):
        return self.log_path.read_text("utf-8", "replace") if self.log_path.exists() else ""

    def log_from(self, position):
        with open(self.log_path, "rb") as file:
            file.seek(position)
            return file.read().decode("utf-8", "replace")

    def log_position(self):
        return self.log_path.stat().st_size

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        try:
            if kind is None:
                self.stop()
            else:
                self.abandon()
        finally:
            self.remove()

    def abandon(self):
        """The test has failed already: end everything, say what the log said."""
        running.discard(self)
        if self.process is None:
            return
        self.remember()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5 * PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        time.sleep(0.1)
        self.end_rest()
        sys.stderr.write(f"---- log of bulkheadd ({self.process.returncode}) ----\n")
        sys.stderr.write("\n".join(self.log_text().splitlines()[-60:]) + "\n")

    def remove(self):
        if KEEP:
            sys.stderr.write(f"kept: {self.folder}\n")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    # where it is

    @property
    def pid(self):
        return self.process.pid

    @property
    def addresses(self):
        return (self.runtime / "address").read_text().splitlines()

    @property
    def url(self):
        return next(line for line in self.addresses if line.startswith("ws://"))

    @property
    def origin(self):
        """host:port of the first TCP listener."""
        return self.url[len("ws://") :].split("/", 1)[0]

    @property
    def host(self):
        return self.origin.rpartition(":")[0].strip("[]")

    @property
    def port(self):
        return int(self.origin.rpartition(":")[2])

    @property
    def unix_path(self):
        line = next(line for line in self.addresses if line.startswith("ws+unix://"))
        return line[len("ws+unix://") :]

    @property
    def token(self):
        path = self.runtime / "token"
        return path.read_text().strip() if path.exists() else None

    def connect(self, timeout=10):
        """A plain TCP connection to the first listener."""
        return socket.create_connection((self.host, self.port), timeout * PATIENCE)

    # what it holds

    def ours(self):
        """{name: pid} would lose the inits: a list of (pid, comm) of our own processes."""
        pids = [self.pid] + [pid for pid in descendants(self.pid) if is_ours(pid)]
        return [(pid, (read_file(f"/proc/{pid}/comm") or "").strip()) for pid in pids]

    def our_pids(self):
        return [pid for pid, _ in self.ours()]

    def memory(self):
        return memory_of(self.our_pids())

    def ticks(self):
        return sum(proc_ticks(pid) for pid in self.our_pids())

    def frontend_pid(self):
        return self.status()["frontend_pid"]

    def http(self, path, method="GET", headers=None, body=None, timeout=10):
        """(status, headers, body) of one request on a connection of its own."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout * PATIENCE)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def bearer(self):
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def status(self):
        code, _, body = self.http("/status", headers=self.bearer())
        assert code == 200, f"/status says {code}: {body!r}"
        return json.loads(body)

    def holds(self):
        """What must be the same before and after: everything that can leak."""
        status = self.status()
        frontend = proc_fds(status["frontend_pid"])
        supervisor = proc_fds(self.pid)
        return {
            "sessions": status["sessions"],
            "commands": status["commands"],
            "cells": status["cells"],
            "descriptors": status["descriptors"],
            "supervisor fds": supervisor and len(supervisor),
            "frontend fds": frontend and len(frontend),
            "processes": len(descendants(self.pid)),
            "marked": len(pids_with(self.mark)),
        }

    def steady(self, seconds=10):
        """holds(), once it does not change any more."""
        end = time.monotonic() + seconds * PATIENCE
        last, same = None, 0
        while time.monotonic() < end:
            now = self.holds()
            # without a session only the ready cell may be left
            rest = now["sessions"] > 0 or now["cells"] == POOL
            same = same + 1 if now == last and rest else 0
            if same == 3:
                return now
            last = now
            time.sleep(0.03)
        raise AssertionError(f"the server does not come to rest: {last}")

    def wait_back(self, before, seconds=10):
        """Waits until the server holds what it held before."""
        end = time.monotonic() + seconds * PATIENCE
        while True:
            now = self.holds()
            if now == before:
                return
            if time.monotonic() > end:
                raise AssertionError(f"not given back:\nbefore {before}\nnow    {now}")
            time.sleep(0.05)


class Traces:
    """What commands could leave behind on a server and its host, at the time this is made."""

    def __init__(self, server):
        self.server = server
        self.mounts = self.mounts_now()
        self.before = server.steady()

    @staticmethod
    def mounts_now():
        return pathlib.Path("/proc/self/mountinfo").read_text()

    def check(self):
        """Nothing of it is left: no process, no mount, no uid in use, no count in /status."""
        self.server.wait_back(self.before)
        assert self.mounts_now() == self.mounts, "the host's mounts changed"
        ours = {self.server.pid, *descendants(self.server.pid)}
        strangers = set(pids_of(self.server.uids)) - ours
        assert not strangers, f"processes of a session's uid: {strangers}"
        assert {pid for pid in ours if not is_ours(pid)} == set(), "a command outlived its session"
