"""docs/milestones.md is the contract for other programs: it is held to the schema."""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils.milestones import ACTION, KEY, MOVING, PHASES, SPEC
from tests.unit.events import RECORDED, said

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "milestones.md").read_text()
NAMES = {
    "str": "string",
    "int": "integer",
    "bool": "boolean",
    "dict": "object",
    "list": "list of strings",
}


def section(title: str) -> str:
    """The text below a heading."""
    return re.split(r"^## ", TEXT.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def table(title: str) -> dict[str, tuple[str, ...]]:
    """The rows of the first table in a section, by each of the names in their first cell."""
    text = section(title)
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    found = {}
    for line in lines:
        first, *others = [cell.strip() for cell in line.strip("|").split(" | ")]
        found.update({name: tuple(others) for name in re.findall(r"`(\w+)`", first)})
    return found


def test_the_table_has_every_key_with_its_type():
    assert {name: kind for name, (kind, _) in table("The event").items()} == {
        name: NAMES[option["type"]] for name, option in SPEC.items()
    }


def test_the_table_has_what_the_objects_hold():
    meanings = {name: meaning for name, (_, meaning) in table("The event").items()}
    for name, option in SPEC.items():
        for inner, inside in option.get("options", {}).items():
            assert f"`{inner}`" in meanings[name]
            assert [choice for choice in inside.get("choices", []) if f"`{choice}`" not in meanings[name]] == []


def test_the_phases_are_all_there_are_here_and_in_progress_md():
    listed, moving = section("Phases").split("\n\n")[:2]
    assert tuple(phase.replace("\n", " ") for phase in re.findall(r"`([^`]+)`", listed)) == PHASES
    assert tuple(re.findall(r"`([^`]+)`", moving)) == MOVING
    (line,) = [line for line in (DOCS / "progress.md").read_text().splitlines() if line.startswith("| `phase` |")]
    assert set(re.findall(r"`([^`]+)`", line)) == {"phase", *PHASES}


def test_the_results_are_those_that_runs_return():
    returned = {
        name
        for events in RECORDED.values()
        for event in events
        for name in event["event_data"].get("res", {}).get(KEY, {}).get("result", {})
    }
    assert set(table("Results")) == returned


def test_the_event_is_as_a_milestone_has_it():
    (text,) = re.findall(r"```json\n(.*?)```", TEXT, flags=re.DOTALL)
    event = json.loads(text)
    assert event["event_data"]["task_action"] == ACTION
    assert event["event_data"]["res"][KEY] == said(phase="launching")["event_data"]["res"][KEY]


@pytest.mark.parametrize("settled", [True, False])
def test_the_example_cleans_up_after_a_play_that_did_not_settle(monkeypatch, capsys, settled):
    ran: list[dict[str, Any]] = []

    def run(event_handler=None, **arguments):
        ran.append(arguments)
        for event in [
            said(phase="launching", settled=False, run_id="r-1"),
            *([said(settled=True)] if settled else []),
            said(result={"ec2_backup_results": {"web1": {"volume_id": "vol-1"}}}),
        ]:
            event["event_data"]["host"] = "web1"
            if event_handler:
                event_handler(event)

    runner = types.ModuleType("ansible_runner")
    runner.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ansible_runner", runner)
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    scope: dict[str, Any] = {}
    exec(compile(code, "milestones.md", "exec"), scope)
    assert capsys.readouterr().out == "web1 launching\n"
    assert scope["backups"] == {"web1": {"volume_id": "vol-1"}}
    cleaned = [arguments["extravars"] for arguments in ran[1:]]
    assert cleaned == ([] if settled else [{"ec2_backup_cleanup_run_id": "r-1"}])
