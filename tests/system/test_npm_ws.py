"""The same server seen by another client library: npm's ws."""

import json
import shutil
import subprocess

import pytest

from harness import HERE, PATIENCE, pids_with, wait_until

SCRIPTS = HERE / "ws"


@pytest.fixture(scope="session")
def modules():
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node or npm is not installed")
    if not (SCRIPTS / "node_modules" / "ws").is_dir():
        done = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=SCRIPTS,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if done.returncode != 0:
            pytest.skip("npm cannot fetch ws: " + (done.stderr.strip().splitlines() or ["?"])[-1])


def play(server, name, *words):
    """Runs one of the scripts; it prints one line of JSON."""
    done = subprocess.run(
        ["node", SCRIPTS / "client.js", name, server.url, server.token, *words],
        capture_output=True,
        text=True,
        timeout=50 * PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_ws_command_end_to_end(modules, server):
    seen = play(server, "run", "echo out; echo err >&2; exit 3")
    assert seen["order"][:3] == ["connected", "response", "process.started"]
    assert seen["order"][-1] == "process.completed"
    assert seen["stdout"] == "out\n" and seen["stderr"] == "err\n"
    assert seen["completed"]["exit_code"] == 3


def test_ws_long_line_is_cut_and_marked(modules, server):
    seen = play(server, "run", "head -c 9000 /dev/zero | tr '\\0' a; echo; echo after")
    assert seen["stdout"] == "a" * 8192 + "...\nafter\n"
    assert seen["completed"]["stdout_dropped"] == 9000 - 8192


def test_ws_group_is_killed_on_close(modules, server):
    seen = play(server, "leave", f"setsid sleep {server.mark} & sleep {server.mark}")
    assert seen["left"] == "close"
    wait_until(lambda: not pids_with(server.mark), 6, "the end after a close")
    seen = play(server, "terminate", f"setsid sleep {server.mark} & sleep {server.mark}")
    assert seen["left"] == "terminate"
    wait_until(lambda: not pids_with(server.mark), 6, "the end after a reset")


def test_ws_control(modules, server):
    seen = play(server, "control", f"sleep {server.mark}")
    assert seen["statuses"] == ["paused", "resumed", "canceled"]
    assert seen["unknown"]["code"] == -32602
    assert seen["unknown"]["message"] == "Unknown control type: EXPLODE"
    assert seen["completed"]["reason"] == "canceled"
    assert seen["gone"]["code"] == -32002


def test_ws_session_limit(modules, make_server):
    server = make_server("--max-sessions", "5")
    seen = play(server, "limit", "5")
    assert seen["error"]["code"] == -32003
    assert seen["close"] == {"code": 1008, "reason": "Session limit exceeded"}
    assert seen["again"] == "connected", "a freed place can be used again"


def test_ws_large_frames_and_compression_offer(modules, server):
    seen = play(server, "large")
    assert seen["taken"] is True
    assert seen["close"]["code"] == 1009


def test_ws_flood_with_backpressure(modules, server):
    seen = play(server, "flood", "seq 200000")
    assert seen["lines"] == 200000 and seen["last"] == "200000"
    assert seen["completed"]["stdout_dropped"] == 0
