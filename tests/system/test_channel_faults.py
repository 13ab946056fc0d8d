"""
A frontend that was broken into says anything it likes. Each fault costs it its
life; bulkheadd lives on, starts another, and holds what it held before.

The faults are made from the message table itself.
"""

import asyncio
import concurrent.futures
import os
import socket

import pytest

from channel import ASKS, BY_CODE, TABLE, FakeFrontend, encode, pack, pack_map, pairs_of
from clients import Client, echo_works
from harness import POOL, SANITIZED, pids_with, wait_until

SID = 3

# Something to say in each message that is right in every field.
SOUND = {
    "READY": {"version": 1},
    "OPEN": {"sid": SID + 1, "peer": "127.0.0.1:9"},
    "EXECUTE": {"sid": SID, "req": 1, "argv": b"true\0", "window": 131072, "timeout_ms": 1000},
    "CONTROL": {"sid": SID, "req": 2, "action": 1},
    "STDIN": {"sid": SID, "exec": 1, "data": b""},
    "CREDIT": {"sid": SID, "exec": 1, "bytes": 1},
    "CLOSE": {"sid": SID},
    "HEALTH": {"req": 5},
    "STATUS": {"req": 6},
    "LOG": {"level": 2, "text": "a line of the fake frontend"},
}

# Values of every other type; what a field of a type does not take.
OTHERS = {
    "nil": None,
    "true": True,
    "negative": -1,
    "number": 7,
    "float": 1.5,
    "text": "x",
    "bytes": b"x\0",
    "array": [1],
    "map": {1: 1},
    "huge": 2**64 - 1,
}
TAKES = {
    "U32": {"number"},
    "U64": {"number", "huge"},
    "I32": {"number", "negative"},
    "BOOL": {"true"},
    "STR": {"text"},
    "BIN": {"bytes"},
    "SECRET": {"bytes"},
    "LIST": {"bytes"},
    "TAIL": {"bytes"},
}


def sound(message):
    """A message of that kind for the present table, even one that is new in it."""
    return dict(SOUND.get(message.name, {"sid": SID} if has_sid(message) else {}))


def has_sid(message):
    return any(field.name == "sid" for field in message.fields)


def with_code(code, pairs):
    return b"\x92" + pack(code) + pack_map(pairs)


def truncations(message):
    whole = encode(message.name, **sound(message))
    for size in range(1, len(whole)):
        yield f"cut after {size} bytes", whole[:size]


def field_faults(message):
    """(what, datagram) for each way a field can be wrong."""
    code = message.code
    pairs = pairs_of(message.name, **sound(message))
    for index, field in enumerate(message.fields):
        rest = pairs[:index] + pairs[index + 1 :]
        yield f"{field.name} missing", with_code(code, rest)
        yield f"{field.name} twice", with_code(code, pairs + [pairs[index]])
        yield f"{field.name} twice, another missing", with_code(
            code, pairs[:index] + [pairs[index - 1]] + pairs[index + 1 :]
        ) if len(pairs) > 1 else with_code(code, pairs + pairs)
        for name, value in OTHERS.items():
            if name in TAKES[field.type]:
                continue
            yield f"{field.name} is {name}", with_code(
                code, pairs[:index] + [(field.key, value)] + pairs[index + 1 :]
            )
        for name, value in beyond(field):
            yield f"{field.name} {name}", with_code(
                code, pairs[:index] + [(field.key, value)] + pairs[index + 1 :]
            )


def beyond(field):
    """Values of the right type that are too large, or not sound."""
    if field.type == "U32":
        yield "over 32 bits", 2**32
    if field.type == "I32":
        yield "over 32 bits", 2**31
        yield "under 32 bits", -(2**31) - 1
    if field.type in ("U32", "U64", "I32"):
        if field.max:
            yield "over its maximum", field.max + 1
        return
    if field.type == "STR":
        yield "over its maximum", "x" * (field.max + 1)
        yield "with a NUL", "a\0b"
    elif field.type == "LIST":
        yield "over its maximum", b"x" * field.max + b"\0"
        yield "without its last NUL", b"abc"
    elif field.type != "BOOL":
        yield "over its maximum", b"x" * (field.max + 1)


def shape_faults(message):
    """(what, datagram) for each way the message as a whole can be wrong."""
    code = message.code
    pairs = pairs_of(message.name, **sound(message))
    whole = with_code(code, pairs)
    yield "a byte left over", whole + b"\0"
    yield "twice in one datagram", whole + whole
    yield "an unknown key", with_code(code, pairs + [(60, 1)])
    yield "an unknown key instead of the first", with_code(code, [(60, 1)] + pairs[1:])
    yield "a text as key", with_code(code, pairs + [("sid", 1)])
    yield "a negative key", with_code(code, pairs + [(-1, 1)])
    yield "a huge key", with_code(code, pairs + [(2**63, 1)])
    yield "fields as an array", b"\x92" + pack(code) + pack([value for _, value in pairs])
    yield "no fields", b"\x92" + pack(code) + b"\x80"
    yield "nil for the fields", b"\x92" + pack(code) + b"\xc0"
    yield "array of one", b"\x91" + pack(code)
    yield "array of three", b"\x93" + pack(code) + pack_map(pairs) + b"\0"
    yield "a map that claims 2^32 - 1 fields", b"\x92" + pack(code) + b"\xdf\xff\xff\xff\xff"
    yield "over its size", padded(message, pairs)


def padded(message, pairs):
    """The message, larger than it may be, in a way only its size shows (where it can)."""
    # An array of two may be written with a 32-bit length; so may the map. To
    # pass the maximum for sure the last string is as long as it takes.
    head = b"\xdd\0\0\0\2" + pack(message.code) + b"\xdf" + len(pairs).to_bytes(4, "big")
    body = b"".join(b"\xcf" + key.to_bytes(8, "big") + pack(value) for key, value in pairs)
    data = head + body
    return data if len(data) > message.max else data + b"\0" * (message.max + 1 - len(data))


def wrong_codes():
    whole = encode("HEALTH", req=1)
    for code in [
        0,
        30,
        31,
        60,
        127,
        255,
        256,
        65535,
        2**32,
        2**64 - 1,
        -1,
        None,
        "HEALTH",
        1.0,
    ]:
        if code not in BY_CODE:
            yield f"code {code!r}", b"\x92" + pack(code) + whole[2:]
    for message in TABLE.values():
        if message.direction == "TELL":
            yield f"{message.name} from the wrong side", encode(message.name)
    yield "not an array", pack({1: 2})
    yield "a number", b"\x01"
    yield "nothing but FF", b"\xff" * 64
    yield "an unused type byte", b"\xc1"
    yield "100,000 arrays in each other", b"\x91" * 100000
    yield "100,000 maps in each other", b"\x81\x01" * 50000
    yield "an array that claims 2^32 - 1 elements", b"\xdd\xff\xff\xff\xff"
    yield "a string that claims 4 GiB", b"\x92\xdb\xff\xff\xff\xff"
    yield "a datagram over every maximum", b"\x92" + b"\0" * 204900


class Fault:
    """Something to send, the state to send it in, and what to call it."""

    def __init__(self, what, data, prepare=None, ready=True, descriptors=()):
        self.what = what
        self.data = data
        self.prepare = prepare or (lambda fake: None)
        self.ready = ready
        self.descriptors = descriptors

    def commit(self, fake):
        """Proves that it costs the frontend its life and nothing else."""
        if self.ready:
            fake.ready()
        self.prepare(fake)
        fake.send_raw(self.data, self.descriptors)
        assert fake.is_lost(), f"{self.what}: the frontend was not given up"
        assert fake.server.process.poll() is None, f"{self.what}: bulkheadd is gone"


def faults_of(message, kinds):
    """Faults made from (what, datagram), in the state where the message itself is legal."""
    early = message.states == ["P_NEW"]
    prepare = (lambda fake: fake.open_session(SID)) if "S_OPEN" in message.states else None
    return [Fault(f"{message.name}: {what}", data, prepare, not early) for what, data in kinds]


# A frontend that is lost soon after its start is started again with a growing
# delay, so a server is used for a few faults only; several are at work at once.
FAULTS_PER_SERVER = 3
SERVERS = 6


def run_faults(make_server, faults):
    assert faults
    chunks = [faults[n : n + FAULTS_PER_SERVER] for n in range(0, len(faults), FAULTS_PER_SERVER)]
    with concurrent.futures.ThreadPoolExecutor(SERVERS) as pool:
        for _ in pool.map(lambda chunk: run_some(make_server, chunk), chunks):
            pass


def run_some(make_server, faults):
    with FakeFrontend(make_server) as fake:
        check_works(fake)
        before = steady(fake)
        fake.kill_and_wait()
        for fault in faults:
            fake.accept()
            fault.commit(fake)
        fake.ready_again()
        check_works(fake)
        wait_until(lambda: rest(fake) == before, 10, f"the holdings of before: {before}")


def rest(fake):
    """What the supervisor holds."""
    status = fake.status()
    return {name: status[name] for name in ("sessions", "commands", "cells", "descriptors")}


def steady(fake):
    """What it holds when all that was given up is really gone."""

    def quiet():
        now = rest(fake)
        return now if now["cells"] == POOL and now["sessions"] == 0 else None

    return wait_until(quiet, 10, "only the ready cell to be left")


def check_works(fake):
    """A session, a command, its output, its verdict: as if nothing had been."""
    fake.open_session(SID)
    fake.execute(SID, "echo fine; exit 3")
    started = fake.expect("STARTED")
    output = fake.expect("OUTPUT")
    assert output["data"] == b"fine\n" and output["exec"] == started["exec"]
    verdict = fake.expect("VERDICT")
    assert verdict["exit_code"] == 3 and verdict["reason"] == 1
    fake.send("CLOSE", sid=SID)
    fake.expect("CLOSED")


IDS = [message.name for message in ASKS]


@pytest.mark.bound(120)
@pytest.mark.parametrize("message", ASKS, ids=IDS)
def test_truncated_at_every_byte(make_server, message):
    run_faults(make_server, faults_of(message, truncations(message)))


@pytest.mark.bound(120)
@pytest.mark.parametrize("message", ASKS, ids=IDS)
def test_missing_duplicate_wrong_and_oversized_fields(make_server, message):
    run_faults(make_server, faults_of(message, field_faults(message)))


@pytest.mark.bound(120)
@pytest.mark.parametrize("message", ASKS, ids=IDS)
def test_unknown_left_over_and_misshapen(make_server, message):
    run_faults(make_server, faults_of(message, shape_faults(message)))


@pytest.mark.bound(120)
def test_unknown_codes_and_noise(make_server):
    run_faults(make_server, [Fault(what, data) for what, data in wrong_codes()])


def close_session(fake):
    fake.open_session(SID)
    fake.send("CLOSE", sid=SID)


def close_session_wholly(fake):
    close_session(fake)
    fake.expect("CLOSED")


@pytest.mark.bound(120)
def test_messages_at_the_wrong_time(make_server):
    faults = []
    for message in ASKS:
        name, whole = message.name, encode(message.name, **sound(message))
        if "P_NEW" not in message.states:
            faults.append(Fault(f"{name} before READY", whole, ready=False))
        if "S_OPEN" in message.states:
            faults.append(Fault(f"{name} for no session", whole))
            faults.append(Fault(f"{name} after CLOSE", whole, close_session))
            faults.append(Fault(f"{name} after CLOSED", whole, close_session_wholly))
        if "ONCE" in message.flags:
            faults.append(Fault(f"{name} a second time", whole))
    taken = encode("OPEN", sid=SID, peer="127.0.0.1:9")
    faults.append(Fault("OPEN for an open session", taken, lambda fake: fake.open_session(SID)))
    faults.append(Fault("OPEN for sid 0", encode("OPEN", sid=0)))
    faults.append(Fault("OPEN on a listener that is not there", encode("OPEN", sid=1, listener=1)))
    faults.append(Fault("STATUS on a listener that is not there", encode("STATUS", listener=63)))
    run_faults(make_server, faults)


@pytest.mark.bound(60)
def test_descriptors_where_none_may_ride(make_server):
    """They are closed, whatever becomes of the message."""
    ends = socket.socketpair()
    numbers = [end.fileno() for end in ends]
    faults = []
    for message in ASKS:
        whole = encode(message.name, **sound(message))
        # MAY_FD is for a Unix listener's clients; the one here is TCP
        faults += faults_of(message, [("with a descriptor", whole), ("with two", whole)])
        faults[-2].descriptors, faults[-1].descriptors = numbers[:1], numbers
    run_faults(make_server, faults)
    for end in ends:
        end.close()


def test_another_version_is_not_served(make_server):
    """At the start that is fatal; of a frontend started later only itself."""
    run_faults(
        make_server,
        [
            Fault(f"version {version}", encode("READY", version=version), ready=False)
            for version in (0, 2, 2**32 - 1)
        ],
    )
    with FakeFrontend(make_server, ready=False) as fake:
        fake.send("READY", version=2)
        assert fake.is_lost()
        assert fake.server.process.wait(20) == 111
        assert not (fake.server.runtime / "address").exists(), "it never served"
        assert "version 2" in fake.server.log_text()
        fake.server.process = None


@pytest.mark.bound(90)
def test_flood_of_requests_without_reading(make_server):
    """What waits for a frontend that does not read has a bound."""
    with FakeFrontend(make_server) as fake:
        check_works(fake)
        before = steady(fake)
        server = fake.server
        low = server.memory()
        fake.kill_and_wait()
        for name in ("HEALTH", "STATUS", "OPEN", "EXECUTE", "CONTROL", "LOG"):
            fake.ready_again()
            if "S_OPEN" in TABLE[name].states:
                fake.open_session(SID)
            values = dict(sound(TABLE[name]))
            if name in ("OPEN", "STATUS"):
                values["token"] = fake.token
            fake.channel.settimeout(0.5)
            sent = 0
            try:
                for number in range(200000):
                    if name == "OPEN":
                        values["sid"] = number + 10
                    fake.channel.send(encode(name, **values))
                    sent += 1
            except (BrokenPipeError, ConnectionResetError, TimeoutError, socket.timeout):
                pass
            assert sent > 10
            assert server.process.poll() is None
            assert SANITIZED or server.memory() - low < 8 << 20, f"{name}: memory grew"
            if not fake.is_lost(0.5):
                fake.kill_and_wait()
        fake.ready_again()
        check_works(fake)
        wait_until(lambda: rest(fake) == before, 10, f"the holdings of before: {before}")


@pytest.mark.bound(60)
def test_window_is_the_most_that_is_sent(make_server):
    """Without CREDIT no byte beyond EXECUTE.window; too much CREDIT is a fault or harmless."""
    with FakeFrontend(make_server) as fake:
        for window in (1, 4096, 131072):
            fake.open_session(SID)
            fake.execute(SID, "yes", window=window)
            exec_id = fake.expect("STARTED")["exec"]
            got = 0
            while fake.readable(0.5):
                name, fields = fake.receive()
                assert name == "OUTPUT"
                got += len(fields["data"])
            assert got <= window, f"{got} bytes for a window of {window}"
            assert got > 0 or window == 1
            fake.send("CREDIT", sid=SID, exec=exec_id, bytes=window)
            more = 0
            while fake.readable(0.5):
                name, fields = fake.receive()
                more += len(fields["data"])
            assert got + more <= 2 * window
            fake.send("CLOSE", sid=SID)
            fake.expect("CLOSED")
        # all the credit in the world
        fake.open_session(SID)
        fake.execute(SID, "yes", window=1048576)
        exec_id = fake.expect("STARTED")["exec"]
        low = fake.server.memory()
        try:
            for _ in range(5000):
                fake.send("CREDIT", sid=SID, exec=exec_id, bytes=1048576)
        except (BrokenPipeError, ConnectionResetError, TimeoutError, socket.timeout):
            pass
        assert fake.server.process.poll() is None
        assert SANITIZED or fake.server.memory() - low < 8 << 20


def outputs_now(fake):
    """The data of each OUTPUT that comes without more credit."""
    got = []
    while fake.readable(0.3):
        name, fields = fake.receive()
        assert name == "OUTPUT", name
        got.append(fields["data"])
    return got


@pytest.mark.bound(60)
def test_lines_and_characters_wait_for_credit(make_server):
    """What fits the window whole is never cut because the credit happens to end there."""
    with FakeFrontend(make_server) as fake:
        fake.open_session(SID)
        one, other = b"a" * 60 + b"\n", b"b" * 60 + b"\n"
        fake.execute(SID, f"printf '{(one + other).decode()}'; sleep 60", window=100)
        exec_id = fake.expect("STARTED")["exec"]
        assert outputs_now(fake) == [one]
        fake.send("CREDIT", sid=SID, exec=exec_id, bytes=len(one))
        assert outputs_now(fake) == [other]
        fake.send("CLOSE", sid=SID)
        fake.expect("CLOSED")
        # one byte of credit at a time
        text = "\u00e4\u20ac\U0001f600" * 5
        fake.open_session(SID)
        fake.execute(SID, f"printf '{text}'; sleep 60", window=16)
        exec_id = fake.expect("STARTED")["exec"]
        got = outputs_now(fake)
        for _ in range(200):
            if len(b"".join(got)) == len(text.encode()):
                break
            fake.send("CREDIT", sid=SID, exec=exec_id, bytes=1)
            while fake.readable(0.02):
                got.append(fake.receive()[1]["data"])
        assert b"".join(got) == text.encode()
        for piece in got:
            piece.decode()
        fake.send("CLOSE", sid=SID)
        fake.expect("CLOSED")


@pytest.mark.bound(60)
def test_more_stdin_than_granted_is_a_fault(make_server):
    with FakeFrontend(make_server) as fake:
        fake.open_session(SID)
        fake.execute(SID, "sleep 60", want_stdin=True)
        exec_id = fake.expect("STARTED")["exec"]
        fake.server.expect_log("STDIN|stdin")
        try:
            for _ in range(100):
                fake.send("STDIN", sid=SID, exec=exec_id, data=b"x" * 65536)
        except (BrokenPipeError, ConnectionResetError, TimeoutError, socket.timeout):
            pass
        assert fake.is_lost(), "more than STDIN_CREDIT allows"
        fake.ready_again()
        check_works(fake)


@pytest.mark.bound(60)
def test_frontend_that_dies_takes_its_commands_along(make_server):
    with FakeFrontend(make_server) as fake:
        before = steady(fake)
        mark = fake.server.mark
        for ending in ("killed", "closed", "fault"):
            for sid in range(1, 6):
                fake.open_session(sid)
                fake.execute(sid, f"setsid sleep {mark} & trap '' TERM; sleep {mark}; sleep {mark}")
                fake.expect("STARTED")
            wait_until(lambda: len(pids_with(mark)) >= 10, 5, "the commands")
            if ending == "killed":
                fake.kill_and_wait()
            elif ending == "closed":
                fake.channel.close()
            else:
                fake.send_raw(b"\xff")
                assert fake.is_lost()
            fake.ready_again()
            wait_until(lambda: not pids_with(mark), 6, "the end of the lost frontend's commands")
            wait_until(lambda: rest(fake) == before, 10, f"the holdings of before: {before}")
        check_works(fake)


@pytest.mark.bound(60)
def test_vanish_between_any_two_messages(make_server):
    """The session is closed while its command starts, runs, is paused, ends."""
    with FakeFrontend(make_server) as fake:
        before = steady(fake)
        mark = fake.server.mark
        steps = [
            lambda: None,
            lambda: fake.execute(SID, f"sleep {mark}"),
            lambda: fake.expect("STARTED"),
            lambda: fake.send("CONTROL", sid=SID, req=2, action=1),
            lambda: fake.expect("CONTROLLED"),
            lambda: fake.send("CONTROL", sid=SID, req=3, action=3),
            lambda: fake.expect("VERDICT"),
        ]
        for last in range(1, len(steps) + 1):
            fake.open_session(SID)
            for step in steps[:last]:
                step()
            fake.send("CLOSE", sid=SID)
            fake.expect("CLOSED")
            assert not pids_with(mark), "CLOSED means that nothing is left"
        wait_until(lambda: rest(fake) == before, 10, f"the holdings of before: {before}")


def test_real_clients_are_served_after_a_frontend_was_killed(server):
    """The real frontend this time."""

    async def play():
        for _ in range(3):
            client = await Client.open(server)
            await client.start(f"sleep {server.mark}")
            old = server.frontend_pid()
            server.expect_log("frontend")
            os.kill(old, 9)
            code, _ = await client.wait_closed()
            assert code in (1006, 1011)
            wait_until(lambda: not pids_with(server.mark), 6, "the end of its commands")

            def is_new():
                try:
                    return server.frontend_pid() != old
                except (OSError, AssertionError, ValueError):
                    return False

            wait_until(is_new, 10, "a new frontend")
            await echo_works(server)

    before = server.steady()
    asyncio.run(play())
    server.wait_back(before)
