"""What those of ACP's session updates mean that are neither speech nor tools, and what a turn has cost."""

from __future__ import annotations

from typing import Any

from acp import schema

from plait.agents.acp_quirks import AcpQuirks
from plait.agents.acp_values import plain, plan_entries, quota_used, trouble_kind, used
from plait.core.reports import PlanEntry, Planned, Retry, Used, shorten

SILENT = frozenset({"available_commands_update", "current_mode_update", "config_option_update", "user_message_chunk"})
"""Updates that are understood and tell the user nothing; the last one is an echo of what was sent."""


def planned(plan: object) -> Planned:
    """The plan of a `plan_update`, in whichever form it comes."""
    match plan:
        case schema.PlanUpdateItems(entries=entries):
            return Planned(entries=plan_entries(entries))
        case schema.PlanUpdateMarkdown(content=text):
            return Planned(entries=(PlanEntry(text=shorten(text)),))
        case schema.PlanUpdateFile(uri=uri):
            return Planned(entries=(PlanEntry(text=str(uri)),))
        case _:
            return Planned(entries=())


def codex_retry(meta: dict[str, Any] | None, account: str) -> Retry | None:
    """The failed request that codex-acp tries again, from the `_meta` of a session's information."""
    codex = (meta or {}).get("codex")
    error = codex.get("error") if isinstance(codex, dict) else None
    if not isinstance(error, dict) or not error.get("willRetry"):
        return None
    details = plain(error.get("additionalDetails") or "")
    message = plain(error.get("message") or "")
    kind = trouble_kind(_status_in(error.get("codexErrorInfo")), f"{message} {details}")
    attempt, most = _attempts(message)
    text = f"{message} ({details})" if details else message
    return Retry(account=account, kind=kind, attempt=attempt, most=most, text=shorten(text, 2000))


def spent(answer: schema.PromptResponse | None, cost: float | None, quirks: AcpQuirks) -> Used | None:
    """What the answer to a prompt says was spent, with the cost so far that an update said."""
    found: Used | None = None
    if answer is not None and quirks.usage_scope != "none":
        if answer.usage is not None:
            found = used(answer.usage, quirks.usage_scope)
        elif quirks.quota_meta:
            found = quota_used(answer.field_meta, quirks.usage_scope)
    if not cost:
        return found
    return (found or Used(scope="turn")).model_copy(update={"cost_usd": cost, "cost_scope": quirks.cost_scope})


def _status_in(info: object) -> int | None:
    """The HTTP status in codex-acp's `codexErrorInfo`, which is an object by the kind of error."""
    for value in info.values() if isinstance(info, dict) else ():
        status = value.get("httpStatusCode") if isinstance(value, dict) else None
        if isinstance(status, int):
            return status
    return None


def _attempts(text: str) -> tuple[int | None, int | None]:
    """`Reconnecting... 1/5` as numbers."""
    attempt, slash, most = text[-20:].rpartition(" ")[2].partition("/")
    if slash and attempt.isascii() and attempt.isdigit() and most.isascii() and most.isdigit():
        return int(attempt), int(most)
    return None, None
