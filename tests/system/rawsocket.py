"""
A WebSocket client that may break every rule: handshakes and frames byte by
byte, and connections that end without a word.
"""

import base64
import json
import os
import socket
import struct
import time

from harness import PATIENCE

TEXT, BINARY, CLOSE, PING, PONG, MORE = 1, 2, 8, 9, 10, 0


class Gone(Exception):
    """The server ended the connection (end of file or reset)."""


def upgrade_request(server, path="/ws", token=None, host=None, more=()):
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host or server.origin}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version: 13",
    ]
    token = server.token if token is None else token
    if token:
        lines.append(f"Authorization: Bearer {token}")
    lines += more
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def frame(opcode, payload=b"", fin=True, masked=True, reserved=0, length=None):
    """One frame; length may lie about the payload."""
    payload = payload.encode() if isinstance(payload, str) else payload
    size = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    bit = 0x80 if masked else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", size)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    repeated = mask * (len(payload) // 4 + 1)
    number = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[: len(payload)], "big")
    return head + mask + number.to_bytes(len(payload), "big")


class RawSocket:
    def __init__(self, server, timeout=10, receive_buffer=None):
        self.server = server
        self.timeout = timeout * PATIENCE
        self.rest = b""
        if receive_buffer is None:
            self.socket = server.connect(timeout)
        else:
            self.socket = socket.socket()
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.socket.settimeout(timeout * PATIENCE)
            self.socket.connect((server.host, server.port))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.socket.close()

    def reset(self):
        """Ends the connection with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def send_frame(self, opcode, payload=b"", **more):
        self.send(frame(opcode, payload, **more))

    def send_json(self, message):
        self.send_frame(TEXT, json.dumps(message))

    # reading

    def more(self):
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            raise Gone from None
        if not data:
            raise Gone
        self.rest += data

    def take(self, size):
        while len(self.rest) < size:
            self.more()
        data, self.rest = self.rest[:size], self.rest[size:]
        return data

    def read_head(self):
        """(status, whole head) of an HTTP answer."""
        while b"\r\n\r\n" not in self.rest:
            self.more()
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        return int(head.split(b" ", 2)[1]), head.decode("latin-1")

    def upgrade(self, **more):
        self.send(upgrade_request(self.server, **more))
        code, head = self.read_head()
        assert code == 101, head
        return self

    def receive_frame(self):
        """(opcode, payload, fin) of one frame."""
        first, second = self.take(2)
        assert not second & 0x80, "a server never masks"
        size = second & 0x7F
        if size == 126:
            size = struct.unpack(">H", self.take(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", self.take(8))[0]
        return first & 0x0F, self.take(size), bool(first & 0x80)

    def receive_message(self):
        """(opcode, payload) of one whole message or control frame; pings are answered."""
        opcode, payload, fin = self.receive_frame()
        if opcode == PING:
            self.send_frame(PONG, payload)
            return self.receive_message()
        while not fin:
            part, data, last = self.receive_frame()
            if part == CLOSE:  # may come between two fragments; the message is lost
                return part, data
            if part == PING:
                self.send_frame(PONG, data)
                continue
            assert part == MORE, "a fragmented message goes on"
            payload += data
            fin = last
        return opcode, payload

    def receive_json(self):
        opcode, payload = self.receive_message()
        assert opcode == TEXT, (opcode, payload[:200])
        return json.loads(payload)

    def receive_answer(self, number):
        """The answer with that id; everything before it is dropped."""
        end = time.monotonic() + self.timeout
        while True:
            assert time.monotonic() < end, f"no answer to {number!r}"
            message = self.receive_json()
            if "method" not in message and message.get("id") == number:
                return message

    def receive_close(self):
        """
        (code, reason) of the server's close frame, and what came before it.
        (None, "") when it ended the connection without one.
        """
        before = []
        end = time.monotonic() + self.timeout
        try:
            while True:
                assert time.monotonic() < end, "the server does not close"
                opcode, payload = self.receive_message()
                if opcode == CLOSE:
                    code = struct.unpack(">H", payload[:2])[0] if len(payload) >= 2 else None
                    return code, payload[2:].decode(), before
                before.append((opcode, payload))
        except Gone:
            return None, "", before

    def at_end(self):
        """Reads to the end of the connection; returns what still came."""
        data = self.rest
        self.rest = b""
        try:
            while True:
                piece = self.socket.recv(1 << 16)
                if not piece:
                    return data
                data += piece
        except ConnectionResetError:
            return data
