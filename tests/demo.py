"""
The client of the demo: runs real commands through a running bulkheadd, shows
what comes as it comes, and fails when something is not as it must be.

    demo.py CLIENT FOLDER PID LEVEL    (started by tests/demo)
"""

import asyncio
import contextlib
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import threading
import time

import websockets

CLIENT, FOLDER = sys.argv[1], pathlib.Path(sys.argv[2])
SERVER, LEVEL = int(sys.argv[3]), sys.argv[4]
RUNTIME, JOB = FOLDER / "run", FOLDER / "job"

SIEVE = r"""
#include <stdio.h>
#include <unistd.h>

static char composite[400001];

int main(void)
{
    int unused, count = 0;

    for (int n = 2; n <= 400000; n++) {
        for (long m = (long)n * n; !composite[n] && m <= 400000; m += n)
            composite[m] = 1;
        count += !composite[n];
        if (n % 100000 == 0) {
            printf("%d primes up to %d\n", count, n);
            fflush(stdout);
            usleep(200000);
        }
    }
    fprintf(stderr, "done\n");
    return count == 33860 ? 0 : 1;
}
"""

# Ignores SIGTERM, and sends a child into a session of its own.
STUBBORN = "trap '' TERM; setsid sleep 1000 & echo ready; while :; do sleep 1; done"

COUNTER = "i=0; while [ $i -lt 12 ]; do i=$((i+1)); echo tick $i; sleep 0.1; done"


# ---- saying and checking ----


def say(text=""):
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os._exit(128 + signal.SIGPIPE)


def title(text):
    say(f"\n== {text}")


def must(condition, text):
    if not condition:
        say(f"  NOT AS IT MUST BE: {text}")
        sys.exit(1)


def show(start, stream, text):
    if len(text) > 200:
        text = f"{text[:12]} [{len(text)} bytes in all] {text[-12:]}"
    say(f"  {time.monotonic() - start:5.2f} s  {stream}  {text}")


def show_verdict(verdict):
    end = (
        f"signal {verdict['signal']}" if verdict["signal"] else f"exit code {verdict['exit_code']}"
    )
    cpu = verdict["user_ms"] + verdict["system_ms"]
    say(
        f"  verdict: {verdict['reason']}, {end}, {verdict['wall_ms']:.0f} ms wall, {cpu:.0f} ms cpu, "
        f"{verdict['stdout_bytes']} + {verdict['stderr_bytes']} bytes out, "
        f"{verdict['stdout_dropped']} dropped"
    )
    must((verdict["exit_code"] == 0) <= (verdict["reason"] == "exited"), "0 only if it exited")


def alive(pid):
    """Whether a process is there and not merely waiting to be reaped."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat[stat.rindex(")") + 2] not in "ZX"


def child_of(pid):
    """The first child of a process, by the host's numbers; a command knows those of its cell."""
    return int(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


# ---- the bulkhead client ----


def bulkhead(*words, stdin=None, options=()):
    """Runs `bulkhead exec`, shows both streams as they come. Returns code, lines, verdict."""
    verdict_file = FOLDER / "verdict.json"
    line = [CLIENT, "exec", "--runtime-dir", RUNTIME, "--verdict-file", verdict_file, *options]
    say("  $ bulkhead exec " + shlex.join([*options, "--", *words]))
    start = time.monotonic()
    lines = []
    process = subprocess.Popen(
        [*line, "--", *words],
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )

    def follow(name, pipe):
        for text in pipe:
            lines.append((time.monotonic() - start, name, text.rstrip("\n")))
            show(start, name, text.rstrip("\n"))

    threads = [
        threading.Thread(target=follow, args=("stdout", process.stdout)),
        threading.Thread(target=follow, args=("stderr", process.stderr)),
    ]
    for thread in threads:
        thread.start()
    if stdin:
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(stdin)
    for thread in threads:
        thread.join()
    code = process.wait()
    must(verdict_file.stat().st_size > 0, f"no verdict; bulkhead exits with {code}")
    verdict = json.loads(verdict_file.read_text())
    verdict_file.unlink()
    show_verdict(verdict)
    say(f"  bulkhead exits with {code}")
    return code, lines, verdict


def show_server():
    address = (RUNTIME / "address").read_text().strip()
    say(f"bulkheadd serves {address}, level {LEVEL}, with a token made for this run.")
    children = pathlib.Path(f"/proc/{SERVER}/task/{SERVER}/children").read_text().split()
    for pid in [str(SERVER), *children]:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        uids = fields["Uid"].split()
        name = fields["Name"].replace("fronte", "frontend")  # the kernel keeps 15 characters
        say(
            f"  {name:17}  pid {pid:>7}  uid {uids[0]:>10}, effective {uids[1]:>10}  "
            f"capabilities {int(fields['CapEff'], 16):x}"
        )
        must(uids[0] != "0" and uids[1] != "0", "no process of it is root")


def compile_and_run():
    title("Compile and run a C program: stdin goes in, both streams come back as they are written")
    code, lines, verdict = bulkhead(
        "sh",
        "-c",
        "cat > sieve.c && cc -Wall -O1 -o sieve sieve.c && ./sieve",
        stdin=SIEVE,
        options=("--stdin",) if LEVEL == "full" else ("--stdin", "--cwd", str(JOB)),
    )
    out = [text for _, name, text in lines if name == "stdout"]
    times = [when for when, name, _ in lines if name == "stdout"]
    must(code == 0 and verdict["reason"] == "exited", "exit code 0")
    must(out[-1] == "33860 primes up to 400000", "the right number of primes")
    must(len(out) == 4 and times[3] - times[0] > 0.3, "lines came one by one, not at the end")
    must(any("unused" in text for _, name, text in lines if name == "stderr"), "cc's warning")


def ends():
    title("How it ends is how bulkhead ends: the command's own code, a signal, a timeout")
    code, _, verdict = bulkhead("sh", "-c", "exit 3")
    must(code == 3 and verdict["exit_code"] == 3, "exit code 3")
    code, _, verdict = bulkhead("sh", "-c", "kill -SEGV $$")
    must(code == 128 + 11 and verdict["reason"] == "signaled", "128 + SIGSEGV")
    code, _, verdict = bulkhead("sleep", "1000", options=("--timeout", "500ms"))
    must(code == 124 and verdict["reason"] == "timeout", "124 for a timeout")


def seen():
    if LEVEL != "full":
        return
    title("What it sees: a file system, users and processes of its own")
    code, lines, _ = bulkhead("sh", "-c", "id; hostname; pwd; echo /*; echo /proc/[0-9]*")
    texts = [text for _, _, text in lines]
    must(code == 0 and texts[0].startswith("uid=1000(tenant) gid=1000(tenant)"), "its own user")
    must(texts[1:3] == ["cell", "/workspace"], "its own host name and directory")
    must(not {"/home", "/root", "/sys"} & set(texts[3].split()), "nothing of the host but /usr")
    must(len(texts[4].split()) == 1, "no process but its own")


def refused():
    title("What it may not do: reach the network, make namespaces, gain privileges")
    code, lines, _ = bulkhead(
        "python3",
        "-Ic",
        'import socket, sys; sys.tracebacklimit = 0; socket.create_connection(("192.0.2.1", 80))',
    )
    reason = "unreachable" if LEVEL == "full" else "not supported"
    must(code == 1 and reason in lines[-1][2], "no way to the network")
    code, lines, _ = bulkhead("unshare", "--user", "--net", "true")
    must(code == 1 and "not permitted" in lines[-1][2], "no namespaces")
    code, lines, verdict = bulkhead("grep", "-E", "CapEff|NoNewPrivs|Seccomp:", "/proc/self/status")
    fields = dict(text.split(":\t") for _, _, text in lines)
    must(fields == {"CapEff": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}, "locked in")
    say(f"  protections: {', '.join(verdict['protections'])}")


# ---- the plain dialect ----


def connect():
    url = (RUNTIME / "address").read_text().split()[0]
    headers = {"Authorization": "Bearer " + (RUNTIME / "token").read_text().strip()}
    newer = int(websockets.version.version.split(".")[0]) >= 14
    return websockets.connect(url, **{"additional_headers" if newer else "extra_headers": headers})


class Session:
    """One connection, in JSON-RPC."""

    def __init__(self, socket):
        self.socket = socket
        self.last_id = 0
        self.output = []
        self.start = time.monotonic()

    async def ask(self, method, **params):
        self.last_id += 1
        say(f"  > {method} {json.dumps(params)[:90]}")
        request = {"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params}
        await self.socket.send(json.dumps(request))

    async def next(self):
        return json.loads(await asyncio.wait_for(self.socket.recv(), 10))

    async def until(self, wanted):
        """Shows what comes until wanted(message) says that it did. Returns that message."""
        while True:
            message = await self.next()
            method, params = message.get("method"), message.get("params")
            if method == "process.output":
                self.output.append(params)
                for text in params["data"].splitlines():
                    show(self.start, params["type"], text)
            elif method == "process.completed":
                show_verdict(params)
            elif method and method != "connected":
                say(f"  < {method}" + (f", pid {params['pid']}" if "pid" in params else ""))
            elif not method:
                say(f"  < {json.dumps(message.get('result') or message['error'])}")
            must("error" not in message, "no error was asked for")
            if wanted(message):
                return message

    async def listen(self, seconds):
        """The messages that come within a time."""
        messages, end = [], time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                messages.append(json.loads(await asyncio.wait_for(self.socket.recv(), left)))
            except asyncio.TimeoutError:
                break
        return messages

    async def method(self, name):
        return (await self.until(lambda message: message.get("method") == name))["params"]


async def cut_line(session):
    title("The same over a bare WebSocket, in JSON: a line of 9000 bytes is cut, and says so")
    await session.ask("execute", command="echo short; printf '%09000d\\n' 7; echo after it")
    verdict = await session.method("process.completed")
    data = "".join(part["data"] for part in session.output)
    lines = data.splitlines()
    must(lines[0] == "short" and lines[2] == "after it", "the lines around it are whole")
    must(lines[1] == "0" * 8192 + "...", "8192 bytes and the mark")
    must(verdict["stdout_bytes"] == 9016 and verdict["stdout_dropped"] == 808, "808 bytes dropped")
    must(any(part["truncated"] for part in session.output), "it is marked as truncated")


async def pause_and_resume(session):
    title("Pause, half a second of silence, resume: nothing is lost")
    session.output.clear()
    await session.ask("execute", command=COUNTER)
    await session.until(lambda message: len(session.output) == 3)
    await session.ask("control", type="PAUSE")
    await session.method("process.paused")
    on_their_way = await session.listen(0.1)
    session.output += [message["params"] for message in on_their_way]
    must(not await session.listen(0.5), "silence while it is paused")
    await session.ask("control", type="RESUME")
    verdict = await session.method("process.completed")
    data = "".join(part["data"] for part in session.output)
    must(data == "".join(f"tick {n}\n" for n in range(1, 13)), "twelve ticks in order")
    must(verdict["reason"] == "exited" and verdict["wall_ms"] > 1600, "the pause took its time")


async def cancel(session):
    title("Cancel a command that ignores SIGTERM and hides a child in a session of its own")
    session.output.clear()
    await session.ask("execute", command=STUBBORN)
    started = await session.method("process.started")
    await session.until(lambda message: session.output)
    hidden = child_of(started["pid"])
    must(alive(hidden) and alive(started["pid"]), "both run")
    await session.ask("control", type="CANCEL")
    verdict = await session.method("process.completed")
    must(verdict["reason"] == "canceled" and verdict["signal"] == "SIGKILL", "it was killed")
    must(not alive(hidden) and not alive(started["pid"]), "nothing it started is left")
    say(f"  processes {started['pid']} and {hidden} are gone")


async def converse():
    async with connect() as socket:
        session = Session(socket)
        await session.method("connected")
        await cut_line(session)
        await pause_and_resume(session)
        await cancel(session)


def held():
    title("What is held when all is done")
    line = [CLIENT, "status", "--runtime-dir", RUNTIME]
    end = time.monotonic() + 5
    while True:
        text = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True).stdout
        if "sessions 0 of 100, commands 0" in text or time.monotonic() > end:
            break
        time.sleep(0.05)
    for part in text.splitlines():
        say("  " + part)
    must("sessions 0 of 100, commands 0" in text, "no session and no command")


def main():
    show_server()
    compile_and_run()
    seen()
    ends()
    refused()
    asyncio.run(converse())
    held()


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # tests/demo tidies up
    main()
