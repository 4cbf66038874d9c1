"""Knows how to keep one run alive, bounded and recorded: every supervised process is a child of this program.

Run as `python -I -S -E program.py <run directory> [<ready fd>] [--adopt] [--pty=<fd>]`; a copy of this file lies
in the run directory, so that neither an upgrade nor the removal of the installation can reach a running one. It
imports the standard library only, all of it here at the top, and neither asyncio nor pathlib, which would double
its memory and its start. It is one file on purpose, whatever its length.

What it keeps in the run directory and what its control socket understands is described in `plait.supervisor`.
"""

# No pathlib: it costs 8 ms of every start and cannot work relative to an open directory.
# ruff: noqa: PTH101, PTH108, PTH123, PTH208

from __future__ import annotations

import array  # noqa: F401 - socket.send_fds imports it late, when the installation may be gone
import binascii
import contextlib
import ctypes
import errno
import fcntl
import json
import os
import select
import selectors
import signal
import socket
import struct
import sys
import termios
import time
from collections import deque
from collections.abc import Iterator

if sys.platform != "linux":
    import _strptime  # noqa: F401 - time.strptime imports it late, when the installation may be gone
    import subprocess

# The module typing would cost 9 ms of every start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

WIRE_VERSIONS = [1]
MARKER = "PLAIT_RUN"
LONGEST_LINE = 1 << 20
MOST_CLIENTS = 64
MOST_UNSENT = 8 << 20
MOST_UNLOGGED = 1 << 20
RESERVE_BYTES = 8192
LEFTOVERS_GRACE_S = 1.0
KILLING_S = 10.0
LOCK_PATIENCE_S = 0.3
RETRY_S = 0.25

RUNNING, INTERRUPTED, TERMINATED, KILLED = range(4)


class Spec:
    """What `run.json` asks for; raises ValueError if that is damaged."""

    __slots__ = ("argv", "columns", "cwd", "grace_s", "interrupt", "pty", "rows", "run", "stderr", "stdin", "timeout_s")

    def __init__(self, raw: dict[str, object]) -> None:
        try:
            argv, size, interrupt, timeout = raw["argv"], raw["size"], raw["interrupt"], raw["timeout_s"]
            if not isinstance(argv, list) or not argv or not isinstance(size, list):
                raise ValueError("argv or size")
            if interrupt not in (None, "INT", "TERM"):
                raise ValueError("interrupt")
            # Runs prepared before there was a choice say nothing of it.
            stderr = raw.get("stderr", "output")
            if stderr not in ("output", "apart"):
                raise ValueError("stderr")
            self.run = str(raw["run"])
            self.argv = [str(word) for word in argv]
            self.cwd = str(raw["cwd"])
            self.pty = raw["pty"] is True
            self.stdin = str(raw["stdin"])
            self.stderr = str(stderr)
            self.interrupt = None if interrupt is None else str(interrupt)
            self.grace_s = number(raw["grace_s"])
            self.timeout_s = None if timeout is None else number(timeout)
            self.rows, self.columns = int(size[0]), int(size[1])
        except (KeyError, TypeError, ValueError, IndexError, Refusal) as error:
            raise ValueError(f"run.json is damaged ({error}).") from error


class Process:
    """One row of the process table; `pid` and `ticks` together name a process for ever (within one boot)."""

    __slots__ = ("group", "parent", "pid", "ticks", "zombie")

    def __init__(self, pid: int, parent: int, group: int, ticks: int, zombie: bool) -> None:
        self.pid = pid
        self.parent = parent
        self.group = group
        self.ticks = ticks
        self.zombie = zombie


class Refusal(Exception):
    """A request that cannot be done; its text is the reply."""


def main(arguments: list[str]) -> int:
    """Supervise or adopt the run in `arguments[0]` until it has ended; the process's exit status."""
    directory = os.open(arguments[0], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    umask = os.umask(0o077)
    ready = next((int(word) for word in arguments[1:] if word.isdigit()), 1)
    os.set_inheritable(ready, False)
    adopting = "--adopt" in arguments
    master = next((int(word.removeprefix("--pty=")) for word in arguments if word.startswith("--pty=")), None)
    try:
        lock = taken_lock(directory)
        if lock is None:
            report(ready, {"ok": False, "busy": True})
            return 0
        if exists(directory, "exit.json"):
            report(ready, {"ok": True, "ended": True})
            return 0
        spec = Spec(read_json(directory, "run.json"))
        supervisor = Supervisor(directory, lock, spec)
        if adopting or exists(directory, "supervisor.json"):
            # A run is started once: whatever lies behind a written supervisor.json may have had its effects.
            supervisor.adopt(master)
        else:
            supervisor.spawn(read_environment(), umask)
        supervisor.prepare_loop()
    except (OSError, ValueError) as error:
        report(ready, {"ok": False, "error": str(error)})
        return 1
    except BaseException:
        log_own_crash(directory)
        raise
    try:
        if supervisor.failure is None:
            report(ready, {"ok": True, "agent_pid": supervisor.agent_pid})
            if ready > 2:
                os.close(ready)
            supervisor.serve()
        else:
            supervisor.serve()
            report(ready, {"ok": False, "error": supervisor.failure})
    except BaseException:
        log_own_crash(directory)
        raise
    return 0


class Supervisor:
    """The state of one supervised run."""

    def __init__(self, directory: int, lock: int, spec: Spec) -> None:
        self.directory = directory
        self.lock = lock
        self.spec = spec
        self.agent_pid: int | None = None
        self.agent_ticks = 0
        self.agent_gone = False
        self.keeper: tuple[int, int] | None = None
        self.adopted = False
        self.rebooted = False
        self.subreaper = False
        self.childless = False
        self.outcome: int | None = None
        self.failure: str | None = None
        self.reason: str | None = None
        self.trouble: str | None = None
        self.started = time.monotonic()
        self.phase = RUNNING
        self.until = 0.0
        self.grace_s = spec.grace_s
        self.paused = False
        self.ending: dict[str, object] | None = None
        self.retry_at = 0.0
        self.log = -1
        self.errors = -1
        self.unlogged = bytearray()
        self.lost_bytes = 0
        self.master: int | None = None
        self.input: int | None = None
        self.closing_input = False
        self.pidfd: int | None = None
        self.ids: dict[str, str] = {}
        self.unsent: deque[Unsent] = deque()
        self.selector = selectors.DefaultSelector()
        self.clients: dict[int, Client] = {}
        self.listener: socket.socket | None = None
        self.wakeup = (-1, -1)

    def spawn(self, environment: dict[str, str], umask: int) -> None:
        """Start the agent, which executes nothing before `supervisor.json` with its identity is on disk."""
        make_reserve(self.directory)
        self._open_logs()
        self.subreaper = become_subreaper()
        self._listen()
        self._catch_signals()
        slave = None
        if self.spec.pty:
            self.master, slave = os.openpty()
            set_size(self.master, self.spec.rows, self.spec.columns)
            standard = (slave, slave, slave)
        elif self.spec.stdin == "fifo":
            if not exists(self.directory, "input"):
                with inside(self.directory):
                    os.mkfifo("input", 0o600)
            # Opened without waiting: a FIFO's reader waits for a writer, and its writer fails without a reader.
            reading = os.open("input", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.directory)
            self._open_input()
            self.keeper = self._keep_input_open(reading)
            os.set_blocking(reading, True)
            standard = (reading, self.log, self.errors)
        else:
            standard = (os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), self.log, self.errors)
        waiting, go = os.pipe()
        failed, failing = os.pipe()
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pid = os.fork()
        if pid == 0:
            os.close(go)
            os.close(self.lock)
            become_agent(self.spec, environment, umask, standard, slave, waiting, failing)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for descriptor in {waiting, failing, *standard} - {self.log, self.errors}:
            os.close(descriptor)
        try:
            self.agent_pid, self.agent_ticks = pid, identity(pid)
            self._write_own_record()
            os.write(go, b"g")
        finally:
            os.close(go)
        told = b""
        while piece := os.read(failed, 4096):
            told += piece
        os.close(failed)
        if told:
            self.failure = self.reason_for(told)
            self.reason = "exec-failed"

    def reason_for(self, told: bytes) -> str:
        """The sentence for what the child said when it could not execute the agent."""
        where, _, number = told.decode().partition(" ")
        text = os.strerror(int(number))
        return f"{text}: the working directory {self.spec.cwd}" if where == "cwd" else f"{text}: {self.spec.argv[0]}"

    def adopt(self, master: int | None) -> None:
        """Take over a run whose supervisor has died; its exit can then no longer be known exactly."""
        self.adopted = True
        self.reason = "supervisor-lost"
        self.agent_gone = True
        self._open_logs()
        self.master = master
        self.subreaper = become_subreaper()
        try:
            record = read_json(self.directory, "supervisor.json")
        except (OSError, ValueError):
            record = {}
        if isinstance(record.get("boot_id"), str) and record["boot_id"] != boot_id():
            self.rebooted = True
            self.reason = "reboot"
            return
        pid, ticks = record.get("agent_pid"), record.get("agent_start_ticks")
        if not isinstance(pid, int) or not isinstance(ticks, int):
            # The record is damaged; the oldest process with the marker is the agent, if any is left. Ticks are coarse:
            # of two that began in the same one, it is the one whose parent is not of the run.
            members = self.members()
            within = {process.pid for process in members}
            oldest = min(members, key=lambda process: (process.ticks, process.parent in within), default=None)
            pid, ticks = (oldest.pid, oldest.ticks) if oldest else (0, 0)
        started = record.get("started")
        if isinstance(started, float):
            self.started = started
        keeper, keeper_ticks = record.get("keeper_pid"), record.get("keeper_start_ticks")
        if isinstance(keeper, int) and isinstance(keeper_ticks, int):
            self.keeper = (keeper, keeper_ticks)
        if pid and is_alive(pid, ticks):
            self.agent_pid, self.agent_ticks, self.agent_gone = pid, ticks, False
            self.pidfd = open_pidfd(pid)
            if self.spec.stdin == "fifo" and not self.spec.pty:
                self._open_input()
        self._catch_signals()
        try:
            self._load_ids()
            self._listen()
            self._write_own_record()
            if not exists(self.directory, "reserve"):
                make_reserve(self.directory)
        except OSError:
            # A full disk must not keep the end of a run from being recorded, which waits until there is room.
            if not self.agent_gone:
                raise

    def prepare_loop(self) -> None:
        """Register what the loop listens to."""
        if self.listener:
            self.selector.register(self.listener, selectors.EVENT_READ, self._accept)
        if self.wakeup[0] >= 0:
            self.selector.register(self.wakeup[0], selectors.EVENT_READ, self._wake)
        if self.pidfd is not None:
            self.selector.register(self.pidfd, selectors.EVENT_READ, self._agent_ended)
        if self.master is not None:
            os.set_blocking(self.master, False)
            self.selector.register(self.master, selectors.EVENT_READ, self._terminal)

    def serve(self) -> None:
        """Run until the agent and all its descendants are gone and `exit.json` is on disk."""
        while not self._step(time.monotonic()):
            for key, events in self.selector.select(self._patience(time.monotonic())):
                key.data(events)

    def _step(self, now: float) -> bool:
        """Do what is due; whether the run is over and recorded."""
        if self.ending is not None:
            return now >= self.retry_at and self._record_exit(now)
        self._reap()
        if self.unlogged:
            self._write_log(b"")
        if self.failure is not None or self.rebooted:
            self._end_keeper()
            self._end()
            return self._record_exit(now)
        if self.agent_gone:
            self._end_keeper()
            self._reap()
            if self._nobody_left():
                self._end()
                return self._record_exit(now)
            if self.phase < TERMINATED:
                self._enter(TERMINATED, now, LEFTOVERS_GRACE_S)
            if self.phase == TERMINATED:
                self.until = min(self.until, now + LEFTOVERS_GRACE_S)
        elif self.phase == RUNNING and now >= self._deadline():
            self.stop("timeout", True, self.spec.grace_s, now)
        if self.phase in (INTERRUPTED, TERMINATED) and now >= self.until:
            self._enter(self.phase + 1, now, self.grace_s)
        if self.phase == KILLED:
            return self._sweep(now)
        return False

    def _patience(self, now: float) -> float | None:
        """How long nothing needs doing, in seconds; None is for ever."""
        due: list[float] = []
        if self.ending is not None:
            due.append(self.retry_at - now)
        elif self.phase == KILLED:
            due.append(0.01)
        elif self.phase != RUNNING:
            due.append(self.until - now)
            if not self.subreaper or self.adopted:
                due.append(0.05)
        elif self.spec.timeout_s is not None:
            due.append(self._deadline() - now)
        if self.unlogged:
            due.append(RETRY_S)
        if self.adopted and self.pidfd is None:
            due.append(RETRY_S)
        return max(0.0, min(due)) if due else None

    def _deadline(self) -> float:
        return float("inf") if self.spec.timeout_s is None else self.started + self.spec.timeout_s

    def stop(self, reason: str, interrupt: bool, grace_s: float, now: float) -> None:
        """Begin the kill ladder, or climb faster if a gentler stop is under way."""
        if self.reason in (None, "supervisor-lost") and not self.agent_gone:
            self.reason = reason
        self.grace_s = grace_s
        phase = INTERRUPTED if interrupt and self.spec.interrupt else TERMINATED
        if phase > self.phase:
            self._enter(phase, now, grace_s)
        else:
            self.until = min(self.until, now + grace_s)

    def _enter(self, phase: int, now: float, grace_s: float) -> None:
        self.phase = phase
        self.until = now + grace_s
        if phase == KILLED:
            self.until = now + KILLING_S
            return
        members = self.members()
        if phase == INTERRUPTED and self.spec.interrupt:
            number = getattr(signal, f"SIG{self.spec.interrupt}")
            for process in members:
                if process.group == self.agent_pid:
                    send(process, number)
        else:
            for process in members:
                send(process, signal.SIGTERM)
        # A stopped process receives nothing until it continues.
        for process in members:
            send(process, signal.SIGCONT)
        self.paused = False

    def _sweep(self, now: float) -> bool:
        """Kill everything that is there at this moment; what it forked meanwhile falls to the next sweep."""
        self._end_keeper()
        members = self.members()
        for process in members:
            send(process, signal.SIGSTOP)
        for process in members:
            send(process, signal.SIGKILL)
        self._reap()
        if now < self.until:
            return False
        pids = ", ".join(str(process.pid) for process in self.members())
        if pids:
            self.trouble = f"Could not be killed: {pids}."
        self._end()
        return self._record_exit(now)

    def members(self) -> list[Process]:
        """All living processes of the run: descendants, and whoever carries the marker."""
        table = processes()
        root = os.getpid() if not self.adopted else None
        if root is None and self.agent_pid is not None and is_alive(self.agent_pid, self.agent_ticks):
            root = self.agent_pid
        children: dict[int, list[Process]] = {}
        for process in table.values():
            children.setdefault(process.parent, []).append(process)
        apart = {os.getpid(), self.keeper[0] if self.keeper else 0}
        found: dict[int, Process] = {}
        fresh = [] if root is None else [table[root]] if root in table else []
        fresh += [process for process in table.values() if marked(process, self.spec.run)]
        while fresh:
            process = fresh.pop()
            if process.pid in found:
                continue
            found[process.pid] = process
            fresh += [child for child in children.get(process.pid, []) if child.pid not in apart]
        return [process for pid, process in found.items() if pid not in apart and not process.zombie]

    def _nobody_left(self) -> bool:
        """Whether no process of the run lives; a subreaper gets all orphans, so that no children proves it."""
        if self.subreaper and not self.adopted:
            return self.childless
        return not self.members()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.childless = True
                break
            if pid == 0:
                self.childless = False
                break
            if self.keeper and pid == self.keeper[0]:
                self.keeper = None
            if pid == self.agent_pid and not self.adopted:
                self.outcome = os.waitstatus_to_exitcode(status)
                self.agent_gone = True
        if self.adopted and self.pidfd is None and self.agent_pid is not None:
            self.agent_gone = not is_alive(self.agent_pid, self.agent_ticks)

    def _end(self) -> None:
        """Fix what `exit.json` will say, after the last byte of output is on disk."""
        if self.master is not None:
            self._terminal(selectors.EVENT_READ)
            self._write_log(b"")
        try:
            for descriptor in {self.log, self.errors}:
                os.fsync(descriptor)
        except OSError as error:
            self.trouble = self.trouble or f"The end of the output may be lost: {error.strerror}."
        if self.unlogged:
            lost = len(self.unlogged) + self.lost_bytes
            self.trouble = f"The disk is full: the last {lost} bytes of the output are lost."
        outcome = self.outcome if self.failure is None else None
        self.ending = {
            "wire": WIRE_VERSIONS[-1],
            "code": outcome if outcome is not None and outcome >= 0 else None,
            "signal": -outcome if outcome is not None and outcome < 0 else None,
            "unknown": outcome is None and self.failure is None,
            "reason": self.reason or "exited",
            "error": self.failure or self.trouble,
            "output_bytes": os.fstat(self.log).st_size,
            "at": time.time(),
        }

    def _record_exit(self, now: float) -> bool:
        """Write `exit.json`, tell the subscribers, and give the control socket up; False if the disk refuses."""
        with contextlib.suppress(OSError):
            os.unlink("reserve", dir_fd=self.directory)
        try:
            write_json(self.directory, "exit.json", self.ending)
        except OSError as error:
            if os.fstat(self.directory).st_nlink == 0:
                # The directory itself is deleted, so there is nobody to write for.
                return True
            self.trouble = str(error)
            self.retry_at = now + RETRY_S
            return False
        for client in self.clients.values():
            if client.subscribed:
                client.send({"exit": self.ending})
        if self.listener:
            with contextlib.suppress(OSError):
                os.unlink("control", dir_fd=self.directory)
        return True

    def _open_logs(self) -> None:
        """Open the file of the output and, where they are apart, that of the errors; a terminal has one stream only."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self.log = self.errors = os.open("output.log", flags, 0o600, dir_fd=self.directory)
        if self.spec.stderr == "apart" and not self.spec.pty:
            self.errors = os.open("errors.log", flags, 0o600, dir_fd=self.directory)

    def _write_own_record(self) -> None:
        write_json(
            self.directory,
            "supervisor.json",
            {
                "wire": WIRE_VERSIONS,
                "pid": os.getpid(),
                "start_ticks": identity(os.getpid()),
                "boot_id": boot_id(),
                "agent_pid": self.agent_pid,
                "agent_start_ticks": self.agent_ticks,
                "keeper_pid": self.keeper[0] if self.keeper else None,
                "keeper_start_ticks": self.keeper[1] if self.keeper else None,
                "started": self.started,
                "adopted": self.adopted,
            },
        )

    def _catch_signals(self) -> None:
        self.wakeup = os.pipe()
        for descriptor in self.wakeup:
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self.wakeup[1], warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: None)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)

    def _wake(self, _events: int) -> None:
        try:
            numbers = os.read(self.wakeup[0], 4096)
        except BlockingIOError:
            return
        if signal.SIGTERM in numbers:
            self.stop("stopped", True, self.spec.grace_s, time.monotonic())

    def _agent_ended(self, _events: int) -> None:
        assert self.pidfd is not None
        self.selector.unregister(self.pidfd)
        self.agent_gone = True

    def _keep_input_open(self, reading: int) -> tuple[int, int]:
        """A child that holds the input open, so that our own death is no end of file for the agent.

        It ends by itself when nobody has the input open for reading any more.
        """
        assert self.input is not None
        pid = os.fork()
        if pid:
            return pid, identity(pid)
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            close_all_but({self.input})
            poll = select.poll()
            poll.register(self.input, 0)
            poll.poll()
        finally:
            os._exit(0)

    def _end_keeper(self) -> None:
        if self.keeper and is_alive(*self.keeper):
            send(Process(self.keeper[0], 0, 0, self.keeper[1], False), signal.SIGKILL)
            if not self.adopted:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(self.keeper[0], 0)
        self.keeper = None

    def _open_input(self) -> None:
        try:
            self.input = os.open("input", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.directory)
        except OSError:
            self.input = None

    def close_input(self) -> None:
        """End of file for the agent, after what is still to be written to it."""
        self.closing_input = True
        if self.unsent or self.input is None:
            return
        os.close(self.input)
        self.input = None
        self._end_keeper()

    def write(self, client: Client, sequence: object, name: str, data: bytes) -> bool:
        """Hand `data` to the agent once, however often `name` is asked for; False if the answer follows later."""
        if self.ids.get(name) == "written":
            return True
        for pending in self.unsent:
            if pending.name == name:
                pending.askers.append((client, sequence))
                return False
        if name in self.ids:
            raise Refusal("uncertain: this was begun before the supervisor died, and may or may not have arrived")
        if self._input_descriptor() is None or (self.closing_input and self.master is None):
            raise Refusal("the agent has no open input")
        if sum(len(pending.data) for pending in self.unsent) + len(data) > MOST_UNSENT:
            raise Refusal("the agent does not read its input, and too much is waiting for it")
        try:
            self._note(name, "begun")
        except OSError as error:
            raise Refusal(f"not written, it could not be noted: {error.strerror}") from error
        self.unsent.append(Unsent(name, data, [(client, sequence)]))
        self._feed(selectors.EVENT_WRITE)
        return False

    def _input_descriptor(self) -> int | None:
        return self.master if self.spec.pty else self.input

    def _feed(self, _events: int) -> None:
        """Write what is waiting, as much as the agent's side takes now."""
        descriptor = self._input_descriptor()
        error = "the agent has closed its input"
        while self.unsent:
            pending = self.unsent[0]
            try:
                if descriptor is None:
                    raise BrokenPipeError
                pending.data = pending.data[os.write(descriptor, pending.data) :] if pending.data else b""
            except BlockingIOError:
                break
            except OSError:
                for client, sequence in pending.askers:
                    client.send({"ok": False, "seq": sequence, "error": error})
                self.unsent.popleft()
                continue
            if pending.data:
                continue
            self.unsent.popleft()
            try:
                self._note(pending.name, "written")
            except OSError:
                self.ids[pending.name] = "written"
            for client, sequence in pending.askers:
                client.send({"ok": True, "seq": sequence})
        if descriptor is None:
            return
        wanted = selectors.EVENT_WRITE if self.unsent else 0
        if descriptor == self.master:
            if descriptor in self.selector.get_map():
                self.selector.modify(descriptor, selectors.EVENT_READ | wanted, self._terminal)
        elif wanted and descriptor not in self.selector.get_map():
            self.selector.register(descriptor, wanted, self._feed)
        elif not wanted and descriptor in self.selector.get_map():
            self.selector.unregister(descriptor)
        if self.closing_input and not self.unsent and not self.spec.pty:
            self.close_input()

    def _note(self, name: str, state: str) -> None:
        line = json.dumps({"id": name, "state": state}).encode() + b"\n"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open("input.ids", flags, 0o600, dir_fd=self.directory)
        try:
            if os.write(descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.ids[name] = state

    def _load_ids(self) -> None:
        if not exists(self.directory, "input.ids"):
            return
        for line in read_file(self.directory, "input.ids").splitlines():
            try:
                entry = json.loads(line)
                self.ids[str(entry["id"])] = str(entry["state"])
            except (ValueError, KeyError, TypeError):
                continue

    def _terminal(self, events: int) -> None:
        """Copy what the terminal has to the log, and feed it what waits."""
        assert self.master is not None
        if events & selectors.EVENT_WRITE:
            self._feed(events)
        # What may come in one go is bounded, so that a flooding agent cannot starve the control socket.
        for _ in range(16 if self.ending is None and not self.agent_gone else 1 << 16):
            try:
                data = os.read(self.master, 65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                if self.master in self.selector.get_map():
                    self.selector.unregister(self.master)
                return
            self._write_log(data)

    def _write_log(self, data: bytes) -> None:
        """Append to the log; while the disk refuses keep the beginning, and later say how much was dropped."""
        room = MOST_UNLOGGED - len(self.unlogged)
        self.unlogged += data[:room]
        self.lost_bytes += len(data[room:])
        try:
            while self.unlogged:
                del self.unlogged[: os.write(self.log, self.unlogged)]
                if not self.unlogged and self.lost_bytes:
                    self.unlogged += f"\r\n[plait: {self.lost_bytes} bytes lost, the disk was full]\r\n".encode()
                    self.lost_bytes = 0
        except OSError:
            return

    def _listen(self) -> None:
        """Bind the control socket by its relative name: the length of the directory's path does not matter then."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        with inside(self.directory):
            # The lock is ours, so the owner of a socket that is still there is dead.
            with contextlib.suppress(FileNotFoundError):
                os.unlink("control")
            listener.bind("control")
            os.chmod("control", 0o600)
        listener.listen(MOST_CLIENTS)
        self.listener = listener

    def _accept(self, _events: int) -> None:
        assert self.listener is not None
        try:
            accepted, _ = self.listener.accept()
        except OSError:
            return
        if peer_uid(accepted) not in (os.getuid(), 0) or len(self.clients) >= MOST_CLIENTS:
            accepted.close()
            return
        accepted.setblocking(False)
        client = Client(accepted, self)
        self.clients[accepted.fileno()] = client
        self.selector.register(accepted, selectors.EVENT_READ, client.ready)


class Unsent:
    """Bytes on their way to the agent and who waits for their arrival."""

    def __init__(self, name: str, data: bytes, askers: list[tuple[Client, object]]) -> None:
        self.name = name
        self.data = data
        self.askers = askers


class Client:
    """One connection to the control socket."""

    def __init__(self, connected: socket.socket, supervisor: Supervisor) -> None:
        self.socket = connected
        self.supervisor = supervisor
        self.received = bytearray()
        self.unsent = bytearray()
        self.greeted = False
        self.subscribed = False
        self.leaving = False

    def ready(self, events: int) -> None:
        """Take what has come, answer it, and send what is left."""
        if events & selectors.EVENT_WRITE:
            self._flush()
        if events & selectors.EVENT_READ and not self.leaving:
            try:
                data = self.socket.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                return
            self.received += data
            while not self.leaving and (end := self.received.find(b"\n")) >= 0:
                line = bytes(self.received[:end])
                del self.received[: end + 1]
                self._answer(line)
            if len(self.received) > LONGEST_LINE:
                self._part({"ok": False, "error": f"a line is longer than {LONGEST_LINE} bytes"})

    def send(self, message: dict[str, object]) -> None:
        """Send a line, or drop a client that does not read."""
        if self.socket.fileno() < 0:
            return
        self.unsent += json.dumps(message).encode() + b"\n"
        self._flush()
        if len(self.unsent) > LONGEST_LINE:
            self.close()

    def close(self) -> None:
        """Forget the connection."""
        if self.socket.fileno() >= 0:
            self.supervisor.selector.unregister(self.socket)
            del self.supervisor.clients[self.socket.fileno()]
            self.socket.close()

    def _part(self, message: dict[str, object]) -> None:
        self.leaving = True
        self.send(message)

    def _flush(self) -> None:
        try:
            while self.unsent:
                del self.unsent[: self.socket.send(self.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if self.leaving and not self.unsent:
            self.close()
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.unsent else 0)
        self.supervisor.selector.modify(self.socket, events, self.ready)

    def _answer(self, line: bytes) -> None:
        """Answer one request; nothing that a client sends may end the supervisor."""
        sequence: object = None
        try:
            message = json.loads(line)
            if not isinstance(message, dict):
                raise Refusal("a request is a JSON object")
            sequence = message.get("seq")
            if not self.greeted:
                self._greet(message)
                return
            reply = self._perform(message, sequence)
            if reply is not None:
                self.send({"ok": True, "seq": sequence, **reply})
        except Refusal as refusal:
            self.send({"ok": False, "seq": sequence, "error": str(refusal)})
        except Exception as error:
            self.send(
                {
                    "ok": False,
                    "seq": sequence,
                    "error": f"malformed request ({type(error).__name__}: {error})",
                }
            )

    def _greet(self, message: dict[str, object]) -> None:
        hello = message.get("hello")
        offered = hello.get("versions") if isinstance(hello, dict) else None
        common = [v for v in WIRE_VERSIONS if isinstance(offered, list) and v in offered]
        if not common:
            self._part({"ok": False, "error": f"no common version; this supervisor speaks {WIRE_VERSIONS}"})
            return
        self.greeted = True
        supervisor = self.supervisor
        run, pid = supervisor.spec.run, supervisor.agent_pid
        self.send({"hello": {"version": max(common), "run": run, "agent_pid": pid}})

    def _perform(self, message: dict[str, object], sequence: object) -> dict[str, object] | None:
        """Do one request; the reply's own fields, or None if the answer follows later or is sent already."""
        supervisor = self.supervisor
        match message.get("op"):
            case "stop":
                grace = message.get("grace_s")
                grace_s = number(grace) if grace is not None else supervisor.spec.grace_s
                supervisor.stop("stopped", message.get("interrupt", True) is True, grace_s, time.monotonic())
            case "write":
                name, data = message["id"], message["data"]
                if not isinstance(name, str) or not isinstance(data, str) or len(name) > 200:
                    raise Refusal("write needs an id and data in base64")
                if not supervisor.write(self, sequence, name, binascii.a2b_base64(data.encode(), strict_mode=True)):
                    return None
            case "close-input":
                if supervisor.spec.pty or supervisor.spec.stdin != "fifo":
                    raise Refusal("this run has no input that can be closed")
                supervisor.close_input()
            case "resize":
                rows, columns = int(number(message["rows"])), int(number(message["columns"]))
                set_size(self._master(), rows, columns)
            case "signal":
                chosen = signal.Signals[f"SIG{message['name']}"]
                self._signal_agent(chosen)
            case "pause" | "continue" as op:
                chosen = signal.SIGSTOP if op == "pause" else signal.SIGCONT
                for process in supervisor.members():
                    send(process, chosen)
                supervisor.paused = op == "pause"
            case "status":
                return {
                    "agent_pid": supervisor.agent_pid,
                    "alive": not supervisor.agent_gone,
                    "phase": ("running", "interrupted", "terminated", "killed")[supervisor.phase],
                    "paused": supervisor.paused,
                    "adopted": supervisor.adopted,
                    "trouble": supervisor.trouble,
                }
            case "pty":
                master = self._master()
                if self.unsent:
                    raise Refusal("read the earlier replies first")
                line = json.dumps({"ok": True, "seq": sequence}).encode() + b"\n"
                socket.send_fds(self.socket, [line], [master])
                return None
            case "subscribe":
                self.subscribed = True
            case unknown:
                raise Refusal(f"unknown op {unknown!r}")
        return {}

    def _master(self) -> int:
        if self.supervisor.master is None:
            raise Refusal("this run has no terminal")
        return self.supervisor.master

    def _signal_agent(self, chosen: signal.Signals) -> None:
        supervisor = self.supervisor
        if supervisor.agent_gone or supervisor.agent_pid is None:
            raise Refusal("the agent has ended")
        send(Process(supervisor.agent_pid, 0, 0, supervisor.agent_ticks, False), chosen)


def become_agent(
    spec: Spec,
    environment: dict[str, str],
    umask: int,
    standard: tuple[int, int, int],
    slave: int | None,
    waiting: int,
    failing: int,
) -> NoReturn:
    """In the forked child: wait for the go, then become the agent, or say through `failing` why not."""
    where = "exec"
    try:
        if os.read(waiting, 1) != b"g":
            os._exit(0)
        os.setsid()
        if slave is not None:
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        kept = fcntl.fcntl(failing, fcntl.F_DUPFD_CLOEXEC, 10)
        # Moved out of the way first: a source may itself be one of the three targets.
        sources = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10) for descriptor in standard]
        for target, source in enumerate(sources):
            os.dup2(source, target)
        close_all_but({0, 1, 2, kept})
        failing = kept
        signal.set_wakeup_fd(-1)
        for each in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            try:
                signal.signal(each, signal.SIG_DFL)
            except (OSError, ValueError):
                continue
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.umask(umask)
        where = "cwd"
        os.chdir(spec.cwd)
        where = "exec"
        execute(spec.argv, {**environment, MARKER: spec.run})
    except OSError as error:
        os.write(failing, f"{where} {error.errno}".encode())
    except BaseException:
        os.write(failing, f"{where} {errno.EINVAL}".encode())
    finally:
        os._exit(127)


def execute(argv: list[str], environment: dict[str, str]) -> None:
    """Replace this process by `argv`, found on the absolute entries of PATH; raises OSError.

    Relative entries are left out: they would find a program in the repository that the agent works on.
    """
    if "/" in argv[0]:
        os.execve(argv[0], argv, environment)  # noqa: S606 - to execute is this program's purpose
    failure: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for entry in environment.get("PATH", os.defpath).split(os.pathsep):
        if not entry.startswith("/"):
            continue
        try:
            os.execve(f"{entry}/{argv[0]}", argv, environment)  # noqa: S606 - as above
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            failure = error
    raise failure


def close_all_but(kept: set[int]) -> None:
    """Close every descriptor that is not in `kept`."""
    for name in os.listdir("/dev/fd"):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                continue


def become_subreaper() -> bool:
    """Make orphaned descendants come to us; whether that worked (prctl(2), Linux alone)."""
    if sys.platform != "linux":
        return False
    pr_set_child_subreaper = 36
    return bool(ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0) == 0)


def set_size(terminal: int, rows: int, columns: int) -> None:
    """Tell the terminal its size, and by it the programs in its foreground."""
    if not (0 < rows < 1 << 16 and 0 < columns < 1 << 16):
        raise Refusal("rows and columns are between 1 and 65535")
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def send(process: Process, chosen: int) -> None:
    """Send a signal to exactly this process, and to no later owner of its number."""
    descriptor = open_pidfd(process.pid)
    try:
        # The comparison comes after the opening: a descriptor never moves to another process.
        if identity_or_none(process.pid) != process.ticks:
            return
        if descriptor is not None and sys.platform == "linux":
            signal.pidfd_send_signal(descriptor, chosen)
        else:
            os.kill(process.pid, chosen)
    except (ProcessLookupError, PermissionError):
        return
    finally:
        if descriptor is not None:
            os.close(descriptor)


def open_pidfd(pid: int) -> int | None:
    """A descriptor that stands for the process, or None where there is no such thing."""
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def is_alive(pid: int, ticks: int) -> bool:
    """Whether this very process lives; a zombie does not."""
    process = process_of(pid)
    return process is not None and process.ticks == ticks and not process.zombie


def identity(pid: int) -> int:
    """The start time that, with its pid, names a process; raises ProcessLookupError."""
    ticks = identity_or_none(pid)
    if ticks is None:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    return ticks


def identity_or_none(pid: int) -> int | None:
    """The start time of a process, or None if there is none (Linux: clock ticks since boot; else unix seconds)."""
    process = process_of(pid)
    return None if process is None else process.ticks


def process_of(pid: int) -> Process | None:
    """One row of the process table."""
    if sys.platform != "linux":
        return processes().get(pid)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # proc(5): the name in parentheses may itself hold anything, so the fields count from its end.
    fields = text[text.rindex(b")") + 2 :].split()
    return Process(pid, int(fields[1]), int(fields[2]), int(fields[19]), fields[0] in b"ZXx")


def processes() -> dict[int, Process]:
    """The process table."""
    if sys.platform != "linux":
        command = ["/bin/ps", "-axo", "pid=,ppid=,pgid=,stat=,lstart="]
        listing = subprocess.run(command, env={"LC_ALL": "C"}, stdout=subprocess.PIPE, check=True)
        return parse_ps(listing.stdout.decode())
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (process := process_of(int(name))):
            found[process.pid] = process
    return found


def parse_ps(text: str) -> dict[int, Process]:
    """The process table in `ps -o pid=,ppid=,pgid=,stat=,lstart=`."""
    found = {}
    for line in text.splitlines():
        pid, parent, group, state, *started = line.split()
        seconds = int(time.mktime(time.strptime(" ".join(started), "%a %b %d %H:%M:%S %Y")))
        found[int(pid)] = Process(int(pid), int(parent), int(group), seconds, state.startswith("Z"))
    return found


def marked(process: Process, run: str) -> bool:
    """Whether the process was started with the marker of this run in its environment."""
    entry = f"{MARKER}={run}".encode()
    if process.zombie:
        return False
    if sys.platform != "linux":
        shown = ["/bin/ps", "-wwE", "-o", "command=", "-p", str(process.pid)]
        return entry in subprocess.run(shown, stdout=subprocess.PIPE, check=False).stdout.split()
    try:
        with open(f"/proc/{process.pid}/environ", "rb") as file:
            return entry in file.read().split(b"\0")
    except OSError:
        return False


def boot_id() -> str:
    """What tells this boot of the machine from every other."""
    if sys.platform != "linux":
        asked = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
        return subprocess.run(asked, stdout=subprocess.PIPE, check=True).stdout.decode().strip()
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def peer_uid(connected: socket.socket) -> int:
    """The user at the other end of a unix socket (unix(7) SO_PEERCRED; `struct xucred` on macOS)."""
    if sys.platform == "linux":
        credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("3i", credentials)[1])
    else:  # noqa: RET505 - mypy takes what follows the if for unreachable, but not an else
        return int(struct.unpack_from("=iI", connected.getsockopt(0, 1, 76))[1])


def taken_lock(directory: int) -> int | None:
    """The run's lock, held for life by the returned descriptor, or None if a living supervisor has it.

    Whoever asks for the run's status takes it for a moment too, so it is asked for more than once.
    """
    lock = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(lock)
                return None
            time.sleep(0.01)
        else:
            return lock


def read_environment() -> dict[str, str]:
    """The agent's environment, which comes on standard input so that it is never on disk; raises ValueError."""
    with open(0, "rb", closefd=False) as file:
        raw = json.loads(file.read() or b"{}")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)
    if not isinstance(raw, dict) or not all(isinstance(value, str) for value in raw.values()):
        raise ValueError("The environment is a JSON object of strings.")
    return raw


def number(value: object) -> float:
    """A finite JSON number that is not negative; raises Refusal."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise Refusal("a number that is not negative is needed")
    return float(value)


def read_file(directory: int, name: str) -> bytes:
    """A whole file of the run directory."""
    with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory), "rb") as file:
        return file.read()


def read_json(directory: int, name: str) -> dict[str, object]:
    """A JSON object; raises OSError or ValueError."""
    raw = json.loads(read_file(directory, name))
    if not isinstance(raw, dict):
        raise ValueError(f"{name} is no JSON object.")
    return raw


def write_json(directory: int, name: str, value: object) -> None:
    """Replace a file of the run directory in one step, on disk when this returns."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(f"{name}.tmp", flags, 0o600, dir_fd=directory), "wb") as file:
        file.write(json.dumps(value).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{name}.tmp", name, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)


def make_reserve(directory: int) -> None:
    """Set space aside that is given up for `exit.json` when the disk is full."""
    with open(os.open("reserve", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=directory), "wb") as reserve:
        reserve.write(b"\0" * RESERVE_BYTES)


@contextlib.contextmanager
def inside(directory: int) -> Iterator[None]:
    """For calls that know paths only: the run directory is the working directory meanwhile."""
    os.fchdir(directory)
    try:
        yield
    finally:
        os.chdir("/")


def exists(directory: int, name: str) -> bool:
    """Whether the run directory has something of this name."""
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def report(ready: int, message: dict[str, object]) -> None:
    """Tell the starter, who may be gone, how it went."""
    try:
        os.write(ready, json.dumps(message).encode() + b"\n")
    except OSError:
        return


def log_own_crash(directory: int) -> None:
    """Send the traceback that the interpreter is about to print to `supervisor.log`."""
    with contextlib.suppress(OSError):
        descriptor = os.open("supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600, dir_fd=directory)
        os.dup2(descriptor, 2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
