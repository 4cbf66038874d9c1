from __future__ import annotations

import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from plait import __version__, dial
from plait.connect import bind, connect
from plait.errors import PlaitError, StorageError
from plait.rpc import Caller
from plait.wire import frame
from tests.support.daemons import Home, gone, home, until
from tests.support.tiny_program import COMMAND

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Home]:
    with home(tmp_path / "home") as made:
        yield made


def descriptors_of(pid: int) -> list[str]:
    return [path.name for path in Path(f"/proc/{pid}/fd").iterdir()]


def is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def test_dialling_starts_a_daemon_once(here: Home) -> None:
    with here.caller(start=True) as caller:
        first = caller.request("plait/daemon/status")
    with here.caller(start=True) as caller:
        second = caller.request("plait/daemon/status")
    assert first["pid"] == second["pid"] == here.pid()
    assert first["version"] == __version__
    assert first["sessions"] == 0
    assert first["socket"] == str(here.places.socket)
    assert [line.split()[0] for line in here.engine_log()] == ["start"]


def test_without_a_daemon_and_without_starting_one_there_is_a_plain_answer(here: Home) -> None:
    with pytest.raises(dial.NoDaemonError):
        dial.dial(here.places, start=False)


@linux
def test_the_daemon_is_on_its_own_and_its_files_are_private(here: Home) -> None:
    here.caller(start=True).close()
    pid = here.pid()
    assert os.getsid(pid) == pid
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    held = set()
    for number in descriptors_of(pid):
        # What the connection above left may be closed while we look.
        with suppress(FileNotFoundError):
            held.add(Path(f"/proc/{pid}/fd/{number}").readlink().name)
    kinds = {name.partition(":")[0] for name in held}
    assert kinds <= {"null", "daemon.log", "daemon.lock", "anon_inode", "[eventpoll]", "socket", "pipe"}, held
    for path in (here.places.socket, here.places.lock, here.places.log, dial.manifest_file(here.places)):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert stat.S_IMODE(here.places.runtime.stat().st_mode) == 0o700


def test_fifty_starters_at_once_make_one_daemon(here: Home) -> None:
    here.places.runtime.mkdir(parents=True, mode=0o700)
    # A dead daemon's socket is what makes several starters of a naive design remove each other's.
    bind(here.places.socket).close()
    program = (
        "import sys; from plait.dial import dial; from plait.paths import places; from plait.rpc import Caller\n"
        "caller = Caller(dial(places(), command=sys.argv[1:])); caller.introduce()\n"
        "print(caller.request('plait/daemon/status')['pid'])"
    )
    starters = [
        subprocess.Popen([sys.executable, "-c", program, *COMMAND], env=here.env, stdout=subprocess.PIPE, text=True)
        for _ in range(50)
    ]
    pids = {starter.communicate(timeout=60)[0].strip() for starter in starters}
    assert [starter.returncode for starter in starters] == [0] * 50
    assert pids == {str(here.pid())}
    assert here.engine_log() == [f"start {here.pid()}"]
    assert is_locked(here.places.lock)


@pytest.mark.slow
def test_daemons_started_side_by_side_elect_one_and_the_others_end_well(here: Home) -> None:
    daemons = [here.start(wait=False) for _ in range(8)]
    until(
        lambda: sum(daemon.poll() is None for daemon in daemons) == 1 and dial.manifest_file(here.places).exists(), 60
    )
    assert [daemon.returncode for daemon in daemons if daemon.poll() is not None] == [0] * 7
    assert here.status()["pid"] == here.pid()
    assert here.engine_log() == [f"start {here.pid()}"]


def test_a_killed_daemon_is_replaced_by_the_next_who_dials(here: Home) -> None:
    with here.caller(start=True) as caller:
        first = here.pid()
        os.kill(first, signal.SIGKILL)
        with pytest.raises(PlaitError):
            caller.listen(timeout_s=10)
    until(lambda: not is_locked(here.places.lock))
    with here.caller(start=True) as caller:
        status = caller.request("plait/daemon/status")
    assert status["pid"] == here.pid() != first
    assert status["crashes"] == 1
    assert f"The daemon before this one (pid {first}) ended without stopping." in here.places.log.read_text()


@pytest.mark.parametrize("what", ["dead socket", "file", "nothing", "dangling link"])
def test_whatever_lies_in_the_sockets_place_does_not_stop_a_start(here: Home, what: str) -> None:
    here.places.runtime.mkdir(parents=True, mode=0o700)
    if what == "dead socket":
        bind(here.places.socket).close()
    elif what == "file":
        here.places.socket.write_text("x")
    elif what == "dangling link":
        here.places.socket.symlink_to("nowhere")
    here.caller(start=True).close()
    assert stat.S_ISSOCK(here.places.socket.lstat().st_mode)


def test_a_runtime_directory_that_is_a_link_is_refused(here: Home, tmp_path: Path) -> None:
    here.root.mkdir(exist_ok=True)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    here.places.runtime.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError):
        dial.dial(here.places, command=COMMAND)
    daemon = here.start(wait=False)
    assert daemon.wait(timeout=20) == 1
    assert "is not a directory" in here.errors()
    assert list((tmp_path / "elsewhere").iterdir()) == []


@as_root
def test_a_runtime_directory_of_somebody_else_is_refused(here: Home) -> None:
    here.places.runtime.mkdir(parents=True, mode=0o700)
    os.chown(here.places.runtime, 65534, 65534)
    with pytest.raises(StorageError, match="another user"):
        dial.dial(here.places, command=COMMAND)


def test_a_lock_file_that_is_a_link_is_refused(here: Home, tmp_path: Path) -> None:
    here.places.runtime.mkdir(parents=True, mode=0o700)
    here.places.lock.symlink_to(tmp_path / "planted")
    with pytest.raises(PlaitError, match="did not start") as failed:
        dial.dial(here.places, command=COMMAND)
    assert any("daemon.lock" in line for line in failed.value.data["log"])  # type: ignore[attr-defined]  # a list
    assert not (tmp_path / "planted").exists()


@as_root
def test_other_users_cannot_talk_to_the_daemon() -> None:
    program = (
        "import os, socket, sys; from plait.connect import connect; from pathlib import Path\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: peer = connect(Path(sys.argv[1]))\n"
        "except PermissionError: print('no way in')\n"
        "else: print(peer.recv(100))"
    )

    def visit(made: Home) -> str:
        command = [sys.executable, "-c", program, str(made.places.socket)]
        return subprocess.run(command, env=made.env, capture_output=True, text=True, check=True).stdout.strip()

    # The directories that pytest gives are closed to others themselves.
    with tempfile.TemporaryDirectory() as directory, home(Path(directory)) as made:
        Path(directory).chmod(0o755)
        made.caller(start=True).close()
        assert visit(made) == "no way in"
        made.places.runtime.chmod(0o755)
        made.places.socket.chmod(0o666)
        assert visit(made) == "b''"
        assert "Refused a connection of the user with the id 65534" in made.places.log.read_text()
        made.places.runtime.chmod(0o700)
        assert made.status()["pid"] == made.pid()


def test_a_path_longer_than_a_sockets_name_may_be_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100) / ("f" * 100)
    with home(deep) as made:
        made.caller(start=True).close()
        assert len(str(made.places.socket)) > 300
        assert made.status()["socket"] == str(made.places.socket)


@pytest.mark.parametrize("how", ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.slow), "request"])
def test_a_daemon_that_is_told_to_stop_finishes_and_tidies_up(here: Home, how: str) -> None:
    daemon = here.start()
    with here.caller() as caller:
        if how == "request":
            assert caller.request("plait/daemon/stop", {"reason": "test"}) == {"pid": daemon.pid}
        else:
            daemon.send_signal(getattr(signal, how))
        assert daemon.wait(timeout=20) == 0
    assert [line.split()[0] for line in here.engine_log()] == ["start", "stop"]
    assert sorted(path.name for path in here.places.runtime.iterdir()) == ["daemon.lock"]
    here.caller(start=True).close()
    assert here.status()["crashes"] == 0


@pytest.mark.slow
def test_what_changes_something_is_finished_before_the_daemon_ends(here: Home) -> None:
    daemon = here.start()
    with here.caller() as caller, here.caller() as other:
        caller._send({"jsonrpc": "2.0", "id": 77, "method": "plait/slowChange", "params": {"name": "x"}})
        other.request("plait/daemon/stop", {})
        answer = caller._next(time.monotonic() + 10)
    assert answer == {"jsonrpc": "2.0", "id": 77, "result": {"done": True}}
    assert daemon.wait(timeout=20) == 0


def test_a_removed_socket_comes_back(here: Home) -> None:
    here.start(TINY_CHECK_S="0.05")
    kept = here.caller()
    for _ in range(3):
        here.places.socket.unlink()
        until(here.places.socket.exists)
        assert here.status()["pid"] == here.pid()
    assert kept.request("plait/daemon/status")["pid"] == here.pid()
    kept.close()


@pytest.mark.slow
def test_a_replaced_socket_is_replaced_again(here: Home) -> None:
    here.start(TINY_CHECK_S="0.05")
    before = here.places.socket.lstat().st_ino
    here.places.socket.unlink()
    stranger = bind(here.places.socket)
    strangers = here.places.socket.lstat().st_ino
    until(lambda: here.places.socket.exists() and here.places.socket.lstat().st_ino not in (before, strangers))
    assert here.status()["pid"] == here.pid()
    stranger.close()


@pytest.mark.slow
def test_an_emptied_runtime_directory_is_filled_again_and_stays_with_one_daemon(here: Home) -> None:
    daemon = here.start(TINY_CHECK_S="0.05")
    for path in here.places.runtime.iterdir():
        path.unlink()
    here.places.runtime.rmdir()
    until(lambda: dial.manifest_file(here.places).exists() and here.places.socket.exists())
    assert is_locked(here.places.lock)
    with here.caller(start=True) as caller:
        assert caller.request("plait/daemon/status")["pid"] == daemon.pid


def test_a_daemon_whose_lock_went_to_another_yields(here: Home) -> None:
    daemon = here.start(TINY_CHECK_S="0.05")
    os.kill(daemon.pid, signal.SIGSTOP)
    here.places.lock.unlink()
    with here.places.lock.open("w") as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        os.kill(daemon.pid, signal.SIGCONT)
        assert daemon.wait(timeout=20) == 0
    assert "another daemon was elected" in here.errors()


def test_an_engine_that_cannot_start_is_reported_at_once_with_the_reason(
    here: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINY_FAILS", "1")
    began = time.monotonic()
    with pytest.raises(PlaitError) as failed:
        dial.dial(here.places, command=COMMAND)
    assert time.monotonic() - began < dial.PATIENCE_S
    assert "the engine cannot start" in failed.value.hint
    assert not is_locked(here.places.lock)
    monkeypatch.delenv("TINY_FAILS")
    here.caller(start=True).close()


def test_a_program_that_cannot_be_started_is_named(here: Home) -> None:
    with pytest.raises(PlaitError, match="/no/such/program"):
        dial.dial(here.places, command=["/no/such/program"])


def test_an_older_daemon_is_replaced_and_its_clients_are_let_go(here: Home) -> None:
    old = here.start(TINY_VERSION="0.0.9")
    client = here.caller()
    assert here.status()["version"] == "0.0.9"
    with here.caller(start=True) as caller:
        status = caller.request("plait/daemon/status")
    assert (status["version"], status["pid"] != old.pid) == (__version__, True)
    assert status["crashes"] == 0
    assert old.wait(timeout=20) == 0
    with pytest.raises(PlaitError):
        client.listen(timeout_s=10)
    client.close()
    assert [line.split()[0] for line in here.engine_log()] == ["start", "stop", "start"]


@pytest.mark.slow
def test_a_newer_daemon_is_left_alone(here: Home) -> None:
    newer = here.start(TINY_VERSION="99.0")
    with here.caller(start=True) as caller:
        assert caller.request("plait/daemon/status")["pid"] == newer.pid


@pytest.mark.parametrize(
    ("older", "newer"), [("0.1.0", "0.2.0"), ("0.9.0", "0.10.0"), ("1", "1.0.1"), ("0.1.0.dev3", "0.1.1"), ("", "0.1")]
)
def test_versions_are_ordered_by_their_numbers(older: str, newer: str) -> None:
    assert dial.version_key(older) < dial.version_key(newer)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x"}', "\0" * 100])
def test_an_unreadable_manifest_counts_as_none(here: Home, text: str) -> None:
    here.places.runtime.mkdir(parents=True, mode=0o700)
    dial.manifest_file(here.places).write_text(text)
    assert dial.manifest(here.places) is None


def test_stacks_are_dumped_on_request_and_work_goes_on(here: Home) -> None:
    here.caller(start=True).close()
    os.kill(here.pid(), signal.SIGUSR1)
    until(lambda: "most recent call first" in here.places.log.read_text())
    os.kill(here.pid(), signal.SIGHUP)
    assert here.status()["pid"] == here.pid()


def test_a_long_log_is_put_aside(here: Home) -> None:
    here.places.state.mkdir(parents=True, mode=0o700)
    here.places.log.write_bytes(b"x" * (dial.MAX_LOG + 1))
    here.caller(start=True).close()
    assert here.places.log.stat().st_size < 10_000
    assert here.places.log.with_name("daemon.log.1").stat().st_size == dial.MAX_LOG + 1


def test_a_log_that_grows_long_meanwhile_is_put_aside_too(here: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_CHECK_S", "0.05")
    here.caller(start=True).close()
    with here.places.log.open("ab") as log:
        log.write(b"x" * (dial.MAX_LOG + 1))
    until(lambda: here.places.log.exists() and here.places.log.stat().st_size < 10_000)
    os.kill(here.pid(), signal.SIGUSR1)
    until(lambda: "most recent call first" in here.places.log.read_text())


@linux
def test_a_thousand_visits_leave_nothing_behind(here: Home) -> None:
    here.caller(start=True).close()
    for _ in range(5):
        here.caller().close()
    until(lambda: here.status()["connections"] == 1)
    base = len(descriptors_of(here.pid()))
    for turn in range(1000):
        peer = connect(here.places.socket)
        if turn % 10 == 0:
            caller = Caller(peer)
            caller.introduce()
        elif turn % 3 == 0:
            peer.sendall(frame(b'{"jsonrpc":"2.0","id":1,"method":"initialize"')[: turn % 60])
        peer.close()
    until(lambda: here.status()["connections"] == 1)
    until(lambda: len(descriptors_of(here.pid())) <= base + 1)


@pytest.mark.slow
def test_a_thousand_silent_connections_do_not_keep_an_editor_out(here: Home) -> None:
    here.caller(start=True).close()
    editor = here.caller()
    silent: list[socket.socket] = []
    try:
        silent.extend(connect(here.places.socket, timeout=10) for _ in range(1000))
        late = here.caller()
        began = time.monotonic()
        assert late.request("plait/echo", {"text": "a"}, timeout_s=5) == {"text": "a"}
        assert editor.request("plait/echo", {"text": "b"}, timeout_s=5) == {"text": "b"}
        assert time.monotonic() - began < 2
        assert late.request("plait/daemon/status")["connections"] <= 130
        late.close()
    finally:
        for peer in silent:
            peer.close()
    editor.close()


def test_the_sixty_fifth_client_is_told_why_it_is_refused(here: Home) -> None:
    here.caller(start=True).close()
    callers: list[Caller] = []
    refusal = None
    while refusal is None and len(callers) < 70:
        try:
            callers.append(here.caller())
        except PlaitError as error:
            refusal = error
    # The daemon may not have noticed yet that the one that started it has left.
    assert len(callers) in (63, 64)
    assert "64 clients are connected" in str(refusal)
    assert callers[0].request("plait/echo", {"text": "a"}) == {"text": "a"}
    for caller in callers[1:]:
        caller.close()
    until(lambda: callers[0].request("plait/daemon/status")["connections"] == 1)
    callers[0].close()


@pytest.mark.slow
def test_a_crash_loop_is_noted(here: Home) -> None:
    for _ in range(3):
        here.caller(start=True).close()
        pid = here.pid()
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: gone(pid))  # type: ignore[misc]  # a lambda's default has no annotation
    with here.caller(start=True) as caller:
        assert caller.request("plait/daemon/status")["crashes"] == 3
    assert "ended so 3 times within a minute" in here.places.log.read_text()
