"""Kill -9 at random moments: no session, no byte of output and no exit status is lost, and nothing is left over.

`PLAIT_CHAOS_KILLS` sets how many kills the run makes.
"""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from plait.errors import PlaitError
from plait.rpc import Caller
from tests.support.plait import Plait, installed, script
from tests.support.processes import eventually, proc
from tests.support.repo import make_repo, manifest, refs, run_git, user_commands_work

KILLS = int(os.environ.get("PLAIT_CHAOS_KILLS", "24"))

AGENT = script(
    """
import os, sys, time
lines, code = map(int, sys.argv[1].split()[1:3])
for number in range(lines):
    os.write(1, b"line %d of the output\\n" % number)
    time.sleep(0.004)
with open("result.txt", "w") as file:
    file.write(sys.argv[1])
sys.exit(code)
"""
)


def expected_output(lines: int) -> bytes:
    return b"".join(b"line %d of the output\n" % number for number in range(lines))


def connected(plait: Plait) -> Caller:
    """A connection, however often the daemon is killed meanwhile."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return plait.connect()
        except PlaitError:
            assert time.monotonic() < deadline


def whole_output(caller: Caller, session: str) -> bytes:
    data, offset = b"", 0
    while True:
        part = caller.request("plait/output", {"session": session, "offset": offset})
        data += base64.b64decode(part["data"])
        offset = part["next"]
        if part["ended"]:
            return data


def kill_supervisor(plait: Plait, rng: random.Random) -> str | None:
    """Kill the supervisor of some running session; the session's id."""
    alive = []
    for path in plait.places.sessions.glob("*/runs/*/supervisor.json"):
        if (path.parent / "exit.json").exists():
            continue
        with suppress(OSError, ValueError, KeyError):
            pid = int(json.loads(path.read_bytes())["pid"])
            if str(path.parent).encode() in proc(pid, "cmdline"):
                alive.append((pid, path.parent.parent.parent.name))
    if not alive:
        return None
    pid, session = rng.choice(alive)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return session


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_kill_loses_anything(tmp_path: Path, record_property: Any) -> None:
    seed = int(os.environ.get("PLAIT_CHAOS_SEED", "1"))
    rng = random.Random(seed)
    top = make_repo(tmp_path, {"a.txt": "one\n", "src/b.py": "b = 1\n" * 200})
    before = manifest(top)
    branches = {ref for ref in refs(top) if ref.startswith("refs/heads/")}
    wanted: dict[str, tuple[int, int]] = {}
    robbed: set[str] = set()
    kills = {"daemon": 0, "supervisor": 0}
    with installed(tmp_path / "plait", {"agent": AGENT}) as plait:
        caller = connected(plait)
        while sum(kills.values()) < KILLS:
            lines, code = rng.randrange(0, 400), rng.choice([0, 0, 0, 3])
            text = f"count {lines} {code} seed {rng.random()}"
            try:
                for session in plait.run(caller, top, text, agents=[{"name": "agent", "count": rng.choice([1, 2])}]):
                    wanted[session] = (lines, code)
            except PlaitError:
                caller = connected(plait)
                for found in caller.request("plait/sessions", {"all": True})["sessions"]:
                    wanted.setdefault(found["id"], (lines, code))
            # The moment of the kill is the point of this test; it is no wait for anything.
            time.sleep(rng.random() * rng.choice([0.02, 0.2, 1.0]))
            if rng.random() < 0.35:
                session_robbed = kill_supervisor(plait, rng)
                if session_robbed is not None:
                    robbed.add(session_robbed)
                    kills["supervisor"] += 1
            else:
                plait.kill_daemon()
                kills["daemon"] += 1
                caller = connected(plait)
        rested = plait.rested(caller, list(wanted), 120)
        problems = check(plait, caller, wanted, rested, robbed)
        eventually(lambda: places_agree(plait, caller, top, branches), 30)
        plait.none_left()
    assert problems == []
    assert manifest(top) == before
    user_commands_work(top)
    record_property("kills", kills)
    print(f"kills {kills}, sessions {len(wanted)}, of which lost their supervisor {len(robbed)}; seed {seed}")


def places_agree(plait: Plait, caller: Caller, top: Path, branches: set[str]) -> bool:
    """Whether sessions, git's worktrees, branches and the disk speak of the same places."""
    entries = caller.request("plait/sessions", {"all": True})["sessions"]
    known = {entry["worktree"] for entry in entries if entry["worktree"]}
    listed = [block.split("\n")[0] for block in run_git(top, "worktree", "list", "--porcelain").split("\n\n")[1:]]
    made = {ref for ref in refs(top) if ref.startswith("refs/heads/")} - branches
    return (
        {str(path) for path in (plait.places.data / "worktrees").glob("*/*")} == known
        and {line.removeprefix("worktree ") for line in listed} == known
        and made == {f"refs/heads/{entry['branch']}" for entry in entries if entry["worktree"]}
    )


def check(
    plait: Plait,
    caller: Caller,
    wanted: dict[str, tuple[int, int]],
    rested: dict[str, dict[str, Any]],
    robbed: set[str],
) -> list[str]:
    """What was lost or is wrong; nothing, if all is well."""
    problems = []
    assert set(wanted) == set(rested)
    for session, (lines, code) in wanted.items():
        detail = caller.request("plait/session", {"session": session})
        outcome = detail["runs"][-1]["outcome"] if detail["runs"] else None
        if outcome is None:
            problems.append(f"{session} never ran: {detail['state']} {detail['reason']}")
            continue
        output = whole_output(caller, session)
        paths = [hunk["path"] for hunk in detail["hunks"]]
        if outcome["unknown"] and session in robbed and (output, paths) == (b"", []):
            # Its supervisor was killed between writing down the agent's process and letting it execute.
            continue
        if output != expected_output(lines):
            problems.append(f"{session} lost output: {output[-40:]!r} of {lines} lines")
        if outcome["unknown"]:
            if session not in robbed:
                problems.append(f"{session} has an unknown end although its supervisor lived: {outcome}")
        elif (outcome["code"], outcome["signal"]) != (code, None):
            problems.append(f"{session} ended with {outcome} instead of {code}")
        state = "failed" if outcome["unknown"] or code else "ready"
        if detail["state"] != state:
            problems.append(f"{session} is {detail['state']} ({detail['reason']}) instead of {state}")
        if paths != ["result.txt"]:
            problems.append(f"{session} has hunks in {paths}")
    return problems
