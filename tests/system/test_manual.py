"""The manual says what the programs do: the same options, messages, codes."""

import re
import shutil
import subprocess

import pytest

import channel
from harness import BULKHEADD, CLIENT, ROOT
from test_options import help_text, long_options

MAN = ROOT / "man"
PAGES = [
    "bulkhead.1",
    "bulkheadd.8",
    "bulkhead-frontend.8",
    "bulkhead.conf.5",
    "bulkhead-protocol.7",
]


def page(name):
    return (MAN / name).read_text()


def documented_flags(text):
    r"""Long options of an mdoc page: .It Fl -name ... or .Fl -name or \-\-name."""
    text = text.replace("\\-", "-")
    return set(re.findall(r"(?:\bFl |--)-?([a-z][a-z-]+)", text))


@pytest.mark.parametrize("name", PAGES)
def test_page_is_there_and_clean(name):
    assert (MAN / name).exists()
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is not installed")
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", MAN / name], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout == "", done.stdout


def test_every_option_of_bulkheadd_is_in_its_page():
    flags = documented_flags(page("bulkheadd.8"))
    wanted = set(long_options(help_text(BULKHEADD)))
    assert wanted <= flags, f"not in bulkheadd(8): {sorted(wanted - flags)}"
    listed = set(re.findall(r"^\.It (?:Fl \w Ns? ?.*?)?Fl -([a-z-]+)", page("bulkheadd.8"), re.M))
    assert listed <= wanted, f"no options any more: {sorted(listed - wanted)}"


def test_every_key_of_the_file_is_in_its_page():
    """All options but those that only the command line has."""
    keys = set(re.findall(r"^\.It (?:Ic|Cm|Va|Li|Sy) ([a-z-]+)", page("bulkhead.conf.5"), re.M))
    wanted = set(long_options(help_text(BULKHEADD))) - {"config", "check", "help", "version"}
    assert wanted == keys, f"differ: {sorted(wanted ^ keys)}"


@pytest.mark.parametrize("word", ["exec", "run", "status", "doctor"])
def test_every_option_of_the_client_is_in_its_page(word):
    flags = documented_flags(page("bulkhead.1"))
    wanted = set(long_options(help_text(CLIENT, word)))
    assert wanted and wanted <= flags, f"not in bulkhead(1): {sorted(wanted - flags)}"


def test_every_message_of_the_table_is_in_the_protocol_page():
    text = page("bulkhead-protocol.7")
    for message in channel.TABLE.values():
        assert re.search(rf"\b{message.name}\b", text), f"{message.name} is not documented"


def test_methods_errors_and_close_codes_are_in_the_protocol_page():
    text = page("bulkhead-protocol.7").replace("\\-", "-")
    for method in (
        "execute",
        "control",
        "hook_status",
        "pong",
        "connected",
        "process.started",
        "process.output",
        "process.completed",
        "process.paused",
        "process.resumed",
        "process.canceled",
        "ping",
        "stdin.credit",
    ):
        assert method in text, method
    for code in (
        -32700,
        -32600,
        -32601,
        -32602,
        -32603,
        -32001,
        -32002,
        -32003,
        -32010,
        -32013,
        -32018,
    ):
        assert str(code) in text, code
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 4001, 4003):
        assert str(code) in text, code
    for reason in verdict_reasons():
        assert reason in text, reason
    for path in ("/health", "/healthz", "/readyz", "/ws", "/ws/mcp", "/status"):
        assert path in text, path


def verdict_reasons():
    return re.findall(r'X\(\d+, \w+, "(\w+)"\)', (ROOT / "common" / "verdict.h").read_text())


def test_exit_codes_are_in_the_pages():
    for code in (0, 100, 101, 111):
        assert re.search(rf"\b{code}\b", page("bulkheadd.8")), code
    for code in (124, 125, 126, 127, 128):
        assert re.search(rf"\b{code}\b", page("bulkhead.1")), code
