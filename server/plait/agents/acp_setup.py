"""How a session of an ACP agent is set up before its first prompt: its mode by the task's permission, its model."""

from __future__ import annotations

from dataclasses import dataclass

from acp import schema
from pydantic import BaseModel

from plait.agents.acp_quirks import AcpQuirks
from plait.agents.adapter import Job

State = schema.NewSessionResponse | schema.LoadSessionResponse


@dataclass(frozen=True)
class Step:
    """A request to be made, and what to say if it is refused."""

    method: str
    request: BaseModel
    failed: str


@dataclass(frozen=True)
class SetUp:
    """What a session is and what is to be done about it."""

    mode: str | None = None
    model: str | None = None
    steps: tuple[Step, ...] = ()
    remark: str = ""
    barrier: Step | None = None
    """A request that changes nothing: what comes before its answer was under way already."""


def set_up(state: State, session: str, job: Job, quirks: AcpQuirks) -> SetUp:
    """What to do with a session that was just opened or taken up."""
    selects = [option for option in state.config_options or () if isinstance(option, schema.SessionConfigOptionSelect)]
    mode_option = next((option for option in selects if option.category == "mode"), None)
    model_option = next((option for option in selects if option.category == "model"), None)
    steps: list[Step] = []

    mode: str | None = None
    offered: list[str] = []
    if state.modes is not None:
        mode, offered = state.modes.current_mode_id, [each.id for each in state.modes.available_modes]
    elif mode_option is not None:
        mode, offered = mode_option.current_value, _values(mode_option)
    wanted = next((each for each in quirks.modes.get(job.permission, ()) if each in offered), mode)
    if wanted is not None and wanted != mode:
        failed = f"It did not take the mode {wanted!r}"
        if state.modes is not None:
            steps.append(_mode(session, wanted, failed))
        elif mode_option is not None:
            steps.append(_option(session, mode_option.id, wanted, failed))
    barrier = None if state.modes is None or wanted is None else _mode(session, wanted, "It did not keep its mode")

    model = None if model_option is None else model_option.current_value
    remark = ""
    if job.model is not None and quirks.model_flag is not None:
        model = job.model
    elif job.model is not None and job.model != model:
        if model_option is not None and job.model in _values(model_option):
            steps.append(_option(session, model_option.id, job.model, f"It did not take the model {job.model!r}"))
            model = job.model
        else:
            remark = f"It does not offer the model {job.model!r}, so it uses its own."
    return SetUp(wanted, model, tuple(steps), remark, barrier)


def _mode(session: str, mode: str, failed: str) -> Step:
    return Step("session/set_mode", schema.SetSessionModeRequest(session_id=session, mode_id=mode), failed)


def _option(session: str, option: str, value: str, failed: str) -> Step:
    request = schema.SetSessionConfigOptionSelectRequest(session_id=session, config_id=option, value=value)
    return Step("session/set_config_option", request, failed)


def _values(option: schema.SessionConfigOptionSelect) -> list[str]:
    values: list[str] = []
    for each in option.options:
        values += (
            [each.value] if isinstance(each, schema.SessionConfigSelectOption) else [o.value for o in each.options]
        )
    return values
