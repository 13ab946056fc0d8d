"""
Clients of the server that are not ours: python3-websockets speaks the
WebSocket, this file only the two dialects on top of it.

Both dialects look the same to a test: an answer is {"id", "result" | "error"},
everything else {"method", "params"}.
"""

import asyncio
import json

import msgpack
import websockets
import websockets.client

from harness import PATIENCE

DEFAULT = object()


class Plain:
    """Text frames with a JSON-RPC object each; no subprotocol."""

    subprotocols = None
    nothing = ""

    @staticmethod
    def encode(message):
        return json.dumps(message)

    @staticmethod
    def decode(frame):
        assert isinstance(frame, str), "the plain dialect is text"
        message = json.loads(frame)
        assert message.pop("jsonrpc") == "2.0"
        return message

    @staticmethod
    def request(number, method, params):
        return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


class Packed:
    """bulkhead.msgpack.v1: MessagePack-RPC in binary frames."""

    subprotocols = ["bulkhead.msgpack.v1"]
    nothing = b""

    @staticmethod
    def encode(message):
        return msgpack.packb(message, use_bin_type=True)

    @staticmethod
    def decode(frame):
        assert isinstance(frame, bytes), "the msgpack dialect is binary"
        # Data that is not UTF-8 in a str must be seen by the test, not crash it.
        message = msgpack.unpackb(frame, raw=False, unicode_errors="surrogateescape")
        if message[0] == 1:
            _, number, error, result = message
            answer = {"id": number}
            answer.update({"error": error} if error is not None else {"result": result})
            return answer
        assert message[0] == 2 and len(message) == 3, message
        return {"method": message[1], "params": message[2]}

    @staticmethod
    def request(number, method, params):
        return [0, number, method, params]


class Outcome:
    """All that one command gave back, in the order it came."""

    def __init__(self, reply, nothing=""):
        self.reply = reply
        self.nothing = nothing  # what no output is: "" or b""
        self.order = ["reply"]
        self.started = None
        self.outputs = []
        self.done = None

    def take(self, message):
        method, params = message["method"], message["params"]
        self.order.append(method)
        if method == "process.started":
            self.started = params
        elif method == "process.output":
            self.outputs.append(params)
        elif method == "process.completed":
            self.done = params

    def of(self, stream):
        return [output for output in self.outputs if output["type"] == stream]

    def data(self, stream):
        return self.nothing.join(output["data"] for output in self.of(stream))

    @property
    def stdout(self):
        return self.data("stdout")

    @property
    def stderr(self):
        return self.data("stderr")


class Refused(Exception):
    """A request was answered with an error."""

    def __init__(self, error):
        super().__init__(f"{error['code']}: {error['message']}")
        self.code = error["code"]
        self.message = error["message"]
        self.error = error


class Client:
    """One connection. Messages that nobody waits for yet are kept in order."""

    def __init__(self, socket, dialect):
        self.socket = socket
        self.dialect = dialect
        self.pending = []
        self.number = 0
        self.connected = None

    @classmethod
    async def open(
        cls, server, *, path=None, dialect=Plain, token=DEFAULT, greet=True, unix=False, **more
    ):
        headers = dict(more.pop("extra_headers", {}))
        token = server.token if token is DEFAULT else token
        if token and not unix:
            headers.setdefault("Authorization", f"Bearer {token}")
        options = {
            "subprotocols": dialect.subprotocols,
            "extra_headers": headers,
            "max_size": None,
            "ping_interval": None,
            "compression": None,
            "open_timeout": 15 * PATIENCE,
            "close_timeout": 5 * PATIENCE,
        }
        options.update(more)
        if unix:
            socket = await websockets.client.unix_connect(
                server.unix_path, "ws://localhost" + (path or "/ws"), **options
            )
        else:
            url = f"ws://{server.origin}{path or '/ws'}"
            socket = await websockets.client.connect(url, **options)
        client = cls(socket, dialect)
        if greet:
            try:
                first = await client.receive()
                assert first["method"] == "connected", first
            except BaseException:
                await client.drop()
                raise
            client.connected = first["params"]
        return client

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, value, trace):
        if kind is None:
            await self.close()
        else:
            await self.drop()

    async def close(self):
        await self.socket.close()

    async def drop(self):
        """Leaves without a word."""
        if self.socket.transport:
            self.socket.transport.abort()

    # messages

    async def send(self, message):
        await self.socket.send(self.dialect.encode(message))

    async def receive_frame(self, timeout=15):
        return await asyncio.wait_for(self.socket.recv(), timeout * PATIENCE)

    async def receive(self, timeout=15):
        """The next message from the connection; pings are not worth a test's time."""
        while True:
            message = self.dialect.decode(await self.receive_frame(timeout))
            if message.get("method") != "ping":
                return message

    async def next(self, wanted=None, timeout=15):
        """The next message for which wanted(message) is true; the others wait."""
        for index, message in enumerate(self.pending):
            if wanted is None or wanted(message):
                return self.pending.pop(index)
        while True:
            message = await self.receive(timeout)
            if wanted is None or wanted(message):
                return message
            self.pending.append(message)

    async def next_method(self, method, timeout=15):
        message = await self.next(lambda m: m.get("method") == method, timeout)
        return message["params"]

    async def ask(self, method, wait=15, **params):
        """Sends a request; returns its answer whole."""
        self.number += 1
        number = self.number
        await self.send(self.dialect.request(number, method, params))
        return await self.next(lambda m: "method" not in m and m.get("id") == number, wait)

    async def call(self, method, wait=15, **params):
        """Sends a request; returns its result, raises Refused for an error."""
        answer = await self.ask(method, wait, **params)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]

    async def start(self, command=None, **params):
        """Executes and returns as soon as the command has started."""
        if command is not None:
            params["command"] = command
        outcome = Outcome(await self.call("execute", **params), self.dialect.nothing)
        outcome.take(await self.next(lambda m: m.get("method") == "process.started"))
        return outcome

    async def finish(self, outcome, timeout=30):
        """Collects the rest of a command."""
        while outcome.done is None:
            outcome.take(
                await self.next(lambda m: m.get("method", "").startswith("process."), timeout)
            )
        return outcome

    async def run(self, command=None, wait=30, **params):
        """Executes and waits for the verdict."""
        return await self.finish(await self.start(command, **params), wait)

    async def output_until(self, outcome, wanted, timeout=15):
        """Collects until wanted(outcome) is true."""
        while not wanted(outcome):
            assert outcome.done is None, outcome.done
            outcome.take(
                await self.next(lambda m: m.get("method", "").startswith("process."), timeout)
            )
        return outcome

    async def control(self, kind, **params):
        """The status that a control is answered with."""
        return (await self.call("control", type=kind, **params))["status"]

    async def wait_closed(self, timeout=15):
        """(code, reason) of the close; messages before it are kept."""
        try:
            while True:
                self.pending.append(await self.receive(timeout))
        except websockets.exceptions.ConnectionClosed:
            pass
        return self.socket.close_code, self.socket.close_reason


async def echo_works(server, dialect=Plain):
    """Another client is served: the proof after each piece of bad input."""
    async with await Client.open(server, dialect=dialect) as client:
        outcome = await client.run("echo still here")
        text = outcome.stdout
        assert (text.decode() if isinstance(text, bytes) else text) == "still here\n"
        assert outcome.done["exit_code"] == 0
