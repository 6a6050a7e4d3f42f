# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a play of this collection reports while it runs: the one schema of its milestones.

The action ``ec2_backup.ebs.milestone`` validates its options with it, and docs/milestones.md describes it for programs
that run the playbooks. Standard library only.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils.text import printable

ACTION = "ec2_backup.ebs.milestone"
"""The name of the action, as the events of a task have it in ``task_action``."""

KEY = "milestone"
"""Where the action's result holds what was said."""

PHASES = (
    "starting",
    "checking",
    "measuring",
    "finding the volume",
    "launching",
    "attaching the volume",
    "waiting for SSH",
    "reading the manifest",
    "streaming",
    "restoring",
    "listing the files",
    "verifying",
    "committing",
    "cleaning up",
    "looking for volumes",
)

MOVING = ("streaming", "restoring", "listing the files", "verifying")
"""The phases in which the bytes of an archive are moved or read."""

SPEC: dict[str, dict[str, Any]] = {
    "phase": {"type": "str", "choices": list(PHASES)},
    "total": {"type": "int"},
    "moved": {
        "type": "dict",
        "options": {"taken": {"type": "int"}, "sent": {"type": "int", "required": True}},
    },
    "warning": {"type": "list", "elements": "str"},
    "notice": {"type": "list", "elements": "str"},
    "settled": {"type": "bool"},
    "run_id": {"type": "str"},
    "region": {"type": "str"},
    "profile": {"type": "str"},
    "resource": {
        "type": "dict",
        "options": {
            "kind": {"type": "str", "choices": ["instance", "volume", "security-group"], "required": True},
            "id": {"type": "str", "required": True},
        },
    },
    "volume": {
        "type": "dict",
        "options": {
            "volume_id": {"type": "str", "required": True},
            "given": {"type": "bool", "required": True},
        },
    },
    "committing": {"type": "dict"},
    "complete": {"type": "str"},
    "committed": {"type": "str"},
    "recovered": {"type": "bool"},
    "result": {"type": "dict"},
}

_WITH_SETTLED = ("run_id", "region", "profile")

# Rules between options, as keyword arguments of Ansible's argument spec validator.
RULES: dict[str, Any] = {
    "required_one_of": [[name for name in SPEC if name not in _WITH_SETTLED]],
    "required_if": [("settled", False, ("run_id",))],
    "required_by": dict.fromkeys(_WITH_SETTLED, ("settled",)),
}


def given(validated: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a validated milestone that were given, without the ``None`` of those that were not."""
    said = {}
    for name, option in SPEC.items():
        value, inner = validated.get(name), option.get("options")
        if value is None:
            continue
        said[name] = {key: value[key] for key in inner if value.get(key) is not None} if inner else value
    return said


def describe(said: Mapping[str, Any]) -> list[str]:
    """Return a milestone as lines for people, each printable.

    :param said: the options that were given, as ``given`` returns them.
    """
    lines = []
    if "phase" in said:
        lines.append(said["phase"])
    if "total" in said:
        lines.append(f"the archive has {said['total']} bytes")
    if "moved" in said:
        taken = said["moved"].get("taken")
        lines.append(
            (f"{taken} bytes of the archive, " if taken is not None else "") + f"{said['moved']['sent']} bytes over SSH"
        )
    lines += [f"warning: {text}" for text in said.get("warning", [])]
    lines += [f"note: {text}" for text in said.get("notice", [])]
    if said.get("settled") is False:
        lines.append(f"from now on run {said['run_id']} may have something in the account")
    if "resource" in said:
        lines.append(f"made the {said['resource']['kind'].replace('-', ' ')} {said['resource']['id']}")
    if "volume" in said:
        lines.append(
            f"writing to {'the given ' if said['volume']['given'] else ''}volume {said['volume']['volume_id']}"
        )
    if "committing" in said:
        lines.append("all data is on the volume: the backup can be committed")
    if "complete" in said:
        lines.append(f"volume {said['complete']} is tagged complete")
    if "committed" in said:
        lines.append(f"volume {said['committed']} is detached: the backup is committed")
    if said.get("recovered"):
        lines.append("the failure before this was expected and has been handled")
    if said.get("settled"):
        lines.append("nothing that the run made for itself is left in the account")
    if "result" in said:
        lines.append(f"the play returns {', '.join(said['result'])}")
    # Names of files and tags may hold anything, terminal control sequences too.
    return [printable(" ".join(line.splitlines())) for line in lines]
