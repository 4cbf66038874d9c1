"""`plait answer`: what an agent asks, and the user's answer to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plait.cli import client, screen
from plait.cli.options import AsJson, Directory
from plait.cli.text import count, one_line, safe
from plait.errors import NothingToDo, PlaitError, UsageError

if TYPE_CHECKING:
    from plait.rpc import Caller

View = dict[str, Any]


def answer(
    session: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A session; default the one that waits.", show_default=False)
    ] = None,
    allow: Annotated[bool, typer.Option("--allow", help="Allow it this once.")] = False,
    always: Annotated[bool, typer.Option("--always", help="Allow it from now on, as far as the agent offers.")] = False,
    deny: Annotated[bool, typer.Option("--deny", help="Refuse it; --text tells the agent why.")] = False,
    option: Annotated[str | None, typer.Option(metavar="O", help="One of the agent's own options.")] = None,
    request: Annotated[str | None, typer.Option(metavar="R", help="This request, if several wait.")] = None,
    text: Annotated[str, typer.Option(metavar="T", help="Goes along, or answers the agent's one question.")] = "",
    given: Annotated[
        list[str] | None,
        typer.Option("--answer", metavar="Q=A", help="Answers a question by its id or number; repeatable."),
    ] = None,
    as_json: AsJson = False,
    directory: Directory = None,
) -> None:
    """Answer what an agent asks. At a terminal it shows each request and takes one key.

    Without a terminal and without an answer it only shows the request, and exits with 2.
    """
    decisions = [name for name, chosen in (("allow", allow), ("always", always), ("deny", deny)) if chosen]
    if len(decisions) + (option is not None) > 1:
        raise UsageError("--allow, --always, --deny and --option exclude each other.", "Choose one of them.")
    with client.connect() as caller:
        if not (decisions or option is not None or text or given):
            _ask_or_show(caller, session, request, as_json)
            return
        found = _only(_waiting(caller, session), session)
        params: dict[str, Any] = {"session": found["id"], "text": text}
        params |= {"decision": decisions[0]} if decisions else {}
        params |= {"option": option} if option is not None else {}
        params |= {"request": request} if request is not None else {}
        params |= {"answers": _answers(found, request, given)} if given else {}
        answered = caller.request("plait/answer", params)
    if as_json:
        screen.put_json(answered)
    else:
        _told(found, answered)


def _ask_or_show(caller: Caller, session: str | None, request: str | None, as_json: bool) -> None:
    waiting = _waiting(caller, session)
    if not as_json and screen.on_terminal() and screen.can_ask():
        _go_through(caller, session, request, waiting)
        return
    if as_json:
        keys = ("id", "short", "title", "agent", "requests")
        screen.put_json({"waiting": [{key: one[key] for key in keys} for one in waiting]})
    else:
        for one in waiting:
            for asked in _chosen(one, request):
                _show(one, asked)
    sys.stdout.flush()
    raise UsageError("Nothing was answered.", "Answer with --allow, --always, --deny, --option, --text or --answer.")


def _waiting(caller: Caller, session: str | None) -> list[View]:
    """The sessions that wait for an answer, those of this repository if it is one, the longest waiting first.

    Raises NothingToDo if there are none.
    """
    if session is not None:
        found = caller.request("plait/session", {"session": session})
        if not found["requests"]:
            raise NothingToDo(f"{found['short']} does not wait for an answer; it is {found['state']}.")
        return [found]
    params = {} if client.checkout() is None else {"path": client.here()}
    sessions = caller.request("plait/sessions", params)["sessions"]
    waiting = sorted((one for one in sessions if one["requests"]), key=lambda one: (one["changed"], one["id"]))
    if not waiting:
        raise NothingToDo("No agent waits for an answer.")
    return waiting


def _only(waiting: list[View], session: str | None) -> View:
    if len(waiting) > 1:
        names = "; ".join(f"{one['short']}: {one_line(one['requests'][0]['title'])}" for one in waiting)
        raise UsageError("Several sessions wait for an answer.", f"Name one of them: {names}")
    return waiting[0]


def _chosen(session: View, request: str | None) -> list[View]:
    found = [asked for asked in session["requests"] if request in (None, asked["id"])]
    if not found:
        raise NothingToDo(f"The request {request!r} was answered already, or the agent took it back.")
    return found


def _answers(session: View, request: str | None, given: Sequence[str]) -> Mapping[str, list[str]]:
    """The answers by the questions' ids; a question may be named by its number or its header too."""
    questions = [question for asked in _chosen(session, request) for question in asked["questions"]]
    names: dict[str, str] = {}
    for number, question in enumerate(questions, 1):
        names |= {name: question["id"] for name in (str(number), question["header"]) if name}
    names |= {question["id"]: question["id"] for question in questions}
    answers: dict[str, list[str]] = {}
    for one in given:
        name, equals, text = one.partition("=")
        if not equals:
            raise UsageError(f"{one!r} is no answer.", "Write QUESTION=ANSWER, for example --answer 1=yes.")
        if name.strip() not in names:
            asked = ", ".join(f"{number} ({one_line(each['text'])})" for number, each in enumerate(questions, 1))
            raise UsageError(f"The agent did not ask {name.strip()!r}.", f"It asked: {asked or 'no question'}.")
        answers.setdefault(names[name.strip()], []).append(text.strip())
    return answers


def _go_through(caller: Caller, session: str | None, request: str | None, waiting: list[View]) -> None:
    """Ask the user about one request after the other, until none waits or the user quits."""
    seen: set[tuple[str, str]] = set()
    while True:
        open_ = [(one, asked) for one in waiting for asked in one["requests"] if (one["id"], asked["id"]) not in seen]
        if request is not None:
            open_ = [(one, asked) for one, asked in open_ if asked["id"] == request]
        if not open_:
            return
        one, asked = open_[0]
        seen.add((one["id"], asked["id"]))
        _show(one, asked, with_options=False)
        if len(open_) > 1:
            screen.note(f"{count(len(open_) - 1, 'more request')} after this.")
        params = _asked_at_terminal(asked)
        if params is None:
            return
        if params:
            try:
                about = {"session": one["id"], "request": asked["id"], "run": asked["run"]}
                told = caller.request("plait/answer", {**about, **params})
            except PlaitError as error:
                # It may have been answered elsewhere meanwhile; the others still wait.
                screen.note(f"plait: {one_line(str(error))}")
            else:
                _told(one, told)
        try:
            waiting = _waiting(caller, session)
        except NothingToDo:
            return


def _asked_at_terminal(asked: View) -> dict[str, Any] | None:
    """What `plait/answer` is to be told; nothing if the user skips it, none if the user quits."""
    from plait.cli.asked import Choice, choices, key_line

    found = choices(asked)
    words = asked["kind"] == "question" and (
        not found or (len(asked["questions"]) == 1 and asked["questions"][0]["free"])
    )
    more = [Choice("t", "write an answer", {})] if words else []
    if any(choice.key == "d" for choice in found):
        more.append(Choice("D", "deny and say why", {}))
    keys = [*found, *more, Choice("s", "skip", {}), Choice("q", "quit", {})]
    screen.put_styled(key_line(keys))
    key = _key({choice.key for choice in keys})
    if key == "q":
        return None
    if key == "s":
        return {}
    if key == "t":
        return _written(asked)
    if key == "D":
        why = _line("Why? ")
        return None if why is None else {"decision": "deny", "text": why}
    return dict(next(choice for choice in found if choice.key == key).answer)


def _written(asked: View) -> dict[str, Any] | None:
    """The user's own words for each question; numbers stand for choices."""
    answers: dict[str, list[str]] = {}
    for question in asked["questions"]:
        screen.put(f"  {one_line(question['text'])}")
        for number, choice in enumerate(question["choices"], 1):
            screen.put(f"    {number} {one_line(choice)}")
        several = "numbers, with commas between them" if question["several"] else "a number"
        line = _line(f"{f'Answer ({several}, or words)' if question['choices'] else 'Answer'}: ")
        if line is None:
            return None
        answers[question["id"]] = _picked(question, line)
    return {"answers": answers}


def _picked(question: View, line: str) -> list[str]:
    parts = [part.strip() for part in line.split(",")] if question["several"] else [line.strip()]
    numbered = {str(number): choice for number, choice in enumerate(question["choices"], 1)}
    if all(part in numbered for part in parts):
        return [numbered[part] for part in parts]
    return parts if question["several"] and set(parts) <= set(question["choices"]) else [line.strip()]


def _key(allowed: set[str]) -> str:
    from plait.cli.keys import forget_pressed, single_keys

    sys.stdout.flush()
    with single_keys() as keys:
        assert keys is not None, "the caller has looked whether there is a terminal"
        # A key that was pressed too early must not answer what nobody has seen.
        forget_pressed(keys)
        screen.note_inline("? ")
        while True:
            key = os.read(keys, 1).decode("ascii", "replace")
            if key in ("", "\x04"):
                key = "q"
            if key in allowed:
                screen.note_inline(f"{key}\n")
                return key


def _line(question: str) -> str | None:
    """A line of the user's; none at the end of the input."""
    sys.stdout.flush()
    screen.note_inline(question)
    line = sys.stdin.readline()
    return line.rstrip("\n") if line else None


def _show(session: View, asked: View, with_options: bool = True) -> None:
    from rich.text import Text

    from plait.cli.asked import request_lines

    about = Text.assemble(
        (session["short"], "bold"), f"  {one_line(session['title'])}  ", (safe(session["agent"]), "dim")
    )
    screen.put()
    screen.put_styled(about)
    for line in request_lines(asked):
        screen.put_styled(line)
    if with_options:
        for row in _options(asked):
            screen.put(row)


def _options(asked: View) -> list[str]:
    lines = [f"  --option {safe(option['id'])}  ({one_line(option['label'])})" for option in asked["options"]]
    single = len(asked["questions"]) == 1
    for number, question in enumerate(asked["questions"], 1):
        flag = "--text" if single and not question["several"] else f"--answer {number}="
        lines += [f"  {flag}{' ' if single else ''}{one_line(choice)!r}" for choice in question["choices"]]
        if question["free"]:
            lines.append(f"  {flag}…")
    return [*lines, f"  (request {safe(asked['id'])})"]


def _told(session: View, answered: View) -> None:
    label = next(
        (
            option["label"] or option["id"]
            for asked in session["requests"]
            if asked["id"] == answered["request"]
            for option in asked["options"]
            if option["id"] == answered["option"]
        ),
        "",
    )
    now = answered["session"]
    said = f": {one_line(label)}" if label else ""
    screen.put(f"{now['short']}  answered{said}  ({now['state']})")
