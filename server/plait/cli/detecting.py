"""`plait agents`: who can work here, what each can do and is good for, and how to get the others."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from plait.cli import client, screen
from plait.cli.options import AsJson
from plait.cli.text import one_line, safe

if TYPE_CHECKING:
    from rich.text import Text

View = dict[str, Any]


def agents(as_json: AsJson = False) -> None:
    """Show the agents that can work here and what each is good for, and how to install the others.

    Whether one is logged in is told by its files and variables, without the network. What an agent can do: ask
    (its requests for permission reach you), steer (it takes a message while it works), resume (its conversation goes
    on later), usage (it tells its tokens), limits (it tells its provider's limits).
    """
    answer = client.request("plait/agents", env=client.environment())
    if as_json:
        screen.put_json(answer)
        return
    here = [one for one in answer["agents"] if one["path"] or not one["known"]]
    missing = [one for one in answer["agents"] if one not in here]
    if screen.on_terminal():
        _put_cards(here)
    else:
        _put_rows(here)
    _put_missing(missing)


def _put_cards(here: Sequence[View]) -> None:
    """One line of facts for each agent, below it what does not fit beside them."""
    from rich.text import Text

    from plait.cli.columns import in_columns

    header = ("agent", "version", "logged in", "can")
    facts = in_columns(header, [_facts(one) for one in here], {"can": 1}, screen.width())
    for number, line in enumerate(facts):
        screen.put_styled(line)
        for below in _below(here[number - 1]) if number else ():
            screen.put_styled(Text.assemble("  ", (below, "dim")))


def _put_rows(here: Sequence[View]) -> None:
    from plait.cli.columns import put_columns

    rows = [(*_facts(one), _where(one), one["goodFor"] or "") for one in here]
    put_columns(("agent", "version", "logged in", "can", "program", "good for"), rows, {})


def _put_missing(missing: Sequence[View]) -> None:
    from plait.cli.columns import put_columns

    if not missing:
        return
    screen.put()
    rows = [(safe(one["name"]), one_line(one["install"] or one["problem"])) for one in missing]
    put_columns(("not installed", "how to get it"), rows, {"how to get it": 1})


def _facts(one: View) -> tuple[Text | str, ...]:
    from rich.text import Text

    login = Text(*_LOGINS[one["login"]]) if one["known"] else Text("")
    can = [word for word in ("ask", "steer", "resume", "usage", "limits") if (one["can"] or {}).get(word)]
    if one["problem"]:
        doing = Text("cannot be started", "red")
    elif not one["supported"]:
        doing = Text("not supported yet", "yellow")
    else:
        doing = Text(" ".join(can)) if can else Text("runs to its end", "dim")
    return Text(safe(one["name"]), "bold"), safe(one["version"] or ""), login, doing


_LOGINS = {"yes": ("yes", "green"), "no": ("no", "red"), "unknown": ("?", "yellow")}


def _below(one: View) -> list[str]:
    lines = [f"good for {one['goodFor']}"] if one["goodFor"] else []
    lines.append(_where(one))
    if one["problem"]:
        lines.append(one_line(f"{one['problem']} {one['hint'] or ''}"))
    elif one["known"] and one["login"] != "yes":
        lines.append(one_line(f"{_because(one)}{one['hint'] or ''}"))
    if one["note"] and one["known"]:
        lines.append(one_line(one["note"]))
    if one["known"] and not one["tested"]:
        lines.append("never run with Plait so far; known from its documentation only")
    return lines


def _because(one: View) -> str:
    how = one["toldBy"] or ""
    if one["login"] == "no":
        return "not logged in. "
    return f"not known to be logged in ({_short(how)}). "


def _where(one: View) -> str:
    if one["known"]:
        return safe(_short(one["path"] or ""))
    return one_line(shlex.join(one["command"]))


def _short(path: str) -> str:
    home = os.environ.get("HOME", "")
    return f"~{path[len(home) :]}" if home and path.startswith(f"{home}/") else path
