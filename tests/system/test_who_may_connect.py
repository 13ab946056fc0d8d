"""Tokens, Host and Origin, Unix sockets, and the HTTP beside the WebSocket."""

import json
import os
import socket
import stat
import subprocess

import pytest
import websockets

from clients import Client, Packed, echo_works
from harness import AM_ROOT, Server
from rawsocket import RawSocket, upgrade_request


def handshake(server, **more):
    """The HTTP status of an upgrade, and the head of the answer."""
    with RawSocket(server) as raw:
        raw.send(upgrade_request(server, **more))
        return raw.read_head()


# ---- HTTP ----


def test_health(server):
    code, headers, body = server.http("/health")
    assert code == 200 and headers["Content-Type"].startswith("application/json")
    health = json.loads(body)
    assert health["status"] == "healthy"
    assert health["service"] and isinstance(health["service"], str)
    assert health["version"] and isinstance(health["version"], str)
    assert health["active_sessions"] == 0 and health["max_sessions"] == 100
    assert isinstance(health["uptime_seconds"], float)
    later = json.loads(server.http("/health")[2])
    assert later["uptime_seconds"] >= health["uptime_seconds"]


async def test_health_counts_sessions(server):
    async with await Client.open(server), await Client.open(server):
        assert json.loads(server.http("/health")[2])["active_sessions"] == 2


def test_healthz_and_readyz(server):
    code, _, body = server.http("/healthz")
    assert code == 200 and json.loads(body) == {"status": "ok"}
    code, _, _ = server.http("/readyz")
    assert code == 200


def test_head_of_health(server):
    code, headers, body = server.http("/health", method="HEAD")
    assert code in (200, 405) and body == b""


def test_other_paths_are_404_and_never_an_echo(server):
    bodies = set()
    for path in (
        "/",
        "/nothing",
        "/health/",
        "/healthx",
        "/../etc/passwd",
        "/<script>alert(1)</script>",
        "/ws/",
        "/mcp",
        "/wsx",
        "/?x=y",
        "/a" * 500,
    ):
        code, headers, body = server.http(path)
        assert code == 404, path
        assert b"script" not in body and b"passwd" not in body
        assert path == "/" or path not in str(headers)
        bodies.add(body)
    assert len(bodies) == 1, "a constant body"


def test_plain_get_of_the_websocket_path(server):
    code, _, body = server.http("/ws")
    assert 400 <= code < 500
    assert b"/ws" not in body


def test_other_methods_are_405(server):
    for path in ("/health", "/healthz", "/readyz"):
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            code, _, _ = server.http(path, method=method, body=b"" if method != "OPTIONS" else None)
            assert code in (405, 400, 403), (method, path, code)
            assert code != 200
    code, _, _ = server.http("/health", method="POST", body=b"x")
    assert code == 405


async def test_status_needs_the_token_and_tells_what_is_held(server):
    code, headers, body = server.http("/status")
    assert code == 401 and headers["WWW-Authenticate"] == "Bearer"
    for wrong in (
        "Bearer wrong",
        "Bearer ",
        "Basic " + server.token,
        server.token,
        "Bearer " + server.token + "x",
        "Bearer " + server.token[:-1],
    ):
        assert server.http("/status", headers={"Authorization": wrong})[0] == 401, wrong
    async with await Client.open(server) as client:
        outcome = await client.start("echo 12345; sleep 600")
        await client.output_until(outcome, lambda o: o.stdout)
        status = server.status()
        assert status["pid"] == server.pid
        assert status["sessions"] == 1 and status["max_sessions"] == 100
        assert status["commands"] == 1 and status["cells"] >= 1
        assert not AM_ROOT or status["descriptors"] == len(os.listdir(f"/proc/{server.pid}/fd"))
        assert status["uptime_seconds"] > 0
        assert os.path.exists(f"/proc/{status['frontend_pid']}")
        (entry,) = status["session_list"]
        assert entry["session_id"] == client.connected["session_id"]
        assert entry["exec_id"] == outcome.started["exec_id"]
        assert entry["pid"] == outcome.started["pid"]
        assert entry["peer"].startswith("127.0.0.1")
        assert entry["stdout_bytes"] == 6 and entry["stderr_bytes"] == 0
        assert entry["age_seconds"] >= 0 and entry["state"]
        assert os.path.exists(f"/proc/{entry['init_pid']}")
        if AM_ROOT:
            assert os.stat(f"/proc/{entry['pid']}").st_uid == entry["uid"]
    assert server.token not in server.log_text()


async def test_status_lists_a_hundred_sessions(server):
    clients = [await Client.open(server) for _ in range(100)]
    listed = {entry["session_id"] for entry in server.status()["session_list"]}
    assert listed == {client.connected["session_id"] for client in clients}
    for client in clients:
        await client.drop()


# ---- tokens ----


async def test_token_is_needed_on_tcp(server):
    code, head = handshake(server, token="")
    assert code == 401 and "www-authenticate: bearer" in head.lower()
    for header in ("Basic dXNlcjpwYXNz", "Bearer", "bearer:x"):
        code, _ = handshake(server, token="", more=[f"Authorization: {header}"])
        assert code == 401, header
    for wrong in ("x", server.token[:-1], server.token + "a", server.token.swapcase(), "A" * 400):
        client = await Client.open(server, token=wrong, greet=False)
        message = await client.receive()
        assert message["error"]["code"] == -32010 and message["id"] is None
        code, _ = await client.wait_closed()
        assert code == 4001
    # a token longer than any, and one in the URL
    code, _ = handshake(server, token="A" * 3000)
    assert code in (401, 400, 413, 431) or code == 101
    with pytest.raises(websockets.exceptions.InvalidStatusCode):
        await Client.open(server, token="", path=f"/ws?token={server.token}")
    await echo_works(server)
    assert server.status()["sessions"] == 0


async def test_wrong_token_gets_no_session_and_no_process(server):
    before = server.steady()
    for _ in range(50):
        client = await Client.open(server, token="wrong", greet=False)
        try:
            await client.send({"id": 1, "method": "execute", "params": {"command": "true"}})
        except websockets.exceptions.ConnectionClosed:
            pass  # it was refused already
        code, _ = await client.wait_closed()
        assert code == 4001
        assert [m["error"]["code"] for m in client.pending] == [-32010]
    server.wait_back(before)


def test_token_file_is_private_and_made_anew(make_server):
    tokens = set()
    for _ in range(2):
        server = make_server()
        path = server.runtime / "token"
        about = path.stat()
        assert stat.S_IMODE(about.st_mode) == 0o600
        assert os.access(path, os.R_OK), "the one who started it can read it"
        text = path.read_text()
        assert len(text) == 44 and text.endswith("\n")
        assert set(text.strip()) <= set(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        )
        tokens.add(text)
        assert text.strip() not in "\0".join(
            subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout.split()
        )
    assert len(tokens) == 2


async def test_token_file_of_ones_own(make_server, folder):
    path = folder / "secret"
    path.write_text("correct-horse-battery-staple-0123456789\n")
    path.chmod(0o600)
    server = make_server("--token-file", path)
    assert not (server.runtime / "token").exists()
    async with await Client.open(server, token=path.read_text().strip()) as client:
        assert (await client.run("echo in")).stdout == "in\n"
    client = await Client.open(server, token="other", greet=False)
    assert (await client.wait_closed())[0] == 4001
    assert path.exists(), "it is not ours to remove"


async def test_no_token_with_auth_none_on_loopback_only(make_server):
    server = make_server("--auth", "none")
    assert server.token is None
    async with await Client.open(server) as client:
        assert (await client.run("echo in")).stdout == "in\n"
    for address in ("0.0.0.0:0", "[::]:0"):
        refused = Server("--auth", "none", listen=(address,))
        try:
            refused.start(wait=False)
            assert refused.process.wait(20) == 100
            assert "loopback" in refused.log_text() or "--auth none" in refused.log_text()
        finally:
            refused.process.poll() is None and refused.process.kill()
            refused.remove()


# ---- Host and Origin ----


def test_host_is_checked(server):
    port = server.port
    for good in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}"):
        assert handshake(server, host=good)[0] == 101, good
    for bad in (
        "evil.example",
        f"evil.example:{port}",
        f"127.0.0.1.evil.example:{port}",
        f"localhost.evil:{port}",
        "10.0.0.1",
        f"xlocalhost:{port}",
    ):
        assert handshake(server, host=bad)[0] == 403, bad
    # no Host at all
    with RawSocket(server) as raw:
        request = upgrade_request(server)
        raw.send(request.replace(f"Host: {server.origin}\r\n".encode(), b""))
        assert raw.read_head()[0] in (400, 403)


def test_origin_is_checked(server):
    own = f"http://{server.origin}"
    assert handshake(server, more=[f"Origin: {own}"])[0] == 101
    for bad in (
        "http://evil.example",
        "null",
        "http://127.0.0.1",
        f"http://127.0.0.1:{server.port}1",
        f"http://{server.origin}.evil.example",
        f"http://evil.example/{server.origin}",
        "file://",
        f"http://localhost:{server.port}x",
        f"http://x@{server.origin}",
    ):
        assert handshake(server, more=[f"Origin: {bad}"])[0] == 403, bad
    before = server.steady()
    for _ in range(20):
        handshake(server, more=["Origin: http://evil.example"])
    server.wait_back(before)


def test_hosts_and_origins_can_be_allowed(make_server):
    server = make_server(
        "--allow-host",
        "build.example",
        "--allow-origin",
        "https://app.example",
        "--allow-origin",
        "https://other.example:8443",
    )
    assert handshake(server, host="build.example")[0] == 101
    assert handshake(server, host="else.example")[0] == 403
    for good in ("https://app.example", "https://other.example:8443"):
        assert handshake(server, more=[f"Origin: {good}"])[0] == 101
    for bad in (
        "http://app.example",
        "https://app.example:444",
        "https://other.example",
        "https://app.example.evil",
        "https://app.exampl",
    ):
        assert handshake(server, more=[f"Origin: {bad}"])[0] == 403, bad


# ---- listeners ----


async def test_unix_socket_needs_no_token(make_server):
    server = make_server(listen=("unix:{runtime}/socket",))
    assert not (server.runtime / "token").exists(), "no TCP listener, no token"
    for dialect in ({}, {"dialect": Packed}):
        async with await Client.open(server, unix=True, **dialect) as client:
            outcome = await client.run("echo unix")
            assert outcome.stdout in ("unix\n", b"unix\n")


async def test_several_listeners(make_server):
    server = make_server(
        listen=("127.0.0.1:0", "unix:{runtime}/socket", "[::1]:0")
        if has_ipv6()
        else ("127.0.0.1:0", "unix:{runtime}/socket", "127.0.0.1:0")
    )
    addresses = server.addresses
    assert len(addresses) == 3 and len(set(addresses)) == 3
    async with await Client.open(server) as one, await Client.open(server, unix=True) as other:
        assert (await one.run("echo 1")).stdout == "1\n"
        assert (await other.run("echo 2")).stdout == "2\n"
        peers = {entry["peer"] for entry in server.status()["session_list"]}
        assert len(peers) == 2
    async with websockets.client.connect(
        addresses[2], extra_headers=server.bearer(), compression=None
    ) as third:
        assert "connected" in await third.recv()


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


@pytest.mark.skipif(not AM_ROOT, reason="another user's uid is needed")
def test_unix_socket_refuses_another_user(make_server):
    """The peer's uid is the identity: who may not is told so, and gets no session."""
    server = make_server("--auth", "none", listen=("127.0.0.1:0", "unix:{runtime}/socket"))
    before = server.steady()
    probe = (
        "import socket,sys\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "try:\n"
        "    s.connect(sys.argv[1])\n"
        "except PermissionError:\n"
        "    print('403 by the file system'); sys.exit()\n"
        "s.sendall(b'GET /status HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')\n"
        "print(s.recv(4096).decode())\n"
    )
    answer = subprocess.run(
        ["/usr/bin/python3", "-c", probe, server.unix_path],
        capture_output=True,
        text=True,
        user=54321,
        group=54321,
        extra_groups=[],
        timeout=30,
        check=True,
        cwd="/",
    ).stdout
    assert "403" in answer.splitlines()[0], answer
    server.wait_back(before)


def test_unix_socket_path_too_long_is_refused(folder):
    refused = Server(listen=(f"unix:{folder}/" + "x" * 200,))
    try:
        refused.start(wait=False)
        assert refused.process.wait(20) in (100, 111)
        assert "unix:" in refused.log_text() or "long" in refused.log_text()
    finally:
        refused.remove()


def test_taken_port_is_a_fault_of_the_system(server):
    second = Server(listen=(server.origin,))
    try:
        second.start(wait=False)
        assert second.process.wait(20) == 111
        assert "in use" in second.log_text() and server.origin in second.log_text()
    finally:
        second.remove()


def test_second_server_in_one_runtime_folder_is_refused(server):
    second = Server()
    second.runtime = server.runtime
    try:
        second.start(wait=False)
        assert second.process.wait(20) in (100, 111)
        assert str(server.runtime) in second.log_text()
    finally:
        second.remove()
    assert server.status()["pid"] == server.pid
    assert (server.runtime / "token").exists()


async def test_no_session_without_the_right_token_even_at_the_limit(make_server):
    server = make_server("--max-sessions", "1")
    async with await Client.open(server):
        client = await Client.open(server, token="wrong", greet=False)
        code, _ = await client.wait_closed()
        assert code in (4001, 1008)
