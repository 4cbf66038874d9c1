"""Two sessions change the same lines: an open document says so at both hunks, before either is accepted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plait.dial import dial
from plait.paths import places
from plait.rpc import Caller
from tests.support.plait import Plait, ready
from tests.support.repo import LINES

ONE, OTHER = "sed -i 's/line 3$/ONE/; s/line 30/x/' a.txt", "sed -i 's/line 3$/OTHER/; s/line 4$/OTHER/' a.txt"


class Window:
    """An editor that shows related information, and wants to know of conflicts."""

    def __init__(self) -> None:
        self.notified: list[tuple[str, Any]] = []
        self.caller = Caller(
            dial(places()), on_notification=lambda method, params: self.notified.append((method, params))
        )
        capabilities = {"textDocument": {"publishDiagnostics": {"relatedInformation": True}}}
        ours = {"plait": {"protocol": 1, "features": ["conflicts"]}}
        given = {"processId": None, "rootUri": None, "capabilities": capabilities, "initializationOptions": ours}
        self.caller.request("initialize", given, 10)
        self.caller.notify("initialized", {})

    def open(self, path: Path, text: str) -> str:
        document = {"uri": path.as_uri(), "languageId": "plaintext", "version": 0, "text": text}
        self.caller.notify("textDocument/didOpen", {"textDocument": document})
        return path.as_uri()

    def told(self, codes: list[str]) -> list[dict[str, Any]]:
        """The newest diagnostics, once they have these codes."""
        while True:
            published = [params for method, params in self.notified if method == "textDocument/publishDiagnostics"]
            if published and [one["code"] for one in published[-1]["diagnostics"]] == codes:
                found: list[dict[str, Any]] = published[-1]["diagnostics"]
                return found
            self.caller.listen(10)

    def pairs(self) -> list[int]:
        """How many pairs collided, each time that this was told."""
        return [params["pairs"] for method, params in self.notified if method == "plait/didChangeConflicts"]


@pytest.fixture
def window(plait: Plait) -> Iterator[Window]:
    plait.connect()
    made = Window()
    yield made
    made.caller.close()


def test_hunks_that_collide_link_to_each_other_until_one_is_rejected(
    plait: Plait, caller: Caller, window: Window, top: Path
) -> None:
    uri = window.open(top / "a.txt", LINES)
    one, other = ready(plait, caller, top, ONE), ready(plait, caller, top, OTHER)
    first, second, apart = window.told(["overlap", "overlap", "hunk"])
    assert (first["severity"], second["severity"], apart["severity"]) == (2, 2, 3)
    assert f"Collides with “sh: {OTHER}”." in first["message"]
    assert f"Collides with “sh: {ONE}”." in second["message"]
    (link,), (back,) = first["relatedInformation"], second["relatedInformation"]
    assert (link["location"], back["location"]) == (
        {"uri": uri, "range": second["range"]},
        {"uri": uri, "range": first["range"]},
    )
    assert link["message"] == f"sh: {OTHER}: replace 2 lines with 2"
    assert "relatedInformation" not in apart

    shown = window.caller.request("plait/hunks", {"textDocument": {"uri": uri}}, 10)["hunks"]
    by_session = {hunk["session"]: hunk for hunk in shown if hunk["start"] == 3}
    assert by_session[one]["overlaps"] == [
        {"session": other, "agent": "sh", "title": OTHER, "hunks": [by_session[other]["id"]], "alternative": False}
    ]
    hover = {"textDocument": {"uri": uri}, "position": {"line": 3, "character": 0}}
    assert "Collides with" in window.caller.request("textDocument/hover", hover, 10)["contents"]["value"]

    answer = caller.request("plait/conflicts", {"path": str(top)}, 10)
    (pair,) = answer["pairs"]
    assert (pair["a"], pair["b"]) == (one, other)
    (place,) = pair["files"]
    assert (place["path"], place["kind"], place["lines"]) == ("a.txt", "contents", [[3, 4], [3, 5]])
    assert sorted(answer["order"]) == sorted([one, other])

    caller.request("plait/reject", {"session": other, "hunks": pair["files"][0]["hunks"][1]}, 10)
    remaining = window.told(["hunk", "hunk"])
    assert all("Collides" not in diagnostic["message"] for diagnostic in remaining)
    assert window.pairs()[-1] == 0
    assert 1 in window.pairs()
    assert caller.request("plait/conflicts", {}, 10)["order"] == [one]


def test_sessions_of_one_task_are_alternatives(plait: Plait, caller: Caller, window: Window, top: Path) -> None:
    window.open(top / "a.txt", LINES)
    both = plait.run(caller, top, 'sed -i "s/line 3$/$$/" a.txt', agents=[{"name": "sh", "count": 2}])
    plait.rested(caller, both)
    while True:
        found = window.told(["hunk", "hunk"])
        if all("Alternatives: “sh: sed" in one["message"] for one in found):
            break
        window.caller.listen(10)
    assert [one["severity"] for one in found] == [3, 3]
    assert found[0]["relatedInformation"][0]["message"].endswith("replace 1 line with 1")
    answer = caller.request("plait/conflicts", {}, 10)
    assert answer["pairs"] == []
    assert [{pair["a"], pair["b"]} for pair in answer["alternatives"]] == [set(both)]
