"""Any agent that speaks the Agent Client Protocol (ACP) over its standard input and output.

The protocol: https://agentclientprotocol.com, version 1, JSON-RPC 2.0 with one message a line. Its types are those of
the package `agent-client-protocol`; importing them takes most of a second, so the driver is imported when the first one
is needed.
"""

from __future__ import annotations

from plait.agents.acp_quirks import quirks_of
from plait.agents.adapter import Abilities, Driver, Job, Launch

PIPED = ("/bin/sh", "-c", '"$@" | cat', "sh")
"""Runs a command with a pipe as its output, the other end of which is copied to where the output goes."""


class Acp:
    """The adapter of every agent that speaks ACP; what is special to one is in the table of quirks."""

    abilities = Abilities(converses=True, steers=False, asks=True, usage=True, cost=True, limits=False)

    def launch(self, command: tuple[str, ...], job: Job) -> Launch:
        """The command as it is, with the model where the agent takes it there."""
        quirks = quirks_of(job.preset)
        argv = command
        if job.model is not None and quirks.model_flag is not None:
            argv = (*command, quirks.model_flag, job.model)
        if quirks.piped:
            argv = (*PIPED, *argv)
        return Launch(
            argv,
            {**quirks.env, **quirks.permission_env.get(job.permission, {})},
            stdin="fifo",
            stderr="apart",
            interrupt="TERM",
        )

    def driver(self, job: Job) -> Driver:
        from plait.agents.acp_driver import AcpDriver  # costs most of a second and 17 MB, which only these agents need

        return AcpDriver(job)
