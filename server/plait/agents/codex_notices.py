"""The notifications of Codex's app-server outside of the conversation: remarks for the user, and what is left out.

Source: `ServerNotification` in the schema of 0.169.
"""

from __future__ import annotations

from plait.agents.codex_values import Json, inner, text


def remark(method: str, params: Json) -> str | None:
    """What the user should see of a notification: nothing if it is empty, none if the kind is unknown."""
    match method:
        case "warning" | "guardianWarning":
            return text(params, "message")
        case "configWarning" | "deprecationNotice":
            return "\n".join(part for part in (text(params, "summary"), text(params, "details")) if part)
        case "modelProvider/authRecoveryStarted" | "modelProvider/authRecoveryCompleted":
            return text(params, "message")
        case "model/rerouted":
            return f"The provider uses {text(params, 'toModel')} instead of {text(params, 'fromModel')}."
        case "mcpServer/startupStatus/updated":
            failed = text(params, "status") == "failed"
            return f"The MCP server {text(params, 'name')} did not start: {text(params, 'error')}" if failed else ""
        case "hook/completed":
            run = inner(params, "run")
            fine = text(run, "status") in ("", "running", "completed")
            said = text(run, "statusMessage") or "it does not say why."
            return "" if fine else f"The hook {text(run, 'eventName')} has {text(run, 'status')}: {said}"
        case _:
            return None


SUPERFLUOUS = (
    "item/agentMessage/delta",
    "item/plan/delta",
    "item/reasoning/summaryTextDelta",
    "item/reasoning/summaryPartAdded",
    "item/reasoning/textDelta",
    "item/commandExecution/outputDelta",
    "item/fileChange/outputDelta",
    "turn/diff/updated",
)
"""Notifications that are switched off: what they tell comes again, whole, when the item or the turn is complete."""

OLD = "codex/event/"
"""So begin the notifications of an older protocol, which some versions send beside those of this one."""

IGNORED = frozenset(
    {
        *SUPERFLUOUS,
        "account/gatewayOAuth/changed",
        "account/login/completed",
        "app/list/updated",
        "autoApprovalReview/strictReviewRequired",
        "command/exec/outputDelta",
        "externalAgentConfig/import/completed",
        "externalAgentConfig/import/progress",
        "fs/changed",
        "fuzzyFileSearch/sessionCompleted",
        "fuzzyFileSearch/sessionUpdated",
        "hook/started",
        "item/autoApprovalReview/completed",
        "item/autoApprovalReview/started",
        "item/commandExecution/terminalInteraction",
        "mcpServer/event/stream/notification",
        "mcpServer/oauthLogin/completed",
        "model/safetyBuffering/updated",
        "model/verification",
        "process/exited",
        "process/outputDelta",
        "project/changed",
        "remoteControl/status/changed",
        "skills/changed",
        "thread/archived",
        "thread/attachment/updated",
        "thread/closed",
        "thread/compacted",
        "thread/deleted",
        "thread/environment/connected",
        "thread/environment/disconnected",
        "thread/goal/cleared",
        "thread/goal/updated",
        "thread/name/updated",
        "thread/prediction/updated",
        "thread/project/updated",
        "thread/queue/changed",
        "thread/readState/changed",
        "thread/reverted",
        "thread/section/changed",
        "thread/settings/updated",
        "thread/started",
        "thread/status/changed",
        "thread/unarchived",
        "turn/moderationMetadata",
        "windows/worldWritableWarning",
        "windowsSandbox/setupCompleted",
    }
)
"""Notifications that say nothing to the user, or nothing that another one does not say too."""
