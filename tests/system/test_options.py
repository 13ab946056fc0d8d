"""Options, the configuration file, --check, --help: what is wrong is said clearly."""

import asyncio
import json
import os
import pathlib
import re
import subprocess

import pytest

from clients import Client
from harness import AM_ROOT, BULKHEADD, CLIENT, Server


def bulkheadd(*options, **more):
    """A bulkheadd that must leave by itself."""
    return subprocess.run(
        [BULKHEADD, *map(str, options)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
        **more,
    )


def help_text(program, *words):
    done = subprocess.run([program, *words, "--help"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and not done.stderr
    return done.stdout


def long_options(text):
    return sorted(set(re.findall(r"(?:^|[ ,])--([a-z][a-z-]+)", text, re.M)))


BAD = [
    (["--no-such-option"], "no-such-option"),
    (["-Z"], "Z"),
    (["--max-sessions"], "max-sessions"),
    (["--max-sessions", ""], "max-sessions"),
    (["--max-sessions", "0"], "max-sessions"),
    (["--max-sessions", "-1"], "max-sessions"),
    (["--max-sessions", "+5"], "max-sessions"),
    (["--max-sessions", " 5"], "max-sessions"),
    (["--max-sessions", "5 "], "max-sessions"),
    (["--max-sessions", "5x"], "max-sessions"),
    (["--max-sessions", "0x10"], "max-sessions"),
    (["--max-sessions", "1e3"], "max-sessions"),
    (["--max-sessions", "ten"], "max-sessions"),
    (["--max-sessions", "18446744073709551617"], "max-sessions"),
    (["--max-sessions", "99999999999999999999999999"], "max-sessions"),
    (["--max-line", "-8K"], "max-line"),
    (["--max-line", "8X"], "max-line"),
    (["--max-line", "8KK"], "max-line"),
    (["--max-line", "K"], "max-line"),
    (["--max-line", "17179869184G"], "max-line"),
    (["--max-line", "1.5K"], "max-line"),
    (["--timeout", "soon"], "timeout"),
    (["--timeout", "-1s"], "timeout"),
    (["--timeout", "0"], "timeout"),
    (["--timeout", "5 s"], "timeout"),
    (["--timeout", "99999999999999h"], "timeout"),
    (["--grace", "2fortnights"], "grace"),
    (["--send-timeout", ""], "send-timeout"),
    (["--auth", "password"], "auth"),
    (["--level", "paranoid"], "level"),
    (["--log-level", "loud"], "log-level"),
    (["--log-format", "xml"], "log-format"),
    (["--trace", "msg,nonsense"], "trace"),
    (["--trace", ","], "trace"),
    (["--listen", "localhost"], "listen"),
    (["--listen", "127.0.0.1:65536"], "listen"),
    (["--listen", "127.0.0.1:http"], "listen"),
    (["--listen", "127.0.0.1:-1"], "listen"),
    (["--listen", ":::"], "listen"),
    (["--listen", "unix:"], "listen"),
    (["--listen", "[::1"], "listen"),
    (["--listen", "999.1.1.1:80"], "listen"),
    (["--uid-range", "5"], "uid-range"),
    (["--uid-range", "10-5"], "uid-range"),
    (["--uid-range", "0-70000"], "uid-range"),
    (["--uid-range", "1-4294967296"], "uid-range"),
    (["--uid-range", "a-b"], "uid-range"),
    (["--token-file", "/no/such/file"], "/no/such/file"),
    (["--config", "/no/such/file"], "/no/such/file"),
    (["--pool", "-3"], "pool"),
    (["word"], "word"),
    (["--check", "--", "word"], "word"),
]


@pytest.mark.parametrize(
    "options,named", BAD, ids=[" ".join(options) or "none" for options, _ in BAD]
)
def test_bad_option_is_refused_with_one_clear_line(options, named, folder):
    done = bulkheadd("--runtime-dir", folder / "run", "--check", *options)
    assert done.returncode == 100, done
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert named in lines[0] and len(lines[0]) > len(named) + 10
    # the same without --check
    done = bulkheadd("--listen", "127.0.0.1:0", "--runtime-dir", folder / "run", *options)
    assert done.returncode == 100 and named in done.stderr, done


@pytest.mark.skipif(not AM_ROOT, reason="only root may change its user")
def test_bad_user_is_refused(folder):
    for user in ("no-such-user-here", "root", "0", "-1", "4294967295", "99999999999"):
        done = bulkheadd("--check", "--runtime-dir", folder / "run", f"--user={user}")
        assert done.returncode == 100 and "user" in done.stderr, (user, done)


@pytest.mark.skipif(AM_ROOT, reason="root may change its user")
def test_user_is_for_root_only(folder):
    done = bulkheadd("--check", "--runtime-dir", folder / "run", "--user", "nobody")
    assert done.returncode == 100 and "--user" in done.stderr


GOOD = [
    ["--max-sessions", "1"],
    ["--max-line", "8K"],
    ["--max-line", "1M"],
    ["--timeout", "500ms"],
    ["--timeout", "5m"],
    ["--timeout", "300"],
    ["--timeout", "1h", "--max-timeout", "2h"],
    ["--grace", "0"],
    ["--level", "basic"],
    ["--log-format", "json"],
    ["--trace", "msg,command,io,policy"],
    ["--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--listen", "unix:/tmp/never-made"],
    ["--auth", "none"],
    ["--pool", "0"],
    ["--allow-origin", "https://a.example", "--allow-host", "a.example"],
]


@pytest.mark.parametrize("options", GOOD, ids=[" ".join(options) for options in GOOD])
def test_check_says_configuration_ok(options, folder):
    before = set(os.listdir(folder))
    done = bulkheadd("--check", "--runtime-dir", folder / "run", *options)
    assert done.returncode == 0, done
    assert "configuration OK" in done.stdout + done.stderr
    assert set(os.listdir(folder)) == before, "a check makes nothing"


def test_check_reads_the_whole_file(folder):
    path = folder / "bulkhead.conf"
    path.write_text(
        "# a comment\n"
        "[bulkheadd]\n"
        "listen = 127.0.0.1:0\n"
        "listen = 127.0.0.2:0\n"
        "max-sessions = 7\n"
        "max-line = 4K\n"
        "timeout = 90s\n"
        "log-format = json\n"
    )
    done = bulkheadd("--check", "--config", path)
    assert done.returncode == 0 and "configuration OK" in done.stdout + done.stderr, done


BAD_FILES = [
    ("[bulkheadd]\nno-such-key = 1\n", 2, "no-such-key"),
    ("[bulkheadd]\n\n# x\nmax-sessions = many\n", 4, "max-sessions"),
    ("[bulkheadd]\nmax-sessions = -1\n", 2, "max-sessions"),
    ("[bulkheadd]\nmax-sessions =\n", 2, "max-sessions"),
    ("[bulkheadd]\nmax-line = 8192q\n", 2, "max-line"),
    ("[bulkheadd]\ntimeout = 99999999999999999999\n", 2, "timeout"),
    ("[other]\nmax-sessions = 1\n", 2, "other"),
    ("max-sessions = 1\n", 1, "max-sessions"),
    ("[bulkheadd]\njust words\n", 2, ""),
    ("[bulkheadd\nmax-sessions = 1\n", 1, ""),
    ("[bulkheadd]\nconfig = /x\n", 2, "config"),
    ("[bulkheadd]\nmax-sessions = 1\nmax-sessions = 2\n", 3, "max-sessions"),
    ("[bulkheadd]\nmax-sessions = 1\0\n", 2, "NUL"),
    ("[bulkheadd]\nlisten = " + "x" * 5000 + "\n", 2, ""),
    ("[bulkheadd]\nlevel = FULL\n", 2, "level"),
]


@pytest.mark.parametrize("number", range(len(BAD_FILES)))
def test_bad_file_is_refused_with_file_line_and_reason(number, folder):
    text, line, named = BAD_FILES[number]
    path = folder / "bulkhead.conf"
    path.write_text(text)
    done = bulkheadd("--check", "--config", path)
    assert done.returncode == 100, done
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert f"{path}:{line}: " in done.stderr and named in done.stderr, done.stderr


def test_command_line_wins_over_the_file(folder):
    path = folder / "bulkhead.conf"
    path.write_text("[bulkheadd]\nmax-sessions = 7\nmax-line = 100\n")
    for options, expected in (([], 7), (["--max-sessions", "9"], 9)):
        server = Server(*options)
        line = server.command_line()
        line[line.index("--config") + 1] = str(path)
        server.command_line = lambda line=line: line
        with server:
            health = json.loads(server.http("/health")[2])
            assert health["max_sessions"] == expected

            async def play(server=server):
                async with await Client.open(server) as client:
                    outcome = await client.run("printf %0200d 0")
                    assert len(outcome.stdout) == 103

            asyncio.run(play())


def test_help_and_version():
    text = help_text(BULKHEADD)
    assert text.startswith("Usage:") or "sage" in text.splitlines()[0]
    for name in (
        "listen",
        "auth",
        "token-file",
        "config",
        "max-sessions",
        "max-line",
        "timeout",
        "grace",
        "send-timeout",
        "user",
        "uid-range",
        "level",
        "pool",
        "log-level",
        "log-format",
        "trace",
        "check",
        "pid-file",
        "help",
        "version",
    ):
        assert f"--{name}" in text, name
    done = bulkheadd("--version")
    assert done.returncode == 0 and re.fullmatch(r"bulkheadd \d+\.\d+\.\d+\n", done.stdout)
    done = subprocess.run([CLIENT, "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and re.fullmatch(r"bulkhead \d+\.\d+\.\d+\n", done.stdout)
    # --help wins over what is wrong elsewhere
    assert bulkheadd("--help", "--config", "/no/such/file").returncode == 0


def test_every_option_of_the_help_is_taken_by_the_file_or_says_why_not(folder):
    """One table: what --help lists, the file knows."""
    for name in long_options(help_text(BULKHEADD)):
        path = folder / "bulkhead.conf"
        path.write_text(f"[bulkheadd]\n{name} = \n")
        done = bulkheadd("--check", "--config", path)
        assert "unknown key" not in done.stderr, name


def test_log_format_json(make_server):
    server = make_server("--log-format", "json", "--log-level", "debug", "--trace", "msg,command")

    async def play():
        async with await Client.open(server) as client:
            await client.run('echo "quoted \\\\ \\" text"')
            await client.ask("no\nsuch\x1b[31mmethod\u20ac")

    asyncio.run(play())
    server.stop()
    lines = server.log_text().splitlines()
    assert len(lines) > 5
    for line in lines:
        entry = json.loads(line)
        assert entry["level"] in ("error", "warn", "info", "debug", "msg", "command")
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", line)


def test_trace_shows_messages_and_no_secrets(make_server):
    server = make_server("--trace", "msg")

    async def play():
        async with await Client.open(server) as client:
            await client.run("true; : secret-in-the-command", env={"PASSWORD": "secret-in-env"})

    asyncio.run(play())
    text = server.log_text()
    assert re.search(r"msg: supervisor <- frontend EXECUTE sid=\d+ len=\d+", text)
    assert re.search(r"msg: supervisor -> frontend STARTED sid=\d+ len=\d+", text)
    assert server.token not in text
    assert "secret-in-env" not in text


def test_log_level_is_kept(make_server):
    server = make_server("--log-level", "error")

    async def play():
        async with await Client.open(server) as client:
            await client.run("sleep 60", timeout=0.1)

    asyncio.run(play())
    server.stop()
    assert server.log_text() == ""


def test_defaults_alone_start_a_server(make_server, folder):
    """Without a uid range of the test's; the port is the only thing that is given."""
    server = make_server(start=False)
    server.uids = None
    server.start()

    async def play():
        async with await Client.open(server) as client:
            assert (await client.run("echo default")).stdout == "default\n"

    asyncio.run(play())
    assert pathlib.Path(folder).exists()


def test_address_file_is_readable_and_token_is_not(server):
    assert (server.runtime / "address").stat().st_mode & 0o777 == 0o644
    assert (server.runtime / "token").stat().st_mode & 0o777 == 0o600
    assert server.runtime.stat().st_mode & 0o777 == (0o755 if AM_ROOT else 0o700)
    assert re.fullmatch(r"ws://127\.0\.0\.1:\d+/ws\n", (server.runtime / "address").read_text())


def test_level_basic_works(make_server):
    server = make_server("--level", "basic")

    async def play():
        async with await Client.open(server) as client:
            outcome = await client.run("echo basic")
            assert outcome.stdout == "basic\n"

    asyncio.run(play())
