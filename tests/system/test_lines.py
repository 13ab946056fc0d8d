"""What becomes of the bytes a command writes: lines, cuts, characters, offsets."""

import asyncio
import hashlib
import random

import pytest

from clients import Client, Packed
from harness import SANITIZED


def tiles(outcome):
    """Every byte of both streams is accounted for exactly once, in order."""
    for stream in ("stdout", "stderr"):
        offset = dropped = 0
        for output in outcome.of(stream):
            assert output["offset"] == offset, f"{stream} has a hole or an overlap"
            assert output["bytes"] >= 0 and 0 <= output["dropped"] <= output["bytes"]
            assert output["truncated"] == (output["dropped"] > 0)
            offset += output["bytes"]
            dropped += output["dropped"]
        assert offset == outcome.done[f"{stream}_bytes"]
        assert dropped == outcome.done[f"{stream}_dropped"]


def python(code):
    """A command line that runs a piece of Python."""
    return "/usr/bin/python3 -c '" + code.replace("'", "'\"'\"'") + "'"


def writes(expression):
    return python(f"import sys; sys.stdout.buffer.write({expression})")


@pytest.mark.bound(90)
async def test_fix_1_3_long_line_is_cut_at_the_limit_and_memory_is_flat(server):
    async with await Client.open(server) as client:
        # exactly the limit: whole, with and without its newline
        for end in (b"\n", b""):
            outcome = await client.run(writes(f"b'a' * 8192 + {end!r}"))
            assert outcome.stdout == "a" * 8192 + end.decode()
            assert outcome.done["stdout_dropped"] == 0
            assert not any(output["truncated"] for output in outcome.outputs)
            tiles(outcome)
        # one more: cut, marked, and the rest of the stream is there
        for end, last in ((b"\nnext\n", "\nnext\n"), (b"\n", "\n"), (b"", "")):
            outcome = await client.run(writes(f"b'a' * 8193 + {end!r}"))
            assert outcome.stdout == "a" * 8192 + "..." + last
            assert outcome.done["stdout_dropped"] == 1
            assert any(output["truncated"] for output in outcome.outputs)
            tiles(outcome)
        # the same on stderr, and for a line that came in small pieces
        outcome = await client.run(
            python(
                "import sys, time\n"
                "for i in range(10):\n"
                "    sys.stderr.write('b' * 1000); sys.stderr.flush(); time.sleep(0.02)\n"
                "sys.stderr.write('\\nend')"
            )
        )
        assert outcome.stderr == "b" * 8192 + "...\nend"
        assert outcome.done["stderr_dropped"] == 10000 - 8192
        tiles(outcome)
        # 300 MB without a newline, from a command that can not wait to be rid of it
        low = server.memory()
        samples = []

        async def watch():
            while True:
                samples.append(server.memory())
                await asyncio.sleep(0.02)

        watching = asyncio.create_task(watch())
        outcome = await client.run("head -c 300000000 /dev/zero; echo; echo after")
        watching.cancel()
        assert outcome.stdout == "\0" * 8192 + "...\nafter\n"
        assert outcome.done["stdout_bytes"] == 300000000 + 1 + 6
        assert outcome.done["stdout_dropped"] == 300000000 - 8192
        tiles(outcome)
        if not SANITIZED:
            assert len(samples) > 3
            assert max(samples) - low < 2 << 20, f"memory grew from {low} to {max(samples)}"


async def test_line_limit_can_be_set(make_server):
    server = make_server("--max-line", "100")
    async with await Client.open(server) as client:
        outcome = await client.run(writes("b'x' * 100 + b'\\n' + b'y' * 101 + b'\\nz\\n'"))
        assert outcome.stdout == "x" * 100 + "\n" + "y" * 100 + "...\nz\n"
        assert outcome.done["stdout_dropped"] == 1


async def test_fix_3_5_partial_line_is_not_lost_and_long_line_is_marked(server):
    # lines of all lengths, so that they lie across every buffer's edge
    generator = random.Random(35)
    lines = [
        "".join(generator.choices("abcdefghij \u00e4\u20ac", k=generator.randrange(0, 900)))
        for _ in range(2500)
    ]
    text = "\n".join(lines) + "\nlast without newline"
    async with await Client.open(server, dialect=Packed) as packed:
        script = (
            "import random, sys\n"
            "g = random.Random(35)\n"
            "lines = [''.join(g.choices('abcdefghij \\u00e4\\u20ac', k=g.randrange(0, 900)))"
            " for _ in range(2500)]\n"
            "sys.stdout.buffer.write(('\\n'.join(lines) + '\\nlast without newline').encode())"
        )
        outcome = await packed.run(argv=["/usr/bin/python3", "-c", script])
        assert hashlib.sha256(outcome.stdout).digest() == hashlib.sha256(text.encode()).digest()
        tiles(outcome)
    async with await Client.open(server) as client:
        outcome = await client.run(argv=["/usr/bin/python3", "-c", script])
        assert outcome.stdout == text
        tiles(outcome)
        # a message ends at the end of a line, but for what took longer than 50 ms to be whole
        parts = [output for output in outcome.outputs[:-1] if not output["data"].endswith("\n")]
        assert len(parts) <= 3, f"{len(parts)} of {len(outcome.outputs)} end within a line"
        # long and short lines in turn: every short one is whole, every long one marked
        outcome = await client.run(
            python(
                "import sys\n"
                "for i in range(200):\n"
                "    sys.stdout.write('s%d\\n' % i + 'L' * (8000 + i * 7) + '\\n')"
            )
        )
        expected = "".join(
            f"s{i}\n"
            + "L" * min(8192, 8000 + i * 7)
            + ("..." if 8000 + i * 7 > 8192 else "")
            + "\n"
            for i in range(200)
        )
        assert outcome.stdout == expected
        tiles(outcome)


async def test_partial_line_shows_soon(server):
    """A prompt is seen although no newline ends it."""
    async with await Client.open(server) as client:
        outcome = await client.start("printf 'password: '; sleep 600")
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await client.output_until(outcome, lambda o: o.outputs)
        assert loop.time() - begin < 2
        assert outcome.stdout == "password: "
        await client.control("CANCEL")
        await client.finish(outcome)
        tiles(outcome)


async def test_character_is_never_split(server):
    """Bytes of one character that come apart leave together, in both dialects' text."""
    code = (
        "import sys, time\n"
        "for b in '\\u20ac\\U0001f600\\u00e4'.encode():\n"
        "    sys.stdout.buffer.write(bytes([b])); sys.stdout.buffer.flush(); time.sleep(0.12)"
    )
    async with await Client.open(server) as client:
        outcome = await client.run(python(code))
        assert outcome.stdout == "\u20ac\U0001f600\u00e4"
        assert all(output["data"] for output in outcome.outputs)
        tiles(outcome)
        # a cut backs off to the edge of a character
        outcome = await client.run(writes("b'a' * 8191 + '\\u20ac'.encode() + b'\\nb\\n'"))
        assert outcome.stdout == "a" * 8191 + "...\nb\n"
        assert outcome.done["stdout_dropped"] == 3
        tiles(outcome)
        # 60 KB of three-byte characters without a newline, kept whole wherever it is cut
        outcome = await client.run(writes("'\\u20ac'.encode() * 2730 + b'\\n'"))
        assert outcome.stdout == "\u20ac" * 2730 + "\n"
        tiles(outcome)


async def test_bytes_that_are_not_utf8_become_replacement_characters(server):
    cases = [
        (b"\xff", "\ufffd"),
        (b"a\xc3", "a\ufffd"),
        (b"\xc3(", "\ufffd("),
        (b"\xe2\x82", "\ufffd"),
        (b"\xe2\x28\xa1", "\ufffd(\ufffd"),
        (b"\xf0\x9f\x98", "\ufffd"),
        (b"\xf0\x80\x80\x80", "\ufffd\ufffd\ufffd\ufffd"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        (b"\xc0\xaf", "\ufffd\ufffd"),
        (b"\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"),
        (b"\x80\xbf", "\ufffd\ufffd"),
        (b"\xf8\x88\x80\x80\x80", "\ufffd\ufffd\ufffd\ufffd\ufffd"),
    ]
    async with await Client.open(server) as client:
        text = b"".join(raw + b"|" for raw, _ in cases) + b"\n"
        outcome = await client.run(writes(repr(text)))
        assert outcome.stdout == "".join(shown + "|" for _, shown in cases) + "\n"
        assert outcome.stdout == text.decode("utf-8", "replace")
        tiles(outcome)
        # at the very end of a stream too
        for raw, shown in cases:
            outcome = await client.run(writes(repr(raw)))
            assert outcome.stdout == shown, raw
            assert outcome.done["stdout_bytes"] == len(raw)
        # every byte there is
        every = bytes(range(256)) * 3
        outcome = await client.run(writes("bytes(range(256)) * 3"))
        assert outcome.stdout == every.decode("utf-8", "replace")
        tiles(outcome)


async def test_every_character_survives_json(server):
    """Quotes, controls, NUL, line separators, the last plane."""
    text = '"\\/\b\f\n\r\t\0\x01\x1f\x7f\u2028\u2029\ufeff\uffff\U0010ffff</script>\n'
    async with await Client.open(server) as client:
        outcome = await client.run(writes(repr(text.encode())))
        assert outcome.stdout == text


async def test_msgpack_output_is_byte_exact(server):
    async with await Client.open(server, dialect=Packed) as client:
        outcome = await client.run(writes("bytes(range(256)) * 4000 + b'\\xff' * 100000"))
        assert outcome.stdout == bytes(range(256)) * 4000 + b"\xff" * 100000
        assert outcome.done["stdout_dropped"] == 0
        assert not any(output["truncated"] for output in outcome.outputs)
        tiles(outcome)


async def test_stdout_and_stderr_stay_apart(server):
    async with await Client.open(server) as client:
        outcome = await client.run(
            "for i in $(seq 500); do echo out$i; echo err$i >&2; done; exit 9"
        )
        assert outcome.stdout == "".join(f"out{i}\n" for i in range(1, 501))
        assert outcome.stderr == "".join(f"err{i}\n" for i in range(1, 501))
        assert outcome.done["exit_code"] == 9
        tiles(outcome)


async def test_lines_are_coalesced_for_a_slow_reader(server):
    """Not one message a line: that was 16 kB/s of `yes` once."""
    async with await Client.open(server, max_queue=1, read_limit=4096) as client:
        outcome = await client.start("seq 300000")
        await asyncio.sleep(0.5)
        await client.finish(outcome)
        assert outcome.stdout == "".join(f"{n}\n" for n in range(1, 300001))
        tiles(outcome)
        assert len(outcome.outputs) < 3000, "whole lines go together while the socket is busy"
        assert max(len(output["data"]) for output in outcome.outputs) <= 65536


async def test_line_is_sent_at_once_when_the_socket_is_idle(server):
    async with await Client.open(server) as client:
        outcome = await client.start("for i in 1 2 3 4 5; do echo $i; sleep 0.1; done")
        await client.finish(outcome)
        assert [output["data"] for output in outcome.outputs] == ["1\n", "2\n", "3\n", "4\n", "5\n"]


async def test_last_bytes_before_the_end_are_never_lost(server):
    """Short commands, many times: the place where others lose output."""
    async with await Client.open(server) as client, await Client.open(
        server, dialect=Packed
    ) as packed:
        for number in range(150):
            outcome = await client.run(f"printf 'end {number}'")
            assert outcome.stdout == f"end {number}"
            outcome = await packed.run(argv=["printf", f"end {number}"])
            assert outcome.stdout == f"end {number}".encode()
        # a large one whose tail is in the pipe when the command is gone
        outcome = await packed.run("head -c 1000000 /dev/zero; printf tail")
        assert outcome.stdout[-4:] == b"tail" and len(outcome.stdout) == 1000004
