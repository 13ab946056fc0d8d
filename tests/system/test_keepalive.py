"""
The protocol's long timers. All of them run out at the same time, in one test,
as each has to be waited for.
"""

import asyncio
import time

import pytest

from clients import Client, Packed, Plain
from harness import PATIENCE, Server, pids_with, until
from rawsocket import CLOSE, PING, PONG, TEXT, Gone, RawSocket, upgrade_request


async def ping_messages_come_every_30_seconds(server, dialect):
    """`ping` with a timestamp; that no `pong` comes is no reason to close."""
    async with await Client.open(server, dialect=dialect) as client:
        client.receive = lambda timeout=15: receive_all(client, timeout)
        begin = time.monotonic()
        times, stamps = [], []
        while len(times) < 2:
            message = await client.receive(timeout=40)
            assert message["method"] == "ping", message
            times.append(time.monotonic() - begin)
            stamps.append(message["params"]["timestamp"])
        assert 25 < times[0] < 30 + 5 * PATIENCE, times
        assert 25 < times[1] - times[0] < 30 + 5 * PATIENCE, times
        assert stamps[1] != stamps[0] and stamps[0]


async def receive_all(client, timeout):
    return client.dialect.decode(await client.receive_frame(timeout))


def silent_client_is_dropped_after_two_pings(server):
    """RFC 6455 pings every 20 s; a client that answers none is dead after two."""
    with RawSocket(server, timeout=100) as raw:
        raw.upgrade()
        begin = time.monotonic()
        raw.send_frame(
            TEXT, '{"id":1,"method":"execute","params":{"command":"sleep %s"}}' % server.mark
        )
        pings = []
        try:
            while True:
                opcode, payload, _ = raw.receive_frame()
                if opcode == PING:
                    pings.append(time.monotonic() - begin)
                if opcode == CLOSE:
                    break
        except Gone:
            pass
        gone = time.monotonic() - begin
    assert pings and 15 < pings[0] < 20 + 5 * PATIENCE, pings
    assert 30 < gone < 60 + 5 * PATIENCE, gone


def answering_client_stays(server):
    with RawSocket(server, timeout=100) as raw:
        raw.upgrade()
        end = time.monotonic() + 65
        pongs = 0
        while time.monotonic() < end:
            opcode, payload, _ = raw.receive_frame()
            assert opcode != CLOSE
            if opcode == PING:
                pongs += 1
                raw.send_frame(PONG, payload)
            if pongs == 3:
                break
        assert pongs >= 3
        raw.send_json({"id": 1, "method": "hook_status"})
        assert "result" in raw.receive_answer(1)


def handshake_has_ten_seconds(server):
    """Silent, or slow: whoever is no client within 10 s is nobody."""
    waiting = []
    begin = time.monotonic()
    request = upgrade_request(server)
    for start in (b"", b"GET", request[:60], request[:-2]):
        raw = RawSocket(server, timeout=60)
        raw.send(start)
        waiting.append(raw)
    trickle = RawSocket(server, timeout=60)
    position = 0
    ended = {}
    while len(ended) < len(waiting) + 1 and time.monotonic() - begin < 25 * PATIENCE:
        if trickle not in ended:
            try:
                trickle.send(request[position : position + 1] if position < 60 else b"x")
                position += 1
            except OSError:
                ended[trickle] = time.monotonic() - begin
        for raw in waiting + [trickle]:
            if raw in ended:
                continue
            raw.socket.settimeout(0.05)
            try:
                if not raw.socket.recv(4096):
                    ended[raw] = time.monotonic() - begin
            except TimeoutError:
                pass
            except OSError:
                ended[raw] = time.monotonic() - begin
    for raw in waiting + [trickle]:
        raw.socket.close()
    assert len(ended) == len(waiting) + 1, ended.values()
    assert all(8 < seconds < 10 + 5 * PATIENCE for seconds in ended.values()), ended.values()


async def idle_session_is_not_dropped(server):
    async with await Client.open(server) as client:
        await asyncio.sleep(62)
        assert await client.call("hook_status")


@pytest.mark.background
@pytest.mark.bound(150)
async def test_long_timers():
    loop = asyncio.get_running_loop()
    with Server() as server:
        before = server.steady()
        await asyncio.gather(
            ping_messages_come_every_30_seconds(server, Plain),
            ping_messages_come_every_30_seconds(server, Packed),
            loop.run_in_executor(None, silent_client_is_dropped_after_two_pings, server),
            loop.run_in_executor(None, answering_client_stays, server),
            loop.run_in_executor(None, handshake_has_ten_seconds, server),
            idle_session_is_not_dropped(server),
        )
        await until(lambda: not pids_with(server.mark), 6, "the command of the silent client")
        server.wait_back(before)


async def test_client_that_is_too_slow_is_closed_4003(make_server):
    server = make_server("--send-timeout", "1s")
    raw = RawSocket(server, receive_buffer=4096).upgrade()
    raw.send_json({"id": 1, "method": "execute", "params": {"command": f"yes {server.mark}"}})
    await until(
        lambda: not pids_with(server.mark) and server.status()["sessions"] == 0, 8, "its end"
    )
    loop = asyncio.get_running_loop()
    code, _, _ = await loop.run_in_executor(None, raw.receive_close)
    assert code in (4003, None)
    raw.socket.close()


async def test_client_that_reads_slowly_is_not_too_slow(make_server):
    """Nor is one that has nothing to read."""
    server = make_server("--send-timeout", "2s")

    def read_slowly():
        with RawSocket(server, receive_buffer=65536) as raw:
            raw.upgrade()
            raw.send_json({"id": 1, "method": "execute", "params": {"command": "yes"}})
            got = 0
            end = time.monotonic() + 5
            while time.monotonic() < end:
                for _ in range(6):
                    opcode, payload, _ = raw.receive_frame()
                    assert opcode != CLOSE, payload
                    got += len(payload)
                time.sleep(0.1)
            return got

    loop = asyncio.get_running_loop()
    async with await Client.open(server) as idle:
        slow = loop.run_in_executor(None, read_slowly)
        quiet = await idle.start("sleep 600")
        assert await slow > 1 << 20
        assert await idle.control("CANCEL") == "canceled"
        await idle.finish(quiet)
