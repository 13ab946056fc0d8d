"""bulkhead doctor: what it says of a host is so, whoever asks, and it leaves nothing behind."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

from harness import AM_ROOT, BULKHEADD, CLIENT, FRONTEND, PATIENCE, ROOT, all_pids

NAMESPACES = [
    f"{kind}_namespace" for kind in ("user", "mount", "pid", "network", "ipc", "uts", "cgroup")
]
SEEN_INSIDE = ["own_files", "own_usr", "own_proc", "own_root"]
NOBODY = 65534

# Becomes an ordinary user in a user namespace of its own, where a capability is kept for what
# comes first, and given up before the doctor is asked.
INSIDE = ["unshare", "--user", "--map-current-user", "--keep-caps"]
PLAIN = "exec setpriv --inh-caps=-all --ambient-caps=-all"


@pytest.fixture(scope="module")
def programs():
    """The programs where any user may execute them."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="bulkhead-test-"))
    folder.chmod(0o755)
    for program in (CLIENT, BULKHEADD, FRONTEND):
        shutil.copy(program, folder)
    yield folder
    shutil.rmtree(folder)


def run(*words, **more):
    return subprocess.run(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
        cwd="/",
        **more,
    )


def as_user(*words):
    """The words as an ordinary user would run them."""
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return [*(user if AM_ROOT else []), *words]


def ask(*words):
    """The exit code, the answer, and its rows by name."""
    done = run(*words, "--json")
    assert done.returncode in (0, 1) and done.stderr == "", done
    answer = json.loads(done.stdout)
    rows = {row["name"]: row for row in answer["protections"]}
    assert len(rows) == len(answer["protections"])
    assert (done.returncode == 0) == answer["level_full"]
    for level, names in (("level_full", ("full", "both")), ("level_basic", ("both",))):
        missing = [r for r in rows.values() if r["here"] is False and r["level"] in names]
        assert answer[level] == (not missing), (level, missing)
    return done.returncode, answer, rows


def ask_inside(programs, first, *unshare):
    """Asks as an ordinary user, in namespaces in which something was done before."""
    words = as_user(*INSIDE, *unshare, "sh", "-c")
    prepared = run(*words, first)
    if prepared.returncode != 0:
        pytest.skip(f"this host does not let us prepare it: {prepared.stderr.strip()}")
    return ask(*words, f'{first} && {PLAIN} "$@"', "sh", programs / "bulkhead", "doctor")


def missing(rows):
    return {name for name, row in rows.items() if row["here"] is False}


def needed(names, rows):
    return {name for name in names if rows[name]["level"] != "-"}


def test_what_it_says_is_what_bulkheadd_does(programs):
    """Level full works if and only if the doctor says so; for us, and for an ordinary user."""
    for words in [[], as_user()]:
        code, _, _ = ask(*words, programs / "bulkhead", "doctor")
        with tempfile.TemporaryDirectory(prefix="bulkhead-test-") as folder:
            os.chmod(folder, 0o777)
            line = [*words, "env", f"TMPDIR={folder}", programs / "bulkhead", "run", "--", "true"]
            done = run(*line, env={"PATH": os.environ["PATH"]})
        assert (done.returncode == 0) == (code == 0), done.stderr


def test_the_mode_is_that_of_bulkheadd(programs):
    _, answer, rows = ask(CLIENT, "doctor")
    assert answer["uid"] == os.geteuid()
    if AM_ROOT:
        assert answer["mode"] == "system" and answer["bulkheadd_uid"] != 0
        assert rows["uid_range"]["here"] is True
    _, answer, rows = ask(*as_user(programs / "bulkhead", "doctor"))
    assert answer["mode"] == "user" and answer["bulkheadd_uid"] == answer["uid"] != 0
    assert rows["uid_range"]["here"] is None


def test_the_table_for_people():
    """A row for each member of the JSON, in columns; a remedy below what is missing."""
    done = run(CLIENT, "doctor")
    _, answer, rows = ask(CLIENT, "doctor")
    lines = done.stdout.splitlines()
    assert done.stderr == "" and all(line.isprintable() for line in lines)
    head = next(i for i, line in enumerate(lines) if line.startswith("PROTECTION"))
    columns = [lines[head].index(word) for word in ("HERE", "LEVEL", "WHAT FOR")]
    words = {True: "yes", False: "no", None: "-"}
    at = head + 1
    for row in answer["protections"]:
        line = lines[at]
        fields = [line[a:b].strip() for a, b in zip([0, *columns], [*columns, len(line)])]
        assert fields[:3] == [row["name"], words[row["here"]], row["level"]]
        assert fields[3].startswith(row["what_for"]) and fields[3].endswith(row["found"])
        at += 1
        if row["remedy"]:
            assert lines[at].strip() == f"remedy: {row['remedy']}"
            at += 1
    assert f"level full {'works' if answer['level_full'] else 'does not work'} here" in lines[-1]


def test_no_user_namespaces(programs):
    """Everything that hangs on them is missing too, and only the cause has a remedy."""
    code, answer, rows = ask_inside(programs, "echo 0 > /proc/sys/user/max_user_namespaces")
    assert code == 1 and answer["level_basic"]
    assert needed(missing(rows), rows) == {*NAMESPACES, *SEEN_INSIDE}
    assert "max_*_namespaces" in rows["user_namespace"]["found"]
    assert rows["user_namespace"]["remedy"]
    assert all(rows[n]["remedy"] is None for n in NAMESPACES[1:] + SEEN_INSIDE)
    assert rows["user.max_*_namespaces"]["found"] == "user.max_user_namespaces = 0"


@pytest.mark.parametrize(
    "kind, row",
    [
        ("mnt", "mount"),
        ("pid", "pid"),
        ("net", "network"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("cgroup", "cgroup"),
    ],
)
def test_one_kind_of_namespace_is_missing(programs, kind, row):
    code, _, rows = ask_inside(programs, f"echo 0 > /proc/sys/user/max_{kind}_namespaces")
    gone = needed(missing(rows), rows)
    assert code == 1
    assert {f"{row}_namespace", "own_root"} <= gone and rows[f"{row}_namespace"]["remedy"]
    assert gone.isdisjoint(set(NAMESPACES) - {f"{row}_namespace"})
    assert rows["user.max_*_namespaces"]["found"] == f"user.max_{kind}_namespaces = 0"


def test_covered_proc(programs):
    """As containers have it: no /proc of one's own can be had, and what is in the way is named."""
    code, answer, rows = ask_inside(
        programs, "mount --bind /dev/null /proc/uptime", "--mount", "--propagation", "private"
    )
    assert code == 1 and answer["level_basic"]
    assert rows["whole_proc"]["found"] == "covered: /proc/uptime"
    assert needed(missing(rows), rows) == {"own_proc"} and rows["own_proc"]["remedy"]


def test_hidepid(programs):
    """Where the status of commands cannot be read, no level works."""
    code, answer, rows = ask_inside(
        programs,
        "mount -t proc -o hidepid=2 proc /proc",
        *("--mount", "--propagation", "private", "--pid", "--fork"),
    )
    assert code == 1 and not answer["level_basic"]
    assert "read_back" in missing(rows) and "hidepid" in rows["read_back"]["remedy"]


@pytest.mark.skipif(not AM_ROOT, reason="only root has capabilities to lose")
def test_root_without_its_capabilities():
    code, answer, rows = ask("setpriv", "--bounding-set=-setuid", CLIENT, "doctor")
    assert code == 1 and not answer["level_basic"]
    assert rows["uid_range"]["here"] is False and "root" in rows["uid_range"]["found"]


def test_uid_range_that_is_not_there(programs):
    """Root of a user namespace that has one uid: bulkheadd could not give any away."""
    words = as_user("unshare", "--user", "--map-root-user")
    if run(*words, "true").returncode != 0:
        pytest.skip("this host gives us no user namespace")
    code, answer, rows = ask(*words, programs / "bulkhead", "doctor")
    assert code == 1 and answer["mode"] == "system" and not answer["level_basic"]
    assert rows["uid_range"]["here"] is False and rows["uid_range"]["remedy"]
    assert rows["user_namespace"]["found"] == "not tried: uid_range is missing"


def test_nothing_is_left():
    """No process, no mount, no change of a sysctl."""

    def state():
        sysctls = sorted(pathlib.Path("/proc/sys/user").glob("max_*"))
        return [
            pathlib.Path("/proc/self/mounts").read_text(),
            *(path.read_text() for path in sysctls),
        ]

    before = state()
    process = subprocess.Popen(
        [CLIENT, "doctor"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.communicate(timeout=60)[1] == b""
    assert state() == before
    for pid in all_pids():
        try:
            assert os.getsid(pid) != process.pid, pid
        except (ProcessLookupError, PermissionError):
            pass


@pytest.mark.parametrize(
    "words, text",
    [
        (["now"], "now"),
        (["--no-such"], "no-such"),
        (["--uid-range", "5"], "uid-range"),
        (["--uid-range", "5-7"], "uid-range"),
        (["--uid-range", "0-100"], "uid-range"),
        (["--uid-range", "10-99999999999"], "uid-range"),
        (["--uid-range", "1" * 70 + "-5"], "uid-range"),
    ],
)
def test_wrong_use(words, text):
    done = run(CLIENT, "doctor", *words)
    assert done.returncode == 125 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and text in done.stderr


def test_output_that_cannot_be_written():
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run(
            [CLIENT, "doctor", "--json"], stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert done.returncode == 125 and done.stderr.count(b"\n") == 1


def test_the_default_range_is_that_of_bulkheadd():
    ours = re.search(r'UID_RANGE "([0-9-]+)"', (ROOT / "client" / "doctor.c").read_text())
    assert ours[1] in (ROOT / "supervisor" / "settings.c").read_text()
