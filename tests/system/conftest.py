"""
pytest's side of the harness: servers as fixtures, tests that are coroutines,
and a bound on the time of each.
"""

import asyncio
import inspect
import shutil
import signal
import threading

import pytest

import harness
from harness import PATIENCE, Server

# Seconds a test may take where it does not say otherwise (@pytest.mark.bound).
BOUND = 60


def pytest_configure(config):
    config.addinivalue_line("markers", "bound(seconds): the most time the test may take")
    config.addinivalue_line("markers", "background: waits only; runs beside the other tests")


class Background(threading.Thread):
    """A test that only waits. It begins with the first test and is asked for its result last."""

    def __init__(self, item):
        super().__init__(daemon=True)
        self.item = item
        self.error = None

    def run(self):
        try:
            asyncio.run(self.item.obj())
        except BaseException as error:
            self.error = error


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("background") is not None)
    for program in (harness.BULKHEADD, harness.FRONTEND, harness.CLIENT):
        if not program.exists():
            raise pytest.UsageError(f"{program} is missing: build first, or set BULKHEAD_BUILD")


def pytest_collection_finish(session):
    if session.config.option.collectonly:
        return
    for item in session.items:
        if item.get_closest_marker("background"):
            item.background = Background(item)
            item.background.start()


def pytest_sessionfinish():
    """However the run ended: no server of ours stays."""
    for server in list(harness.running):
        server.abandon()
        server.remove()


def pytest_report_header():
    kind = "root" if harness.AM_ROOT else "an ordinary user"
    return f"bulkhead: {harness.BUILD} as {kind}" + (", sanitized" if harness.SANITIZED else "")


class OverTime(BaseException):
    """Not an Exception: nothing in a test may swallow it."""


def on_alarm(number, stack):
    raise OverTime("the test takes too long")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    mark = item.get_closest_marker("bound")
    seconds = (mark.args[0] if mark else BOUND) * PATIENCE
    signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    background = getattr(pyfuncitem, "background", None)
    if background:
        background.join()
        if background.error:
            raise background.error
        return True
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        item.failed = outcome.get_result().failed


@pytest.fixture
def level():
    """How much a server isolates. A file or a test that wants several is parametrized with it."""
    return "full"


@pytest.fixture
def make_server(request, level):
    """Starts servers with options of the test's choice; ends them all."""
    servers = []

    def make(*options, start=True, **more):
        chosen = () if level == "full" else ("--level", level)
        server = Server(*chosen, *options, **more)
        servers.append(server)
        if start:
            server.start()
        return server

    yield make
    trouble = []
    for server in servers:
        try:
            if getattr(request.node, "failed", False):
                server.abandon()
            else:
                server.stop()
        except AssertionError as error:
            trouble.append(str(error))
        finally:
            server.remove()
    assert not trouble, "\n".join(trouble)


@pytest.fixture
def server(make_server):
    """A server with the defaults."""
    return make_server()


@pytest.fixture
def guarded(request, server):
    """A server that must be, after the test, as it was before it, and the host with it."""
    traces = harness.Traces(server)
    yield server
    if not getattr(request.node, "failed", False):
        traces.check()


@pytest.fixture
def folder():
    """An empty folder that other users may enter."""
    import pathlib
    import tempfile

    path = pathlib.Path(tempfile.mkdtemp(prefix="bulkhead-test-"))
    path.chmod(0o755)
    yield path
    if not harness.KEEP:
        shutil.rmtree(path, ignore_errors=True)
