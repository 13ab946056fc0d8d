"""
The channel between frontend and supervisor, from the frontend's side.

The message table is read from common/proto.def itself, so a message that is
new there is known here. FakeFrontend runs a bulkheadd whose frontend is this
test.
"""

import os
import pathlib
import re
import select
import shutil
import signal
import socket
import tempfile
import time
from collections import namedtuple

import msgpack

from harness import HERE, PATIENCE, ROOT

Field = namedtuple("Field", "key type name max")
Message = namedtuple("Message", "name code direction states max flags fields")


def read_table(path=ROOT / "common" / "proto.def"):
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
    table = {}
    for kind, inside in re.findall(r"^(MSG|FIELD|END)\((.*?)\)", text, re.M | re.S):
        words = [word.strip() for word in inside.split(",")]
        if kind == "MSG":
            name, code, direction, states, size, flags = words
            table[name] = Message(
                name,
                int(code),
                direction,
                [state.strip() for state in states.split("|")],
                int(size),
                [] if flags == "0" else [flag.strip() for flag in flags.split("|")],
                [],
            )
        elif kind == "FIELD":
            message, key, type_name, name, size = words
            table[message].fields.append(Field(int(key), type_name, name, int(size)))
    return table


TABLE = read_table()
BY_CODE = {message.code: message for message in TABLE.values()}
ASKS = [message for message in TABLE.values() if message.direction == "ASK"]

EMPTY = {
    "U32": 0,
    "U64": 0,
    "I32": 0,
    "BOOL": False,
    "STR": "",
    "BIN": b"",
    "SECRET": b"",
    "LIST": b"",
    "TAIL": b"",
}


def strings(*items):
    """A LIST."""
    return b"".join(item.encode() + b"\0" for item in items)


def pack(value):
    return msgpack.packb(value, use_bin_type=True)


def pack_map(pairs):
    """A map from (key, value) pairs, keys in any number and order."""
    head = (
        bytes([0x80 | len(pairs)]) if len(pairs) < 16 else b"\xde" + len(pairs).to_bytes(2, "big")
    )
    return head + b"".join(pack(key) + pack(value) for key, value in pairs)


def pairs_of(name, **values):
    """The fields of a message as (key, value), what is not given being empty."""
    fields = {field.name: field for field in TABLE[name].fields}
    unknown = set(values) - set(fields)
    assert not unknown, f"{name} has no {unknown}"
    pairs = []
    for field in TABLE[name].fields:
        value = values.get(field.name, EMPTY[field.type])
        if field.type in ("BIN", "SECRET", "LIST", "TAIL") and isinstance(value, str):
            value = value.encode()
        pairs.append((field.key, value))
    return pairs


def encode(name, **values):
    return b"\x92" + pack(TABLE[name].code) + pack_map(pairs_of(name, **values))


def decode(data):
    """(name, {field: value}); the supervisor must follow the table, too."""
    code, fields = msgpack.unpackb(data, raw=False, strict_map_key=False)
    message = BY_CODE[code]
    assert message.direction == "TELL", f"{message.name} is not the supervisor's to say"
    assert len(data) <= message.max
    names = {field.key: field for field in message.fields}
    assert set(fields) == set(names), f"{message.name}: {fields}"
    for key, value in fields.items():
        field = names[key]
        assert isinstance(value, type(EMPTY[field.type])), (message.name, field.name, value)
        if field.max:
            size = len(value) if isinstance(value, (str, bytes)) else value
            assert size <= field.max, (message.name, field.name)
    return message.name, {names[key].name: value for key, value in fields.items()}


class Lost(Exception):
    """The supervisor ended the channel."""


class FakeFrontend:
    def __init__(self, make_server, *options, ready=True):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bulkhead-test-"))
        self.folder.chmod(0o755)
        program = shutil.copy(HERE / "frontends" / "fake.py", self.folder)
        os.chmod(program, 0o755)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self.folder / "test.socket"))
        os.chmod(self.folder / "test.socket", 0o777)
        self.listener.listen(16)
        self.listener.settimeout(20 * PATIENCE)
        self.channel = self.link = None
        self.server = make_server(*options, start=False, frontend=program)
        # A frontend that breaks the rules is worth an error line.
        self.server.expect_log("frontend")
        self.server.start(wait=False)
        self.restarts = -1
        self.accept()
        if ready:
            self.ready()
            self.server.wait_ready()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None and self.server.process and self.server.process.poll() is None:
                self.leave()
        finally:
            self.drop()
            self.listener.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def leave(self):
        """Does what a frontend does at the end, so that the server can stop in order."""
        self.server.remember()
        self.server.process.send_signal(signal.SIGTERM)
        try:
            while self.receive(5)[0] != "SHUTDOWN":
                pass
        except (Lost, TimeoutError):
            pass

    def drop(self):
        for thing in (self.channel, self.link):
            if thing is not None:
                thing.close()
        self.channel = self.link = None

    def accept(self):
        """Waits for the (next) frontend process; takes its channel and its HELLO."""
        self.drop()
        self.link, _ = self.listener.accept()
        self.link.settimeout(10 * PATIENCE)
        word, descriptors, _, _ = socket.recv_fds(self.link, 10, 4)
        assert len(descriptors) == 1, word
        self.pid = int(word)
        self.channel = socket.socket(fileno=descriptors[0])
        self.restarts += 1
        self.session_ids = {}
        self.late = []
        name, self.hello = self.receive()
        assert name == "HELLO"

    def ready(self):
        self.send("READY", version=self.hello["version"])

    def ready_again(self):
        self.accept()
        self.ready()

    @property
    def token(self):
        return self.server.token or ""

    # messages

    def send_raw(self, data, descriptors=()):
        self.channel.settimeout(10 * PATIENCE)
        if descriptors:
            socket.send_fds(self.channel, [data], list(descriptors))
        else:
            self.channel.send(data)

    def send(self, name, **values):
        self.send_raw(encode(name, **values))

    def receive(self, timeout=10):
        """The next message; Lost when the channel is over, TimeoutError when none comes."""
        self.channel.settimeout(timeout * PATIENCE)
        try:
            data = self.channel.recv(1 << 18)
        except (ConnectionResetError, BrokenPipeError):
            raise Lost from None
        if not data:
            raise Lost
        return decode(data)

    def expect(self, wanted, timeout=10):
        """The fields of the next message of that name; others are kept in late."""
        while True:
            name, fields = self.receive(timeout)
            if name == wanted:
                return fields
            self.late.append((name, fields))

    def is_lost(self, timeout=10):
        """Whether the supervisor gives this frontend up; drops what still comes."""
        try:
            while True:
                self.receive(timeout)
        except Lost:
            return True
        except (TimeoutError, socket.timeout):
            return False

    def is_alive(self):
        """Whether the supervisor still answers."""
        self.send("HEALTH", req=4711)
        try:
            while self.expect("HEALTH_IS")["req"] != 4711:
                pass
            return True
        except (Lost, BrokenPipeError, ConnectionResetError):
            return False

    # conversation

    def open_session(self, sid):
        self.send("OPEN", sid=sid, listener=0, peer="127.0.0.1:1", token=self.token)
        self.session_ids[sid] = self.expect("OPENED")["session_id"]

    def refused_or_lost(self, sid):
        try:
            while True:
                name, fields = self.receive()
                if name == "REFUSED" and fields["sid"] == sid:
                    return True
                assert name != "OPENED", "it was opened twice"
        except Lost:
            return True

    def execute(self, sid, command, req=1, **more):
        values = {"shell": True, "lines": True, "window": 131072}
        values.update(more)
        self.send("EXECUTE", sid=sid, req=req, argv=strings(command), **values)

    def status(self):
        self.send("STATUS", req=99, listener=0, token=self.token, cursor=0)
        return self.expect("STATUS_IS")

    def readable(self, seconds):
        return bool(select.select([self.channel], [], [], seconds)[0])

    def kill_and_wait(self):
        """A fault of our own: the frontend process dies."""
        os.kill(self.pid, signal.SIGKILL)
        end = time.monotonic() + 10 * PATIENCE
        while not self.is_lost(1):
            assert time.monotonic() < end, "the supervisor keeps a dead frontend"
