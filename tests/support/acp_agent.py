"""A small agent that speaks ACP through the protocol's own package: it asks for a name, then writes that file.

What it does over and above its schema's examples: it asks the user with a form, wants its client to write the file, as
OpenCode does, and sends a notification and a tool call's end that nothing announced.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import acp
from acp import schema


class Writer:
    """One session, in which every prompt does the same."""

    def on_connect(self, conn: acp.Client) -> None:
        self._client = conn

    async def initialize(self, protocol_version: int, **_more: Any) -> schema.InitializeResponse:
        return schema.InitializeResponse(protocol_version=protocol_version)

    async def new_session(self, cwd: str, **_more: Any) -> schema.NewSessionResponse:
        return schema.NewSessionResponse(session_id="only")

    async def cancel(self, session_id: str, **_more: Any) -> None:
        """Nothing is to be done: whoever cancels answers what was asked."""

    async def prompt(self, session_id: str, prompt: list[Any], **_more: Any) -> schema.PromptResponse:
        name = await self._ask_for_name(session_id)
        if name is None:
            return schema.PromptResponse(stop_reason="end_turn")
        call = schema.ToolCallUpdate(
            tool_call_id="write-1",
            kind="edit",
            title=f"Write {name}",
            content=[acp.tool_diff_content(path=name, new_text="made\n")],
        )
        answer = await self._client.request_permission(
            session_id=session_id,
            tool_call=call,
            options=[
                schema.PermissionOption(option_id="yes", name="Yes", kind="allow_once"),
                schema.PermissionOption(option_id="no", name="No", kind="reject_once"),
            ],
        )
        if answer.outcome.outcome == "cancelled":
            return schema.PromptResponse(stop_reason="cancelled")
        await self._client.write_text_file(session_id=session_id, path=name, content="made\n")
        await self._client.session_update(session_id, acp.update_tool_call("write-1", status="completed"))
        await self._client.session_update(session_id, acp.update_agent_message_text(f"Wrote {name}."))
        return schema.PromptResponse(stop_reason="end_turn")

    async def _ask_for_name(self, session_id: str) -> str | None:
        form = schema.ElicitationSchema(
            properties={"name": schema.ElicitationStringPropertySchema(type="string", title="Name")}, required=["name"]
        )
        mode = schema.ElicitationFormSessionMode(session_id=session_id, requested_schema=form)
        answer = await self._client.create_elicitation(message="Which file?", mode=mode)
        if not isinstance(answer, schema.AcceptElicitationResponse) or answer.content is None:
            return None
        return str(answer.content["name"])


if __name__ == "__main__":
    # It has only the methods that are called here, and the package looks them up one by one.
    asyncio.run(acp.run_agent(cast("acp.Agent", Writer()), use_unstable_protocol=True))
