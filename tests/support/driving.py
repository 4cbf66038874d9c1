"""Runs an adapter's driver against a real process as the engine does, without the engine.

The process has a FIFO as its input and files as its output; what it wrote can be replayed into a new driver.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from plait.agents.adapter import Adapter, Command, Driver, Effect, End, GiveUp, HangUp, Job, Outcome, SaveFile, Write
from plait.core.reports import Report

PATIENCE_S = 60.0
LOOK_S = 0.01

R = TypeVar("R", bound=Report)


@dataclass
class Driven:
    """One process of an agent with its driver; `reports` grows while `until` waits."""

    driver: Driver
    process: subprocess.Popen[bytes]
    output: Path
    errors: Path
    worktree: Path
    input: int | None
    reports: list[Report] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    journal: list[tuple[int, Command]] = field(default_factory=list)
    """Every command with the number of bytes that had been fed before it."""
    offset: int = 0
    hung_up: bool = False
    gave_up: bool = False

    def take(self, command: Command) -> None:
        self.journal.append((self.offset, command))
        self._perform(self.driver.take(command))

    def until(self, what: Callable[[Report], bool], patience_s: float = PATIENCE_S) -> Report:
        """The first report from here on that `what` holds for; those before it are kept too."""
        seen = len(self.reports)
        deadline = time.monotonic() + patience_s
        while True:
            for number in range(seen, len(self.reports)):
                if what(self.reports[number]):
                    return self.reports[number]
            seen = len(self.reports)
            over = self.process.poll() is not None
            if not self._read() and over:
                raise AssertionError(f"The process ended before that came.\n{self.story()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"That did not come within {patience_s:.0f} s.\n{self.story()}")

    def until_a(self, kind: type[R], patience_s: float = PATIENCE_S) -> R:
        """The next report of a kind."""
        found = self.until(lambda report: isinstance(report, kind), patience_s)
        assert isinstance(found, kind)
        return found

    def finish(self, patience_s: float = PATIENCE_S) -> Outcome:
        """What came of it, once the process has ended; as the engine does, one that stays after HangUp is ended."""
        deadline = time.monotonic() + patience_s
        grace = deadline
        stopped = False
        while self.process.poll() is None:
            self._read()
            now = time.monotonic()
            if self.hung_up and grace == deadline:
                grace = min(deadline, now + 5)
            if (self.gave_up or now > grace) and not stopped:
                stopped = True
                os.killpg(self.process.pid, signal.SIGTERM)
            assert now < deadline + 10, f"It does not end.\n{self.story()}"
        while self._read():
            pass
        self._perform(self.driver.close())
        code = self.process.returncode
        complaints = self.errors.read_text(errors="replace")[-2000:] if self.errors.exists() else ""
        return self.driver.outcome(
            End(
                code=code if code >= 0 else None,
                signal=-code if code < 0 else None,
                unknown=False,
                reason="stopped" if stopped else "exited",
                complaints=complaints,
            )
        )

    def replayed(self, driver: Driver, size: int = 1000) -> list[Effect]:
        """The effects of a new driver that is fed the same again, in pieces of `size` bytes."""
        data = self.output.read_bytes()
        effects: list[Effect] = list(driver.begin())
        fed = 0
        for offset, command in [*self.journal, (len(data), None)]:
            while fed < offset:
                piece = data[fed : min(offset, fed + size)]
                effects += driver.feed(piece)
                fed += len(piece)
            if command is not None:
                effects += driver.take(command)
        return [*effects, *driver.close()]

    def story(self) -> str:
        """All that is known, for a failed assertion."""
        errors = self.errors.read_text(errors="replace") if self.errors.exists() else ""
        reports = "\n".join(repr(report)[:600] for report in self.reports)
        return f"{reports}\n--- output\n{self.output.read_bytes()[-3000:]!r}\n--- errors\n{errors[-3000:]}"

    def _read(self) -> bool:
        with self.output.open("rb") as file:
            file.seek(self.offset)
            data = file.read(1 << 20)
        if not data:
            time.sleep(LOOK_S)
            return False
        self.offset += len(data)
        self._perform(self.driver.feed(data))
        return True

    def _perform(self, effects: object) -> None:
        for effect in list(effects):  # type: ignore[call-overload]  # any sequence of effects
            self.effects.append(effect)
            match effect:
                case Write():
                    self._write(effect.data)
                case SaveFile():
                    path = (self.worktree / effect.path).resolve()
                    if path.is_relative_to(self.worktree.resolve()):
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_text(effect.text)
                        self._write(effect.done.data)
                    else:
                        self._write(effect.refused.data)
                case HangUp():
                    self.hung_up = True
                    self._close_input()
                case GiveUp():
                    self.gave_up = True
                case _:
                    self.reports.append(effect)

    def _write(self, data: bytes) -> None:
        if self.input is None:
            return
        try:
            while data:
                data = data[os.write(self.input, data) :]
        except BrokenPipeError:
            self._close_input()

    def _close_input(self) -> None:
        if self.input is not None:
            os.close(self.input)
            self.input = None


@contextmanager
def driven(
    adapter: Adapter, command: tuple[str, ...], job: Job, environment: Mapping[str, str], directory: Path
) -> Iterator[Driven]:
    """A process of the agent at work; `directory` takes its input and output, and whatever is left of it is killed."""
    directory.mkdir(parents=True, exist_ok=True)
    launch = adapter.launch(command, job)
    for name, text in launch.files.items():
        path = Path(job.files) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    output, errors = directory / "output.log", directory / "errors.log"
    writing: int | None = None
    reading = os.open(os.devnull, os.O_RDONLY)
    if launch.stdin == "fifo":
        os.mkfifo(directory / "input", 0o600)
        os.close(reading)
        reading = os.open(directory / "input", os.O_RDONLY | os.O_NONBLOCK)
        writing = os.open(directory / "input", os.O_WRONLY)
        os.set_blocking(reading, True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    out = os.open(output, flags, 0o600)
    err = os.open(errors, flags, 0o600) if launch.stderr == "apart" else os.dup(out)
    process = subprocess.Popen(
        launch.argv,
        cwd=job.worktree,
        env={**environment, **launch.env},
        stdin=reading,
        stdout=out,
        stderr=err,
        start_new_session=True,
    )
    for descriptor in (reading, out, err):
        os.close(descriptor)
    made = Driven(adapter.driver(job), process, output, errors, Path(job.worktree), writing)
    try:
        made._perform(made.driver.begin())
        yield made
    finally:
        made._close_input()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
