"""Turns a request for work into sessions: everything that can be wrong with it is said before anything is made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from plait.core import events as e
from plait.core import naming
from plait.core.sessions import Session
from plait.core.setup import INCLUDE_FILE, OWN_FILE, SETUP_FILES, SetupPlan, approval_key, rendered, setup_plan
from plait.core.setup_templates import values
from plait.engine import checkout
from plait.engine.approvals import Approvals
from plait.engine.choosing import allowed_now, choose
from plait.engine.engine import Engine
from plait.errors import NeedsApproval, UsageError
from plait.git import repo as repos
from plait.git import shadow as shadows
from plait.git import trees
from plait.git.repo import Base, Repo

MAX_SESSIONS = 50
"""More than this in one request is a slip of the finger."""


@dataclass(frozen=True)
class Request:
    """What somebody wants done, as it was asked."""

    path: Path
    """A file or directory of the repository."""
    text: str
    agents: tuple[tuple[str, int], ...] = ()
    """Names from the configuration, each with how many sessions; several sessions are alternatives."""
    command: tuple[str, ...] = ()
    """A command line to use as the agent, instead of a configured one."""
    base: str | None = None
    check: str | None = None
    after: tuple[str, ...] = ()
    setup: bool = True
    """Whether the repository's own set-up commands run."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the asker passes on; none if it did not say."""


@dataclass(frozen=True)
class Source:
    """A repository at a commit: what the request's files are read from."""

    repo: Repo
    base: Base
    shadow: shadows.Shadow
    entries: Mapping[str, tuple[str, str]]

    def read(self, paths: Sequence[str]) -> dict[str, bytes]:
        """Those of `paths` that exist as regular files."""
        found = {path: self.entries[path] for path in paths if path in self.entries}
        regular = {path: blob for path, (mode, blob) in found.items() if mode.startswith("100")}
        contents = trees.blobs(self.shadow, regular.values())
        return {path: contents[blob] for path, blob in regular.items() if blob in contents}


def specify(engine: Engine, request: Request) -> list[tuple[str, e.Created]]:
    """The sessions that the request amounts to, each with its id; writes nothing. Blocking.

    Raises UsageError for what is wrong with the request, NeedsApproval for commands of the repository.
    """
    if not request.text.strip():
        raise UsageError("The task is empty.", "Say what is to be done.")
    for other in request.after:
        engine.session(other)
    source = survey(engine, request.path, request.base)
    environment = request.environment or engine.latest_environment
    agents = choose(request.agents, request.command, request.text, engine.config(), environment)
    for agent, _ in agents:
        _executable(agent, source)
    total = sum(count for _, count in agents)
    if not 0 < total <= MAX_SESSIONS:
        raise UsageError(f"{total} sessions were asked for.", f"One request starts between 1 and {MAX_SESSIONS}.")
    setup = approved_setup(engine, source) if request.setup else (SetupPlan(), {})
    title = naming.title_of(request.text)
    task = e.Task(
        id=_new_id(engine), title=title, prompt=request.text, after=request.after, check=request.check or None
    )
    return [_created(engine, task, agent, source, *setup) for agent, count in agents for _ in range(count)]


def again(engine: Engine, old: Session) -> tuple[str, e.Created]:
    """A new session for the task of an old one: same agent, same base, a worktree and branch of its own. Blocking.

    Raises PlaitError if the base or the approval of the set-up is gone.
    """
    spec = old.spec
    source = survey(engine, Path(spec.repo.top or spec.repo.common_dir), spec.base)
    setup = approved_setup(engine, source) if spec.setup.source else (SetupPlan(), {})
    agent = spec.agent.model_copy(update={"permission": allowed_now(spec.agent, engine.config())})
    session, created = _created(engine, spec.task, agent, source, *setup)
    return session, created.model_copy(update={"base_name": spec.base_name})


def survey(engine: Engine, path: Path, base: str | None) -> Source:
    """The repository that `path` belongs to, at the commit that `base` names. Raises UsageError."""
    repo = repos.find(path)
    resolved = repos.resolve_base(repo, base)
    shadow = shadows.shadow(repo, engine.places.state)
    return Source(repo, resolved, shadow, trees.entries(shadow, resolved.commit))


def approved_setup(engine: Engine, source: Source) -> tuple[SetupPlan, dict[str, bytes]]:
    """The repository's set-up and the scripts that it names, if the user has approved it in this form.

    Raises NeedsApproval.
    """
    plan, scripts, key = proposed_setup(source)
    if plan.to_approve and not Approvals(engine.places.state).approved(key):
        raise NeedsApproval(
            f"{plan.source or OWN_FILE} asks to run commands in every new worktree, and you have not approved them.",
            "Look at them and run `plait approve`, or start without them (--no-setup).",
            {"key": key, "source": plan.source, "commands": list(plan.to_approve), "scripts": sorted(scripts)},
        )
    return plan, scripts


def proposed_setup(source: Source) -> tuple[SetupPlan, dict[str, bytes], str]:
    """The repository's set-up as its files ask for it, the scripts it names, and the key of its approval."""
    files = source.read(SETUP_FILES)
    if INCLUDE_FILE not in files and source.repo.top is not None:
        # Many keep this one out of git, and what it names is the user's own anyway.
        include = checkout.read(source.repo.top, INCLUDE_FILE)
        files |= {INCLUDE_FILE: include.data} if include else {}
    plan = setup_plan(files)
    scripts = source.read(plan.scripts)
    key = approval_key(os.fspath(source.repo.common_dir), plan.source, plan.to_approve, scripts)
    return plan, scripts, key


def _executable(agent: e.AgentRef, source: Source) -> None:
    """Raises UsageError if the agent is a file of the repository that cannot be executed in a worktree of it."""
    program = agent.command[0]
    if "/" not in program or program.startswith("/"):
        return
    mode = source.entries.get(os.path.normpath(program), ("", ""))[0]
    if mode != "100755":
        what = "is not executable" if mode else "does not exist"
        raise UsageError(
            f"The agent {agent.name!r} is to run {program}, which {what} in the base commit.",
            "Commit it as an executable file, or give an absolute path.",
        )


def _created(
    engine: Engine,
    task: e.Task,
    agent: e.AgentRef,
    source: Source,
    plan: SetupPlan,
    scripts: Mapping[str, bytes],
) -> tuple[str, e.Created]:
    session = _new_id(engine)
    slug = naming.slug(task.title)
    branch = naming.branch_name(slug, session)
    worktree = _place(engine, source.repo, branch.removeprefix("plait/"))
    templates = _template_values(source, branch, worktree)
    commands, problems = rendered(plan.dialect, plan.commands, templates)
    teardown, more = rendered(plan.dialect, plan.teardown, templates)
    problems += more
    if problems:
        raise UsageError(problems[0].message, "Change the set-up file, or start without it (--no-setup).")
    setup = e.SetupRef(
        source=plan.source,
        commands=commands,
        scripts={path: hashlib.sha256(content).hexdigest() for path, content in scripts.items()},
        teardown=teardown,
        include=plan.include,
        symlinks=plan.symlinks,
        dialect=plan.dialect,
    )
    repo = e.RepoRef(
        key=source.repo.key,
        common_dir=os.fspath(source.repo.common_dir),
        git_dir=os.fspath(source.repo.git_dir),
        top=os.fspath(source.repo.top) if source.repo.top else None,
    )
    return session, e.Created(
        task=task,
        agent=agent,
        repo=repo,
        base=source.base.commit,
        base_name=source.base.ref_name,
        default_branch=repos.default_branch(source.repo),
        branch=branch,
        worktree=os.fspath(worktree),
        setup=setup,
    )


def _place(engine: Engine, repo: Repo, name: str) -> Path:
    """Where the session's worktree goes: below Plait's data, or beside the user's checkout if configured so."""
    checkout = repo.top or repo.common_dir
    if engine.config().worktrees.location == "sibling":
        return checkout.parent / f"{checkout.name}.worktrees" / name
    short = hashlib.sha256(repo.key.encode()).hexdigest()[:8]
    return engine.places.data / "worktrees" / f"{checkout.name.removesuffix('.git') or 'repo'}-{short}" / name


def _new_id(engine: Engine) -> str:
    return naming.new_id(int(engine.clock() * 1000), os.urandom(10))


def _template_values(source: Source, branch: str, worktree: Path) -> Mapping[str, str]:
    return values(
        branch=branch,
        worktree=os.fspath(worktree),
        root=os.fspath(source.repo.top or source.repo.common_dir),
        default_branch=repos.default_branch(source.repo) or "",
        commit=source.base.commit,
    )
