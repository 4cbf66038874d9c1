"""PROTOCOL.md and the code say the same: methods, parameters, examples, commands, notifications."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from plait import daemon
from plait.lsp.commands import COMMANDS
from plait.lsp.server import FEATURES
from plait.lsp.tables import Method

SERVER = Path(__file__).resolve().parents[1] / "server"
PAGE = (SERVER / "PROTOCOL.md").read_text()
SECTIONS = {part.split("\n", 1)[0]: part for part in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]}


class NoDaemon:
    """Stands where the daemon's own methods want one; they are only listed here."""


METHODS: tuple[Method, ...] = (*FEATURES.methods, *daemon._methods(NoDaemon()))  # type: ignore[arg-type]  # see NoDaemon
OURS = [method for method in METHODS if method.name.startswith("plait/")]


def test_the_page_names_exactly_what_the_code_answers() -> None:
    sent = {found for path in SERVER.rglob("*.py") for found in re.findall(r'notify\("(plait/\w+)"', path.read_text())}
    assert set(SECTIONS) == {method.name for method in OURS} | sent


@pytest.mark.parametrize("method", OURS, ids=lambda method: method.name)
def test_each_method_is_described_as_it_is(method: Method) -> None:
    section = SECTIONS[method.name]
    assert method.summary in section
    fields = method.params.model_fields if method.params else {}
    listed = re.search(r"^Parameters: (.*)\.$", section, flags=re.MULTILINE)
    shown = listed[1].split(", ") if listed else []
    expected = [f"`{field.alias or name}`{'' if field.is_required() else '?'}" for name, field in fields.items()]
    assert shown == expected
    examples = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", section, flags=re.DOTALL)]
    assert len(examples) == 2, "an example of the parameters and one of the answer"
    if method.params is not None:
        method.params.model_validate(examples[0])


def test_the_commands_are_listed_with_their_titles() -> None:
    rows = dict(re.findall(r"^\| `(plait\.[\w.]+)` \| (.*?) \|", PAGE, flags=re.MULTILINE))
    assert rows == {command.name: command.summary for command in COMMANDS}


def test_every_block_of_json_is_json() -> None:
    blocks: list[Any] = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)]
    assert len(blocks) > 50
