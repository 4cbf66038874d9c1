"""The printed set-up in a real Neovim: review by keys and code actions, with nothing else configured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plait.rpc import Caller
from tests.support.plait import Plait, ready
from tests.support.processes import eventually
from tests.support.real_editors import Neovim, running_neovim
from tests.support.repo import LINES, write

pytestmark = pytest.mark.slow

HUNKS = "return vim.tbl_map(function(d) return d.lnum end, vim.diagnostic.get(0))"
CURSOR = "return vim.api.nvim_win_get_cursor(0)[1]"
FILE = "return vim.fn.expand('%:t')"
DRAWN = """
local drawn = vim.api.nvim_create_namespace('plait.preview')
local found = {}
for _, mark in ipairs(vim.api.nvim_buf_get_extmarks(0, drawn, 0, -1, { details = true })) do
  for _, chunks in ipairs(mark[4].virt_lines or {}) do
    found[#found + 1] = ('%d %s %s'):format(mark[2], chunks[1][2], chunks[1][1])
  end
  if mark[4].line_hl_group then
    found[#found + 1] = ('%d %s'):format(mark[2], mark[4].line_hl_group)
  end
end
table.sort(found)
return #found > 0 and found or vim.NIL
"""


def line(nvim: Neovim, number: int) -> str:
    return nvim.lines()[number]


def test_three_agents_hunks_are_accepted_rejected_taken_back_and_saved(
    plait: Plait, caller: Caller, top: Path, tmp_path: Path
) -> None:
    for number in (3, 10, 30):
        ready(plait, caller, top, f"sed -i 's/line {number}$/LINE {number}/' a.txt")
    with running_neovim(tmp_path, top / "a.txt") as nvim:
        nvim.eventually(HUNKS, [3, 10, 30])
        messages = nvim.lua("return vim.tbl_map(function(d) return d.message end, vim.diagnostic.get(0))")
        assert all("replace 1 line with 1" in message for message in messages)
        nvim.eventually("return vim.g.plait_status", "3 ready")
        assert nvim.lua("return vim.api.nvim_eval_statusline('%{g:plait_status}', {}).str") == "3 ready"

        nvim.press("]h")
        nvim.eventually(CURSOR, 4)
        nvim.press(r"\hs")
        nvim.eventually(HUNKS, [10, 30])
        assert line(nvim, 3) == "LINE 3"
        assert (top / "a.txt").read_text() == LINES, "nothing is saved behind the user's back"

        nvim.press("]h")
        nvim.eventually(CURSOR, 11)
        nvim.press(r"\hr")
        nvim.eventually(HUNKS, [30])
        assert line(nvim, 10) == "line 10"
        nvim.eventually("return vim.g.plait_status", "1 ready")

        nvim.press("u")
        nvim.eventually(HUNKS, [3, 30])
        assert line(nvim, 3) == "line 3"
        nvim.eventually(CURSOR, 4)
        nvim.press(r"\hs")
        nvim.eventually(HUNKS, [30])
        nvim.press("[h")
        nvim.eventually(CURSOR, 31)
        nvim.press(":write<CR>")
        nvim.eventually("return vim.bo.modified", False)
        assert (top / "a.txt").read_text() == LINES.replace("line 3\n", "LINE 3\n")


def test_a_file_without_a_filetype_is_served_by_the_same_client(
    plait: Plait, caller: Caller, top: Path, tmp_path: Path
) -> None:
    write(top, {"b.unknown-kind": "x\n"})
    ready(plait, caller, top, "printf 'y\\n' > b.unknown-kind; sed -i 's/line 3$/LINE 3/' a.txt")
    with running_neovim(tmp_path, top / "b.unknown-kind") as nvim:
        assert nvim.lua("return vim.bo.filetype") == ""
        nvim.eventually("return #vim.lsp.get_clients({ name = 'plait', bufnr = 0 })", 1)
        nvim.press(f":edit {top}/a.txt<CR>")
        nvim.eventually(HUNKS, [3])
        assert nvim.lua("return #vim.lsp.get_clients({ name = 'plait' })") == 1
        nvim.press(f":edit {tmp_path}/outside.txt<CR>")
        nvim.eventually(FILE, "outside.txt")
        nvim.press("]h")
        assert nvim.lua("return #vim.lsp.get_clients({ bufnr = 0 })") == 0


def test_hunks_are_shown_inline_listed_and_walked_across_files(
    plait: Plait, caller: Caller, top: Path, tmp_path: Path
) -> None:
    ready(plait, caller, top, "sed -i 's/line 3$/LINE 3/; 20a new' a.txt")
    ready(plait, caller, top, "sed -i 's/line 3$/Line three/' a.txt; printf 'TWO\\n' > c.txt")
    with running_neovim(tmp_path, top / "a.txt") as nvim:
        nvim.eventually(HUNKS, [3, 3, 20])
        nvim.press(":Plait next<CR>")
        nvim.eventually(CURSOR, 4)
        nvim.press(r"\hp")
        title = "sed -i 's/line 3$/"
        nvim.eventually(
            DRAWN,
            [
                f"3 Comment sh: {title}LINE 3/; 20a new' a.txt",
                f"3 Comment sh: {title}Line three/' a.txt; printf 'TWO\\n' > c.txt",
                "3 DiffAdd LINE 3",
                "3 DiffAdd Line three",
                "3 DiffDelete",
                "3 DiffDelete",
            ],
        )
        nvim.press("]h")
        nvim.eventually(CURSOR, 21)
        nvim.eventually(DRAWN, None)
        nvim.press(r"\hq")
        nvim.eventually("return vim.tbl_map(function(e) return e.lnum end, vim.fn.getqflist())", [4, 4, 21])
        nvim.press(":cclose<CR>]h")
        nvim.eventually(FILE, "c.txt")
        nvim.press("]h")
        nvim.eventually(FILE, "a.txt")
        nvim.eventually(CURSOR, 4)


def test_a_collision_with_the_users_line_says_why_it_cannot_be_accepted(
    plait: Plait, caller: Caller, top: Path, tmp_path: Path
) -> None:
    ready(plait, caller, top, "sed -i 's/line 3$/LINE 3/' a.txt")
    with running_neovim(tmp_path, top / "a.txt") as nvim:
        nvim.eventually(HUNKS, [3])
        nvim.press("4GCmine<Esc>")
        nvim.eventually("return vim.tbl_map(function(d) return d.code end, vim.diagnostic.get(0))", ["conflict"])
        nvim.press(r"\hs")
        nvim.eventually("return vim.fn.execute('messages'):find('You changed the lines') ~= nil", True)
        assert line(nvim, 3) == "mine"


def test_the_lenses_follow_the_hunks_and_a_task_is_started_by_command(
    plait: Plait, caller: Caller, top: Path, tmp_path: Path
) -> None:
    lenses = "return vim.tbl_map(function(l) return l.command.title end, vim.lsp.codelens.get(0))"
    with running_neovim(tmp_path, top / "a.txt") as nvim:
        nvim.eventually("return #vim.lsp.get_clients({ name = 'plait', bufnr = 0 })", 1)
        nvim.press(":Plait run sed -i 's/line 3$/LINE 3/' a.txt<CR>")
        nvim.eventually(HUNKS, [3])
        nvim.eventually(lenses, ["1 hunk of 1 session", "Accept sh +1 \u22121", "Reject"])
        nvim.press(":Plait accept_file<CR>")
        nvim.eventually(lenses, [])
        assert line(nvim, 3) == "LINE 3"


def test_a_word_to_the_agent_of_a_hunk_goes_along_with_the_place(
    plait: Plait, caller: Caller, top: Path, tmp_path: Path
) -> None:
    session = ready(plait, caller, top, "sed -i 's/line 3$/LINE 3/' a.txt")

    def said() -> bool:
        return "a.txt, line 4: why three?" in json.dumps(
            caller.request("plait/session", {"session": session})["events"]
        )

    with running_neovim(tmp_path, top / "a.txt") as nvim:
        nvim.eventually(HUNKS, [3])
        nvim.press("]h")
        nvim.eventually(CURSOR, 4)
        nvim.press(":Plait tell why three?<CR>")
        eventually(said)
