"""bulkhead exec: a command on a running server as if it ran here."""

import json
import os
import pty
import signal
import subprocess
import time

import pytest

from harness import CANARY, CLIENT, PATIENCE, pids_with, wait_until

LIMIT = 60


class Place:
    """bulkhead, told where its server is."""

    def __init__(self, server):
        self.server = server

    def line(self, *words, sub="exec"):
        return [CLIENT, sub, "--runtime-dir", self.server.runtime, *map(str, words)]

    def run(self, *words, sub="exec", **more):
        more.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(
            self.line(*words, sub=sub),
            capture_output="stdout" not in more,
            timeout=LIMIT * PATIENCE,
            **more,
        )

    def start(self, *words, **more):
        more = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **more,
        }
        return subprocess.Popen(self.line(*words), **more)


@pytest.fixture
def place(server):
    return Place(server)


def test_exit_code_is_the_commands(place):
    for code in (0, 1, 7, 100, 111, 125, 255):
        done = place.run("--", "sh", "-c", f"exit {code}")
        assert done.returncode == code and (done.stdout, done.stderr) == (b"", b""), done


def test_signal_is_128_and_its_number(place):
    for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGUSR1, signal.SIGPIPE):
        done = place.run("--", "sh", "-c", f"kill -{int(number)} $$")
        assert done.returncode == 128 + number


def test_timeout_is_124(place):
    begin = time.monotonic()
    done = place.run("--timeout", "300ms", "--", "sleep", "600")
    assert done.returncode == 124
    assert time.monotonic() - begin < 5 * PATIENCE
    assert b"time" in done.stderr
    done = place.run(
        "--timeout", "300ms", "--", "sh", "-c", "trap '' TERM; echo out; sleep 600; sleep 600"
    )
    assert done.returncode == 124 and done.stdout == b"out\n"


def test_missing_is_127_and_not_executable_is_126(place):
    for program in ("/no/such/program", "no-such-program-here"):
        done = place.run("--", program)
        assert done.returncode == 127 and program.encode() in done.stderr
    for program in ("/etc/passwd", "/usr"):
        done = place.run("--", program)
        assert done.returncode == 126, done
    # what a shell says of its own command is the shell's
    assert place.run("--shell", "--", "no-such-program-here").returncode == 127


def test_our_own_failures_are_125(place, folder):
    cases = [
        ["--no-such-option", "--", "true"],
        [],
        ["--"],
        ["--timeout", "soon", "--", "true"],
        ["--env", "NOVALUE", "--", "true"],
        ["--url", "ftp://x/", "--", "true"],
        ["--url", "ws://127.0.0.1:1/ws", "--", "true"],
        ["--token-file", "/no/such/file", "--", "true"],
        ["--cwd", "/no/such/folder", "--", "true"],
        ["--verdict-file", "/no/such/folder/file", "--", "true"],
    ]
    for words in cases:
        done = place.run(*words)
        assert done.returncode == 125, (words, done)
        assert done.stdout == b"" and len(done.stderr.splitlines()) == 1, (words, done)
    done = subprocess.run(
        [CLIENT, "exec", "--runtime-dir", folder, "--", "true"], capture_output=True, timeout=LIMIT
    )
    assert done.returncode == 125 and str(folder).encode() in done.stderr
    wrong = folder / "token"
    wrong.write_text("wrong\n")
    wrong.chmod(0o600)
    done = place.run("--token-file", wrong, "--", "true")
    assert done.returncode == 125 and b"token" in done.stderr.lower(), done


def test_wrong_use_of_the_program_itself():
    for words in ([], ["nonsense"], ["--nonsense"]):
        done = subprocess.run([CLIENT, *words], capture_output=True, timeout=LIMIT)
        assert done.returncode == 100, done


def test_output_is_byte_exact_and_apart(place):
    code = (
        "import sys\n"
        "sys.stdout.buffer.write(bytes(range(256)) * 5000 + b'no newline')\n"
        "sys.stderr.buffer.write(bytes(reversed(range(256))) * 3000)"
    )
    done = place.run("--", "/usr/bin/python3", "-c", code)
    assert done.returncode == 0
    assert done.stdout == bytes(range(256)) * 5000 + b"no newline"
    assert done.stderr == bytes(reversed(range(256))) * 3000


def test_output_comes_as_it_is_written(place):
    process = place.start("--", "sh", "-c", "echo one; sleep 600")
    try:
        begin = time.monotonic()
        assert process.stdout.read1(100) == b"one\n"
        assert time.monotonic() - begin < 5 * PATIENCE
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LIMIT)


def test_large_output_through_a_slow_reader(place):
    process = place.start("--", "sh", "-c", "head -c 20000000 /dev/zero; exit 3")
    time.sleep(0.3)
    assert len(process.stdout.read()) == 20000000
    assert process.wait(LIMIT) == 3
    process.stderr.close()


def test_arguments_arrive_unchanged(place):
    words = [
        "",
        " ",
        "a b",
        "'",
        '"',
        "\\",
        "$HOME",
        "*",
        "\n",
        "\u20ac",
        "--",
        "-x",
        "--json",
        "\udcff\udc80",
    ]
    done = place.run(
        "--",
        "/usr/bin/python3",
        "-c",
        "import os,sys;sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode,sys.argv[1:])))",
        *words,
    )
    assert done.stdout.split(b"\0") == [os.fsencode(word) for word in words]
    # without "--" the first word that is no option begins the command
    done = place.run("echo", "--json", "-n")
    assert done.stdout == b"--json -n\n"


def test_environment_and_folder(place):
    done = place.run(
        "--env",
        "A=one two",
        "--env",
        "B=",
        "-e",
        "C=x=y",
        "--cwd",
        "/usr/lib",
        "--",
        "sh",
        "-c",
        'echo "$A|$B|$C|$(pwd)"; env | grep -c BULKHEAD_TEST',
    )
    assert done.stdout.splitlines() == [b"one two||x=y|/usr/lib", b"0"]
    done = place.run("--", "env")
    assert CANARY.encode() not in done.stdout
    done = place.run("-C", "/", "--", "pwd")
    assert done.stdout == b"/\n"


def test_stdin_is_passed_on_when_asked(place):
    data = bytes(range(256)) * 8000
    done = place.run("--stdin", "--", "cat", stdin=None, input=data)
    assert done.stdout == data and done.returncode == 0
    done = place.run("--", "cat", stdin=None, input=b"not for you")
    assert done.stdout == b""
    # a command that does not read it all ends all the same
    done = place.run("--stdin", "--", "head", "-c", "10", stdin=None, input=data)
    assert done.stdout == data[:10] and done.returncode == 0
    # end of file at once
    assert place.run("--stdin", "--", "wc", "-c").stdout.strip() == b"0"


def test_json_verdict_on_stderr(place):
    done = place.run("--json", "--", "sh", "-c", "echo out; printf part >&2; exit 9")
    assert done.returncode == 9 and done.stdout == b"out\n"
    first, line = done.stderr.split(b"\n", 1)
    assert first == b"part", "the verdict begins a line of its own"
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    verdict = json.loads(line)
    assert verdict["exit_code"] == 9 and verdict["reason"] == "exited"
    assert verdict["stdout_bytes"] == 4 and verdict["stderr_bytes"] == 4
    assert verdict["wall_ms"] >= 0 and isinstance(verdict["protections"], list)
    done = place.run("--json", "--timeout", "200ms", "--", "sleep", "60")
    assert json.loads(done.stderr.splitlines()[-1])["reason"] == "timeout"
    done = place.run("--json", "--", "sh", "-c", "kill -9 $$")
    verdict = json.loads(done.stderr.splitlines()[-1])
    assert verdict["signal"] == "SIGKILL" and done.returncode == 137


def test_verdict_file(place, folder):
    path = folder / "verdict"
    done = place.run("--verdict-file", path, "--", "sh", "-c", "echo err >&2; exit 4")
    assert done.returncode == 4 and done.stderr == b"err\n"
    text = path.read_text()
    assert text.endswith("\n") and len(text.splitlines()) == 1
    assert json.loads(text)["exit_code"] == 4


def interrupted(process, server, number=signal.SIGINT):
    wait_until(lambda: pids_with(server.mark), 10, "the command")
    process.send_signal(number)


def test_interrupt_cancels_and_waits_for_the_verdict(place, server):
    process = place.start(
        "--json",
        "--",
        "sh",
        "-c",
        f"trap 'sleep 0.3; echo bye; exit 3' TERM; echo up; sleep {server.mark} & wait",
    )
    assert process.stdout.read1(10) == b"up\n"
    interrupted(process, server)
    stdout, stderr = process.communicate(timeout=LIMIT)
    assert stdout == b"bye\n", "output to the end"
    verdict = json.loads(stderr.splitlines()[-1])
    assert verdict["reason"] == "canceled"
    assert process.returncode in (3, 130), process.returncode
    assert not pids_with(server.mark)


def test_second_interrupt_leaves(place, server):
    process = place.start(
        "--", "sh", "-c", f"trap '' TERM; echo up; sleep {server.mark}; sleep {server.mark}"
    )
    assert process.stdout.read1(10) == b"up\n"
    begin = time.monotonic()
    interrupted(process, server)
    time.sleep(0.3)
    assert process.poll() is None, "it waits for the verdict"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT)
    assert process.returncode in (125, 130, -2) and time.monotonic() - begin < 2 * PATIENCE
    wait_until(lambda: not pids_with(server.mark), 6, "the end of the command")


def test_sigterm_cancels_too(place, server):
    process = place.start("--", "sleep", server.mark)
    interrupted(process, server, signal.SIGTERM)
    process.communicate(timeout=LIMIT)
    assert process.returncode != 0
    wait_until(lambda: not pids_with(server.mark), 3, "the end of the command")


def test_killed_client_leaves_nothing(place, server):
    process = place.start("--", "sh", "-c", f"setsid sleep {server.mark} & sleep {server.mark}")
    interrupted(process, server, signal.SIGKILL)
    process.communicate(timeout=LIMIT)
    wait_until(lambda: not pids_with(server.mark), 6, "the end of the command")


def test_reader_that_leaves_ends_the_command(place, server):
    """As in `bulkhead exec -- yes | head`: SIGPIPE's way out, quietly."""
    process = place.start("--", "sh", "-c", f"yes {server.mark}")
    process.stdout.read1(100)
    process.stdout.close()
    assert process.wait(LIMIT) != 0
    assert b"rror" not in process.stderr.read()
    process.stderr.close()
    wait_until(lambda: not pids_with(server.mark), 6, "the end of the command")


def test_full_disk_is_a_failure_of_ours(place):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            place.line("--", "echo", "lost"),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=LIMIT,
        )
    assert done.returncode == 125 and done.stderr


def test_server_that_vanishes_is_125(make_server):
    server = make_server()
    process = Place(server).start("--", "sh", "-c", f"echo up; sleep {server.mark}")
    assert process.stdout.read1(10) == b"up\n"
    server.crash()
    stdout, stderr = process.communicate(timeout=LIMIT)
    assert process.returncode == 125 and stderr
    wait_until(lambda: not server.left(), 5, "nothing to be left")
    server.process = None


def test_shutdown_is_not_taken_for_the_commands_end(make_server):
    server = make_server()
    process = Place(server).start(
        "--json", "--", "sh", "-c", "trap 'exit 0' TERM; echo up; sleep 600 & wait"
    )
    assert process.stdout.read1(10) == b"up\n"
    server.process.terminate()
    _, stderr = process.communicate(timeout=LIMIT)
    assert process.returncode != 0, "an exit code of 0 that was not asked for"
    assert (
        json.loads([line for line in stderr.splitlines() if line.startswith(b"{")][0])["reason"]
        == "shutdown"
    )


def test_it_finds_the_server_by_url_and_environment(server):
    token = server.runtime / "token"
    base = {"PATH": os.environ["PATH"]}
    for words, environment in (
        (["--url", server.url, "--token-file", token], {}),
        ([], {"BULKHEAD_URL": server.url, "BULKHEAD_TOKEN_FILE": str(token)}),
        (["--runtime-dir", server.runtime], {"XDG_RUNTIME_DIR": "/nonexistent"}),
    ):
        done = subprocess.run(
            [CLIENT, "exec", *words, "--", "echo", "found"],
            capture_output=True,
            timeout=LIMIT,
            env={**base, **environment},
            stdin=subprocess.DEVNULL,
        )
        assert done.stdout == b"found\n", (words, done)
    # $XDG_RUNTIME_DIR/bulkhead
    link = server.folder / "bulkhead"
    link.symlink_to(server.runtime)
    done = subprocess.run(
        [CLIENT, "exec", "--", "echo", "xdg"],
        capture_output=True,
        timeout=LIMIT,
        env={**base, "XDG_RUNTIME_DIR": str(server.folder)},
        stdin=subprocess.DEVNULL,
    )
    assert done.stdout == b"xdg\n", done


def test_unix_listener(make_server):
    server = make_server(listen=("unix:{runtime}/socket",))
    done = Place(server).run("--", "echo", "unix")
    assert done.stdout == b"unix\n", done
    done = subprocess.run(
        [CLIENT, "exec", "--url", f"ws+unix://{server.unix_path}", "--", "echo", "url"],
        capture_output=True,
        timeout=LIMIT,
        stdin=subprocess.DEVNULL,
    )
    assert done.stdout == b"url\n", done


def test_token_never_shows_in_ps(place, server):
    process = place.start("--", "sleep", server.mark)
    wait_until(lambda: pids_with(server.mark), 10, "the command")
    words = subprocess.run(["ps", "-eo", "args", "e"], capture_output=True).stdout
    assert server.token.encode() not in words
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT)


def test_works_on_a_terminal(place):
    """Output in a terminal is the same; nothing waits for a buffer."""
    leader, follower = pty.openpty()
    process = place.start(
        "--", "sh", "-c", "printf 'prompt> '; exit 2", stdout=follower, stderr=follower
    )
    os.close(follower)
    text = b""
    while True:
        try:
            piece = os.read(leader, 100)
        except OSError:
            break
        if not piece:
            break
        text += piece
    os.close(leader)
    assert process.wait(LIMIT) == 2 and text.startswith(b"prompt> ")


def test_status_lists_what_is_held(place, server):
    process = place.start("--", "sh", "-c", f"echo up; sleep {server.mark}")
    assert process.stdout.read1(10) == b"up\n"
    done = place.run(sub="status")
    assert done.returncode == 0 and not done.stderr
    text = done.stdout.decode()
    held = server.status()
    session = held["session_list"][0]
    for number in (held["pid"], held["frontend_pid"], session["pid"]):
        assert str(number) in text, text
    # an id may be shortened for a person, and is whole for a program
    assert session["session_id"][:8] in text
    done = place.run("--json", sub="status")
    listed = json.loads(done.stdout)
    assert len(done.stdout.splitlines()) == 1
    assert listed["sessions"] == 1 and listed["commands"] == 1 and listed["descriptors"] > 0
    assert listed["session_list"][0]["session_id"] == session["session_id"]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT)
    wait_until(
        lambda: json.loads(place.run("--json", sub="status").stdout)["sessions"] == 0,
        5,
        "no session",
    )


def test_status_without_a_server_is_125(folder):
    done = subprocess.run(
        [CLIENT, "status", "--runtime-dir", folder], capture_output=True, timeout=LIMIT
    )
    assert done.returncode == 125 and len(done.stderr.splitlines()) == 1 and not done.stdout


def test_sixty_commands_at_once(place):
    processes = [place.start("--", "sh", "-c", f"echo {n}; exit {n % 50}") for n in range(60)]
    for number, process in enumerate(processes):
        stdout, stderr = process.communicate(timeout=LIMIT * PATIENCE)
        assert (stdout, stderr) == (f"{number}\n".encode(), b"")
        assert process.returncode == number % 50
