"""bulkhead run: a command with a private server that is gone at the end."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import pytest

from harness import (
    CLIENT,
    PATIENCE,
    descendants,
    new_mark,
    pids_with,
    proc_alive,
    proc_cmdline,
    proc_start,
    wait_until,
)

LIMIT = 60


class Private:
    """Runs `bulkhead run` in a TMPDIR of its own, so that what it leaves is seen."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bulkhead-test-"))
        self.folder.chmod(0o755)
        self.mark = new_mark()
        self.seen = {}  # pid: start, of everything below a client of ours

    def watch(self, client):
        """Keeps the names of all processes below a client for as long as it lives."""
        while client.poll() is None:
            for pid in descendants(client.pid):
                start = proc_start(pid)
                if start:
                    self.seen.setdefault(pid, start)
            time.sleep(0.005)

    def left(self):
        return [
            pid for pid, start in self.seen.items() if proc_alive(pid) and proc_start(pid) == start
        ] + pids_with(str(self.folder))

    def environment(self):
        kept = {name: value for name, value in os.environ.items() if name.endswith("SAN_OPTIONS")}
        return {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(self.folder),
            "XDG_RUNTIME_DIR": str(self.folder),
            **kept,
        }

    def line(self, *words):
        return [CLIENT, "run", *map(str, words)]

    def start(self, *words, **more):
        more = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **more,
        }
        client = subprocess.Popen(self.line(*words), env=self.environment(), **more)
        threading.Thread(target=self.watch, args=(client,), daemon=True).start()
        return client

    def run(self, *words, input=None):
        client = self.start(*words, stdin=subprocess.DEVNULL if input is None else subprocess.PIPE)
        stdout, stderr = client.communicate(input, timeout=LIMIT * PATIENCE)
        return subprocess.CompletedProcess(client.args, client.returncode, stdout, stderr)

    def check_gone(self):
        wait_until(lambda: not pids_with(self.mark), 6, "the end of the command")
        wait_until(lambda: not self.left(), 6, "the end of the private server")
        wait_until(lambda: not os.listdir(self.folder), 3, "its folder to be gone")


@pytest.fixture
def private():
    place = Private()
    yield place
    try:
        place.check_gone()
    finally:
        shutil.rmtree(place.folder, ignore_errors=True)


def test_it_runs_a_command_with_no_server(private):
    done = private.run("--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    private.check_gone()


def test_exit_codes(private):
    for words, code in (
        (["--", "true"], 0),
        (["--", "sh", "-c", "kill -9 $$"], 137),
        (["--timeout", "300ms", "--", "sleep", "600"], 124),
        (["--", "/no/such/program"], 127),
        (["--", "/etc/passwd"], 126),
        (["--timeout", "x", "--", "true"], 125),
        ([], 125),
    ):
        done = private.run(*words)
        assert done.returncode == code, (words, done)


def test_options_and_stdin(private):
    done = private.run(
        "--env",
        "A=b c",
        "--cwd",
        "/usr",
        "--stdin",
        "--",
        "sh",
        "-c",
        'echo "$A $(pwd)"; cat',
        input=b"\0\xff data",
    )
    assert done.stdout == b"b c /usr\n\0\xff data"


def test_json(private):
    done = private.run("--json", "--", "sh", "-c", "exit 5")
    assert done.returncode == 5 and json.loads(done.stderr)["exit_code"] == 5


def test_interrupt(private):
    process = private.start(
        "--", "sh", "-c", f"echo up; setsid sleep {private.mark} & sleep {private.mark}"
    )
    assert process.stdout.read1(10) == b"up\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT)
    assert process.returncode != 0
    private.check_gone()


def test_interrupt_from_the_keyboard(private):
    """Ctrl-C goes to the whole foreground group; the private server must not be hit by it."""
    process = private.start(
        "--json",
        "--",
        "sh",
        "-c",
        f"trap 'echo bye; exit 3' TERM; echo up; sleep {private.mark} & wait",
        start_new_session=True,
    )
    assert process.stdout.read1(10) == b"up\n"
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=LIMIT)
    assert stdout == b"bye\n"
    assert json.loads(stderr.splitlines()[-1])["reason"] == "canceled"
    private.check_gone()


def test_two_interrupts(private):
    process = private.start(
        "--",
        "sh",
        "-c",
        f"trap '' TERM; echo up; setsid sleep {private.mark} & "
        f"sleep {private.mark}; sleep {private.mark}",
    )
    assert process.stdout.read1(10) == b"up\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT)
    assert time.monotonic() - begin < 3 * PATIENCE
    private.check_gone()


def test_killed_client_leaves_no_process(private):
    """Even SIGKILL for the client ends the private server and the command."""
    process = private.start(
        "--", "sh", "-c", f"echo up; setsid sleep {private.mark} & sleep {private.mark}"
    )
    assert process.stdout.read1(10) == b"up\n"
    process.kill()
    process.communicate(timeout=LIMIT)
    wait_until(lambda: not pids_with(private.mark), 6, "the end of the command")
    wait_until(lambda: not private.left(), 6, "the end of the private server")
    for path in sorted(private.folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def test_several_at_the_same_time(private):
    processes = [private.start("--", "sh", "-c", f"echo {n}; exit {n}") for n in range(8)]
    for number, process in enumerate(processes):
        stdout, stderr = process.communicate(timeout=LIMIT * PATIENCE)
        assert (process.returncode, stdout, stderr) == (number, f"{number}\n".encode(), b"")


def test_nobody_else_gets_in(private):
    """The socket lies where only its owner goes, or is gone already."""
    process = private.start("--", "sh", "-c", f"echo up; sleep {private.mark}")
    assert process.stdout.read1(10) == b"up\n"
    for path in private.folder.iterdir():
        assert not path.stat().st_mode & 0o007, path
    (server,) = [pid for pid in pids_with(str(private.folder)) if pid != process.pid]
    words = proc_cmdline(server)
    listeners = [words[n + 1] for n, word in enumerate(words) if word == "--listen"]
    assert listeners and all(address.startswith("unix:") for address in listeners), words
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT)
