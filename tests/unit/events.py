"""Events of ansible-runner for tests: those of recorded runs, and milestones made up by hand."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.ec2_backup.ebs.plugins.module_utils import milestones

RECORDED: dict[str, list[dict[str, Any]]] = json.loads(
    Path(__file__).with_name("data").joinpath("events.json").read_text(encoding="utf-8")
)
"""The events of real runs, by what was run (tests/unit/record_events.py)."""


def said(**options: Any) -> dict[str, Any]:
    """The event of a milestone with these options; fails if the schema does not allow them."""
    checked = ArgumentSpecValidator(milestones.SPEC, **milestones.RULES).validate(copy.deepcopy(options))
    assert not checked.error_messages, checked.error_messages
    data = {"task": "Say", "task_action": milestones.ACTION, "res": {milestones.KEY: options}}
    return {"event": "runner_on_ok", "event_data": data}


def began(task: str, action: str = "ec2_backup.ebs.some_module") -> dict[str, Any]:
    """The event of a task that begins."""
    return {"event": "playbook_on_task_start", "event_data": {"task": task, "task_action": action}}


def failed(message: str, **more: Any) -> dict[str, Any]:
    """The event of a task that failed."""
    return {"event": "runner_on_failed", "event_data": {"res": {"msg": message}, **more}}
