"""Stopping the server: in order, at once, and what clients hear of it."""

import asyncio
import os
import signal

import pytest

from clients import Client, Packed
from harness import PATIENCE, pids_with, proc_alive, until, wait_until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_clients_get_their_verdicts_and_then_1001(make_server, number):
    server = make_server()
    one = await Client.open(server)
    other = await Client.open(server, dialect=Packed)
    idle = await Client.open(server)
    first = await one.start(f"echo out; setsid sleep {server.mark} & sleep {server.mark}")
    second = await other.start(
        "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done"
    )
    await one.output_until(first, lambda o: o.stdout)
    await other.output_until(second, lambda o: o.stdout)
    server.remember()
    server.process.send_signal(number)
    await one.finish(first)
    await other.finish(second)
    assert first.done["reason"] == "shutdown" and first.done["exit_code"] == -15
    assert second.done["reason"] == "shutdown" and second.stdout == b"up\nbye\n"
    for client in (one, other, idle):
        code, _ = await client.wait_closed()
        assert code == 1001
    await until(lambda: server.process.poll() is not None, 10, "the end of bulkheadd")
    assert server.process.returncode == 0
    assert not pids_with(server.mark)


async def test_deaf_command_holds_the_shutdown_up_for_the_grace_only(make_server):
    server = make_server("--grace", "500ms")
    client = await Client.open(server)
    outcome = await client.start(f"trap '' TERM; echo up; sleep {server.mark}; sleep {server.mark}")
    await client.output_until(outcome, lambda o: o.stdout)
    begin = asyncio.get_running_loop().time()
    server.process.terminate()
    await client.finish(outcome)
    await until(lambda: server.process.poll() is not None, 10, "the end of bulkheadd")
    assert asyncio.get_running_loop().time() - begin < 4 * PATIENCE
    assert outcome.done["signal"] == "SIGKILL"


async def test_client_that_does_not_read_does_not_hold_the_shutdown_up(make_server):
    server = make_server("--grace", "500ms")
    client = await Client.open(server, max_queue=1, read_limit=1024)
    await client.start(f"yes {server.mark}")
    await asyncio.sleep(0.5)
    server.process.terminate()
    await until(lambda: server.process.poll() is not None, 12, "the end of bulkheadd")
    assert server.process.returncode == 0
    await client.drop()


async def test_second_signal_leaves_at_once(make_server):
    server = make_server("--grace", "60s")
    client = await Client.open(server)
    outcome = await client.start(f"trap '' TERM; echo up; sleep {server.mark}; sleep {server.mark}")
    await client.output_until(outcome, lambda o: o.stdout)
    server.remember()
    server.process.terminate()
    await asyncio.sleep(0.3)
    assert server.process.poll() is None
    server.process.terminate()
    await until(lambda: server.process.poll() is not None, 3, "the end at the second signal")
    await until(lambda: not server.left(), 3, "nothing to be left")
    await client.drop()
    server.process = None


async def test_new_clients_are_refused_while_it_stops(make_server):
    server = make_server("--grace", "2s")
    client = await Client.open(server)
    outcome = await client.start(f"trap '' TERM; echo up; sleep {server.mark}; sleep {server.mark}")
    await client.output_until(outcome, lambda o: o.stdout)
    server.process.terminate()
    await asyncio.sleep(0.3)
    answer = await client.ask("execute", command="echo no")
    assert answer["error"]["code"] in (-32018, -32602)
    with pytest.raises(Exception):
        late = await Client.open(server, open_timeout=1)
        await late.drop()
    await client.finish(outcome)


def test_files_are_gone_after_the_end(make_server):
    server = make_server(listen=("127.0.0.1:0", "unix:{runtime}/socket"))
    assert sorted(os.listdir(server.runtime)) == ["address", "lock", "socket", "token"]
    server.stop()
    assert not server.runtime.exists() or os.listdir(server.runtime) == []


async def test_start_after_a_crash_takes_what_was_left(make_server):
    """The socket file, the lock and the address of one that was killed are in nobody's way."""
    first = make_server(listen=("127.0.0.1:0", "unix:{runtime}/socket"))
    first.crash()
    wait_until(lambda: not first.left(), 3, "the end of the first one")
    assert "socket" in os.listdir(first.runtime)
    (first.runtime / "address").unlink()
    second = make_server(start=False)
    second.listen, second.runtime = first.listen, first.runtime
    second.start()
    async with await Client.open(second, unix=True) as client:
        assert (await client.run("echo anew")).stdout == "anew\n"
    second.stop()
    first.process = None


def test_pid_file(make_server, folder):
    place = folder / "run"
    place.mkdir()
    place.chmod(0o777)
    server = make_server("--pid-file", place / "pid")
    assert (place / "pid").read_text() == f"{server.pid}\n"
    server.stop()
    assert not (place / "pid").exists()


def test_sigusr1_lists_sessions_and_hangup_does_no_harm(make_server):
    server = make_server()

    async def play():
        async with await Client.open(server) as client:
            outcome = await client.start("sleep 600")
            position = server.log_position()
            server.process.send_signal(signal.SIGHUP)
            server.process.send_signal(signal.SIGUSR1)
            await until(
                lambda: str(outcome.started["pid"]) in server.log_from(position), 5, "the list"
            )
            assert client.connected["session_id"] in server.log_from(position)

    asyncio.run(play())
    assert server.process.poll() is None


def test_idle_server_stops_soon(make_server):
    for _ in range(3):
        server = make_server()
        server.process.terminate()
        assert server.process.wait(3 * PATIENCE) == 0


def test_frontend_that_hangs_does_not_hold_the_shutdown_up(make_server):
    server = make_server("--grace", "500ms")
    frontend = server.frontend_pid()
    server.remember()
    server.expect_log("frontend")
    os.kill(frontend, signal.SIGSTOP)
    server.process.terminate()
    assert server.process.wait(12 * PATIENCE) == 0
    wait_until(lambda: not proc_alive(frontend), 3, "the end of the stopped frontend")
