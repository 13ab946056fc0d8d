"""How many sessions there may be, and that they do not mix."""

import asyncio
import uuid

import pytest

from clients import Client, Packed, Refused, echo_works
from harness import SANITIZED, until
from rawsocket import RawSocket


async def open_many(server, count, **more):
    return await asyncio.gather(*(Client.open(server, **more) for _ in range(count)))


async def close_all(clients):
    await asyncio.gather(*(client.close() for client in clients))


async def refused_client(server, **more):
    """A connection over the limit: (error message, close code, reason)."""
    client = await Client.open(server, greet=False, **more)
    message = await client.receive()
    code, reason = await client.wait_closed()
    assert not client.pending, "nothing else is said"
    return message, code, reason


def check_refused(message, code, reason):
    assert "method" not in message
    assert message["id"] is None
    assert message["error"]["code"] == -32003
    assert message["error"]["data"]["kind"]
    assert code == 1008 and reason == "Session limit exceeded"


async def test_fix_1_5_session_ids_are_made_once(make_server):
    """
    A hundred at the same time, each with an id of its own. That a second
    session under a taken id is refused is shown on the channel, where an id
    can be taken: test_channel_faults.py, second OPEN.
    """
    import channel

    server = make_server()
    seen = set()
    for _ in range(2):
        clients = await open_many(server, 100)
        ids = [client.connected["session_id"] for client in clients]
        assert len(set(ids)) == 100, "no id was given twice"
        listed = [entry["session_id"] for entry in server.status()["session_list"]]
        assert sorted(listed) == sorted(ids), "the table holds exactly these"
        assert not seen & set(ids), "nor is one used again"
        seen.update(ids)
        for text in ids:
            assert len(text) >= 32 and uuid.UUID(text)
        await close_all(clients)
        await until(lambda: server.status()["sessions"] == 0, 10, "all sessions closed")

    # a session under an id that is taken
    with channel.FakeFrontend(make_server) as fake:
        fake.open_session(7)
        first = fake.session_ids[7]
        fake.send("OPEN", sid=7, listener=0, peer="127.0.0.1:2", token=fake.token)
        assert fake.refused_or_lost(7), "a second session under a taken id"
        fake.ready_again()
        fake.open_session(7)
        assert fake.session_ids[7] != first, "and the first one ended with its frontend"


async def test_fix_1_7_session_limit(make_server):
    server = make_server()
    before = server.steady()
    clients = await open_many(server, 100)
    for _ in range(3):
        check_refused(*await refused_client(server))
    check_refused(*await refused_client(server, dialect=Packed))
    # those inside are served as before
    outcomes = await asyncio.gather(*(client.run("echo in") for client in clients[:10]))
    assert all(outcome.stdout == "in\n" for outcome in outcomes)
    # a freed place can be used again, exactly one
    await clients.pop().close()
    await until(lambda: server.status()["sessions"] == 99, 5, "the place to be free")
    clients.append(await Client.open(server))
    check_refused(*await refused_client(server))
    # also one that was left by a reset
    await clients.pop(0).drop()
    await until(lambda: server.status()["sessions"] == 99, 5, "the place to be free")
    clients.append(await Client.open(server))
    check_refused(*await refused_client(server))
    await close_all(clients)
    server.wait_back(before)


async def test_session_limit_can_be_set(make_server):
    server = make_server("--max-sessions", "3")
    code, _, body = server.http("/health")
    assert code == 200 and b'"max_sessions":3' in body.replace(b" ", b"")
    for _ in range(3):
        clients = await open_many(server, 3)
        check_refused(*await refused_client(server))
        await close_all(clients)
        await until(lambda: server.status()["sessions"] == 0, 5, "all places to be free")


async def test_simultaneous_connects_never_pass_the_limit(make_server):
    server = make_server("--max-sessions", "20")

    async def one():
        client = await Client.open(server, greet=False)
        first = await client.receive()
        if first.get("method") == "connected":
            return client
        code, reason = await client.wait_closed()
        check_refused(first, code, reason)
        return None

    inside = [client for client in await asyncio.gather(*(one() for _ in range(60))) if client]
    assert len(inside) == 20
    assert server.status()["sessions"] == 20
    await close_all(inside)


async def test_fix_3_1_simultaneous_executes(server):
    clients = await open_many(server, 100)

    async def one(number, client):
        outcome = await client.run(f"echo {number}; echo e{number} >&2; exit {number % 7}")
        assert outcome.stdout == f"{number}\n", "each session gets its own output"
        assert outcome.stderr == f"e{number}\n"
        assert outcome.done["exit_code"] == number % 7
        return outcome.started["pid"], outcome.done["exec_id"]

    made = await asyncio.gather(*(one(n, client) for n, client in enumerate(clients)))
    assert len({pid for pid, _ in made}) == 100
    # ten in one session: one runs, nine hear why not
    for client in clients[:5]:
        for number in range(10):
            await client.send(
                client.dialect.request(f"r{number}", "execute", {"command": "sleep 0.5; echo one"})
            )
        answers = {}
        outcome = None
        while len(answers) < 10 or outcome is None:
            message = await client.receive()
            if message.get("method") == "process.completed":
                outcome = message["params"]
            elif "method" not in message:
                answers[message["id"]] = message
        assert set(answers) == {f"r{number}" for number in range(10)}
        ran = [answer for answer in answers.values() if "result" in answer]
        refused = [answer["error"] for answer in answers.values() if "error" in answer]
        assert len(ran) == 1 and len(refused) == 9
        for error in refused:
            assert error["code"] == -32602
            assert error["message"] == "A process is already running"
        assert outcome["exit_code"] == 0
    await close_all(clients)


async def test_fix_3_2_limit_is_checked_before_anything_is_allocated(make_server):
    server = make_server("--max-sessions", "5")
    clients = await open_many(server, 5)
    for client in clients:
        await client.run("true")
    full = server.steady()
    listed = sorted(entry["session_id"] for entry in server.status()["session_list"])
    memory = server.memory()

    async def storm():
        for _ in range(50):
            check_refused(*await refused_client(server))

    await asyncio.gather(*(storm() for _ in range(6)))
    server.wait_back(full)
    now = sorted(entry["session_id"] for entry in server.status()["session_list"])
    assert now == listed, "no session ever came of them"
    if not SANITIZED:
        assert server.memory() - memory < 1 << 20
    # a request sent behind the handshake finds no session
    raw = RawSocket(server)
    raw.upgrade()
    raw.send_json({"id": 1, "method": "execute", "params": {"command": f"sleep {server.mark}"}})
    code, reason, before = raw.receive_close()
    assert code == 1008 and reason == "Session limit exceeded"
    assert len(before) == 1
    assert server.status()["commands"] == 0
    await close_all(clients)
    await echo_works(server)


async def test_second_execute_is_refused_and_the_first_goes_on(server):
    async with await Client.open(server) as client:
        outcome = await client.start("sleep 0.3; echo whole")
        with pytest.raises(Refused) as refused:
            await client.start("echo other")
        assert refused.value.code == -32602
        assert refused.value.message == "A process is already running"
        await client.finish(outcome)
        assert outcome.stdout == "whole\n"
        assert (await client.run("echo again")).stdout == "again\n"


async def test_handshakes_that_wait_take_no_session(make_server):
    """Half-open connections do not use up the places of clients."""
    server = make_server("--max-sessions", "4")
    waiting = [RawSocket(server) for _ in range(40)]
    for raw in waiting:
        raw.send(b"GET /ws HTTP/1.1\r\nHost: ")
    clients = await open_many(server, 4)
    await close_all(clients)
    for raw in waiting:
        raw.socket.close()
