"""Which agent suits a task: by the guide's advice, with the words that decided, and never an exception."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.core.advice import STRENGTHS, Login, TaskKind, kind_of_task, suggest

GUIDED = ("opencode", "aider", "codex", "claude")
GUIDES_EXAMPLE = (
    "Fix the null pointer in UserService.getProfile when user.avatar is null — add a null check and return a default "
    "avatar URL"
)


@pytest.mark.parametrize(
    ("text", "kind", "agent"),
    [
        ("Refactor the session handling across the codebase", "refactoring", "claude"),
        ("Restructure the billing package into modules with a service layer", "architecture", "claude"),
        ("Investigate why the worker sometimes hangs; it looks like a race condition", "debugging", "claude"),
        ("Let the tracker be reached through an MCP server", "integration", "claude"),
        ("Migrate the models from SQLAlchemy 1.4 to 2.0", "migration", "claude"),
        ("Add a dark mode toggle button to the settings page", "interface", "claude"),
        ("Explore how we could cache the search results and write a prototype", "exploration", "claude"),
        ("Write unit tests for the parser. Run tests and fix any failures.", "tests", "codex"),
        ("Generate property tests for Money.add", "tests", "codex"),
        (GUIDES_EXAMPLE, "bug fix", "codex"),
        ("Update the documentation of the export command in the README", "documentation", "codex"),
        ("Implement `export_csv` in reports/export.py", "well-defined", "codex"),
        ("Fix a typo in the greeting", "quick edit", "aider"),
        ("Work back and forth on the wording of the errors", "pairing", "aider"),
        ("Rewrite the summaries with a local model through Ollama", "model choice", "opencode"),
        ("Do the thing", "general", "claude"),
        ("", "general", "claude"),
    ],
)
def test_each_kind_of_task_goes_to_the_agent_that_the_guide_names(text: str, kind: TaskKind, agent: str) -> None:
    found = suggest(text, GUIDED)
    assert found is not None
    assert (found.kind, found.agent) == (kind, agent)
    told = kind_of_task(text)
    assert told.words.lower() in text.lower()
    assert told.words in found.reason
    assert STRENGTHS[agent].title in found.reason


def test_asking_for_tests_to_be_run_is_not_asking_for_tests() -> None:
    assert kind_of_task("Refactor the importer. Then run the tests and make them pass.").kind == "refactoring"


def test_what_stands_first_counts_more_than_what_stands_below() -> None:
    below = "\n".join(["More about how it is used today."] * 20)
    assert kind_of_task(f"Write unit tests for the importer.\n{below}\nLater we will refactor it.").kind == "tests"
    assert kind_of_task(f"Refactor the importer.\n{below}\nAdd tests for it.").kind == "refactoring"


def test_an_agent_that_is_logged_in_comes_before_one_that_suits_better() -> None:
    found = suggest("Refactor the importer", ("claude", "codex"), {"claude": "no", "codex": "yes"})
    assert found is not None
    assert found.agent == "codex"
    assert "Claude Code would suit it best" in found.reason
    assert "Codex CLI is more likely to be logged in" in found.reason
    unknown = suggest("Refactor the importer", ("codex", "opencode"), {"codex": "no"})
    assert unknown is not None
    assert unknown.agent == "opencode"
    none = suggest("Refactor the importer", ("claude", "codex"), {"claude": "no", "codex": "no"})
    assert none is not None
    assert none.agent == "claude"


def test_what_is_installed_decides_and_is_said() -> None:
    found = suggest("Refactor the importer", ("gemini", "mine"))
    assert found is not None
    assert found.agent == "gemini"
    assert "of the agents that are installed, Gemini CLI comes nearest" in found.reason
    own = suggest("Refactor the importer", ("mine",))
    assert own is not None
    assert own.agent == "mine"
    assert suggest("Refactor the importer", ()) is None


def test_the_order_in_which_agents_are_named_does_not_decide() -> None:
    for text in (GUIDES_EXAMPLE, "Refactor it", "Do the thing"):
        assert suggest(text, GUIDED) == suggest(text, tuple(reversed(GUIDED)))


def test_a_quotation_is_short_and_on_one_line() -> None:
    found = suggest("Extract the \x1b[31m red \u202e part\tinto one function", GUIDED)
    assert found is not None
    assert found.kind == "refactoring"
    for text in (f"Add {'x' * 39} tests", "Extract the very long name of a thing into one helper"):
        words = kind_of_task(text).words
        assert len(words) <= 40
        assert words.endswith("…")
    assert found.reason.isprintable()


_logins: st.SearchStrategy[Login] = st.sampled_from(["yes", "no", "unknown"])
_names = st.sampled_from([*STRENGTHS, "mine"]) | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,4}", fullmatch=True)


@given(st.text(), st.lists(_names, unique=True, max_size=5), st.dictionaries(_names, _logins, max_size=5))
@settings(deadline=None)
def test_no_text_makes_it_raise(text: str, available: list[str], logins: dict[str, Login]) -> None:
    found = suggest(text, available, logins)
    assert (found is None) == (not available)
    if found is not None:
        assert found.agent in available
        assert found.reason.isprintable()
        assert found == suggest(text, available, logins)


def test_a_text_beyond_all_measure_is_only_read_at_its_beginning() -> None:
    assert kind_of_task("add " * 200_000 + "refactor").kind == "general"
    assert kind_of_task("extract " * 5_000).kind == "general"
