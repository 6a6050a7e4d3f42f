"""What the wrapper makes of the events of a run: it reads milestones and failures, not how a role is built."""

from __future__ import annotations

import ast
import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.ec2_backup.ebs.plugins.module_utils import milestones
from ec2_backup.run.outcome import Outcome, record
from ec2_backup.show import progress
from tests.unit.events import RECORDED, began, failed, said
from tests.unit.record_events import Stable, condense

ROOT = Path(__file__).parents[2]
VOLUME = "vol-0123456789abcdef0"


def heard(*events: dict[str, Any], **known: Any) -> Outcome:
    """The outcome after these events."""
    outcome = Outcome(**known)
    for event in events:
        record(outcome, event)
    return outcome


def test_the_first_failure_is_the_cause():
    outcome = heard(
        failed("ignored", ignore_errors=True),
        failed("the\n  cause"),
        {"event": "runner_on_unreachable", "event_data": {"host": "web1", "res": {"msg": "no route"}}},
    )
    assert outcome.failures == ["the cause", "Host web1 is unreachable: no route"]


def test_of_a_loop_the_item_that_failed_is_the_cause():
    results = [{"msg": "fine"}, {"msg": "too bad", "failed": True}]
    event = {"event": "runner_on_failed", "event_data": {"res": {"results": results, "msg": "one item failed"}}}
    assert heard(event).failures == ["too bad"]


def test_what_was_recovered_from_is_not_the_cause_of_a_later_failure():
    assert heard(failed("no room"), said(recovered=True)).failures == []
    assert heard(failed("no room"), said(recovered=True), failed("the cause")).failures == ["the cause"]


def test_something_may_be_in_the_account_until_the_play_reports_that_nothing_is():
    outcome = heard()
    seen = [outcome.settled]
    for settled in (False, True, False):  # as with several volumes that are verified
        record(outcome, said(settled=settled, run_id="r"))
        record(outcome, said(phase="launching"))
        seen.append(outcome.settled)
    assert seen == [True, False, True, False]


def test_where_it_is_is_what_the_play_reports_or_else_what_was_asked_for():
    outcome = heard(said(settled=False, run_id="r", region="eu-west-1", profile="backup"))
    assert (outcome.region, outcome.profile) == ("eu-west-1", "backup")
    outcome = heard(said(settled=False, run_id="r", region="", profile=""), region="eu-west-2", profile="mine")
    assert (outcome.region, outcome.profile) == ("eu-west-2", "mine")


def test_the_ids_of_what_was_made_are_remembered_but_not_a_given_volume():
    made = [
        said(resource={"kind": "security-group", "id": "sg-1"}),
        said(resource={"kind": "instance", "id": "i-1"}),
    ]
    given = heard(*made, said(volume={"volume_id": VOLUME, "given": True}))
    assert (list(given.made), given.volume_id, given.given) == (["sg-1", "i-1"], VOLUME, True)
    new = heard(*made, said(volume={"volume_id": VOLUME, "given": False}))
    assert (list(new.made), new.volume_id, new.given) == (["sg-1", "i-1", VOLUME], VOLUME, False)


def test_a_commit_is_followed_step_by_step():
    outcome = heard(said(phase="streaming"))
    assert not outcome.committing
    record(outcome, said(phase="committing", committing={"volume_id": VOLUME, "warnings": []}))
    assert outcome.committing
    assert (outcome.complete, outcome.committed) == (None, None)
    record(outcome, said(complete=VOLUME))
    assert (outcome.complete, outcome.committed) == (VOLUME, None)
    record(outcome, said(committed=VOLUME))
    assert (outcome.complete, outcome.committed) == (VOLUME, VOLUME)
    assert outcome.prepared == {"volume_id": VOLUME, "warnings": []}


def test_warnings_and_results_are_kept_and_notices_are_not():
    outcome = heard(
        said(warning=["one"], notice=["no matter"]),
        said(warning=["two"]),
        said(result={"ec2_backup_catalog": []}),
        said(result={"ec2_backup_plans": {"localhost": {}}}),
    )
    assert outcome.warnings == ["one", "two"]
    assert outcome.results == {"ec2_backup_catalog": [], "ec2_backup_plans": {"localhost": {}}}


def test_a_milestone_of_an_item_of_a_loop_is_read_once():
    event = said(warning=["one"])
    whole = {"event": "runner_on_ok", "event_data": {"task_action": milestones.ACTION, "res": {"results": [{}]}}}
    assert heard({**event, "event": "runner_item_on_ok"}, whole).warnings == ["one"]


def test_another_task_that_returns_something_named_alike_is_no_milestone():
    event = said(settled=False, run_id="r")
    event["event_data"]["task_action"] = "ansible.builtin.debug"
    assert heard(event) == Outcome()


# ---- recorded runs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_run_ends_settled_with_its_result(name):
    outcome = heard(*RECORDED[name])
    assert outcome.settled
    assert outcome.failures == []
    (returned,) = outcome.results
    assert (
        returned
        == {
            "plan": "ec2_backup_plans",
            "backup": "ec2_backup_results",
            "given": "ec2_backup_results",
            "restore": "ec2_backup_restored",
            "files": "ec2_backup_restored",
            "verify": "ec2_backup_verified",
            "list": "ec2_backup_catalog",
            "cleanup": "ec2_backup_cleanup",
        }[name]
    )


@pytest.mark.parametrize("name", ["backup", "given"])
def test_a_recorded_backup_returns_what_it_had_prepared_for_its_commit(name):
    outcome = heard(*RECORDED[name])
    result = outcome.results["ec2_backup_results"]["localhost"]
    assert result == outcome.prepared
    assert {result["volume_id"]} == {outcome.volume_id, outcome.complete, outcome.committed}
    assert outcome.given == (name == "given")


@pytest.mark.parametrize("name", RECORDED)
def test_before_a_recorded_run_makes_something_it_reports_that_something_may_be_left(name):
    outcome = Outcome()
    for event in RECORDED[name]:
        nothing = not outcome.made
        record(outcome, event)
        assert not (nothing and outcome.made and outcome.settled)
        assert not (outcome.settled and outcome.phase in ("waiting for SSH", *milestones.MOVING, "committing"))


def reported(name: str) -> set[str]:
    """The options of all milestones of a recorded run."""
    events = [event["event_data"] for event in RECORDED[name]]
    return {option for data in events for option in data.get("res", {}).get(milestones.KEY, {})}


def test_recorded_runs_have_every_milestone_that_a_run_without_trouble_has():
    everything = set().union(*map(reported, RECORDED))
    assert set(milestones.SPEC) - everything == {"recovered", "warning"} - everything


def renamed(event: dict[str, Any]) -> dict[str, Any]:
    """The event as it would be if all tasks had other titles, and no module had its name."""
    other = copy.deepcopy(event)
    data = other["event_data"]
    if "task" in data:
        data["task"] = "Another title"
    if data.get("task_action") != milestones.ACTION:
        data["task_action"] = "another.collection.module"
    return other


@pytest.mark.parametrize("name", RECORDED)
def test_other_titles_of_tasks_and_other_modules_change_nothing(name):
    states = [progress.after_begin(progress.start(0.0), "backup", 0.0)] * 2
    outcomes = [Outcome(), Outcome()]
    for event in RECORDED[name]:
        for number, each in enumerate((event, renamed(event))):
            record(outcomes[number], each)
            states[number] = progress.after_event(states[number], each, event["at"])
        assert outcomes[0] == outcomes[1]
        assert states[0] == states[1]


# ---- the sources ----------------------------------------------------------------------------------------------------

SOURCES = sorted((ROOT / "ec2_backup").rglob("*.py"))
MODULES = {path.stem for path in (ROOT / "plugins/modules").glob("*.py")} - {"milestone"}


def tasks(node: Any) -> list[str]:
    """The titles of all tasks in the YAML of a task file."""
    if isinstance(node, list):
        return [title for item in node for title in tasks(item)]
    if not isinstance(node, dict):
        return []
    own = [node["name"]] if isinstance(node.get("name"), str) else []
    return own + [title for key in ("block", "rescue", "always") for title in tasks(node.get(key))]


TITLES = {
    title
    for path in (ROOT / "roles").glob("*/tasks/*.yml")
    for title in tasks(yaml.safe_load(path.read_text(encoding="utf-8")))
}


def strings(path: Path) -> list[str]:
    """The string literals of a source file, without its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = {
        id(statement.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        for statement in node.body
        if isinstance(statement, ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented
    ]


def test_there_is_something_to_look_for():
    assert len(MODULES) > 5
    assert len(TITLES) > 50


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_wrapper_names_no_module_no_task_and_no_private_variable_of_the_roles(path):
    text = path.read_text(encoding="utf-8")
    assert "__ec2_backup_" not in text
    assert "module_args" not in text
    assert "artifact_data" not in text
    assert re.findall(r"ec2_backup\.ebs\.(?!plugins\b)\w+", text) == []
    assert MODULES & set(re.findall(r"\w+", text)) == set()
    literals = strings(path)
    assert TITLES & set(literals) == set()
    assert [literal for literal in literals if literal.startswith("Warning: ")] == []


# ---- the recorder ---------------------------------------------------------------------------------------------------


def test_a_recording_keeps_what_the_wrapper_reads_and_nothing_else():
    stable = Stable({"myhost": "web1"})
    milestone = said(committing={"volume_id": VOLUME, "source": {"host": "myhost", "path": "/srv/myhost-data"}})
    milestone["event_data"]["res"]["changed"] = False
    start = began("Stream to myhost", "ec2_backup.ebs.some_module")
    start["event_data"] |= {"task_path": "/here", "play": "Backup"}
    other = {"event": "runner_on_ok", "event_data": {"task_action": "ansible.builtin.debug", "res": {"msg": "x"}}}
    trouble = failed("no such instance i-0aaaaaaaaaaaaaaa1", task="Terminate", host="localhost")
    trouble["event_data"]["res"]["invocation"] = {}
    events = [{"event": "playbook_on_start", "event_data": {}}, start, other, milestone, trouble]
    committing = {"volume_id": f"vol-{1:017x}", "source": {"host": "web1", "path": "/srv/myhost-data"}}
    assert list(condense(events, stable)) == [
        {"at": 0.0, **began("Stream to web1", "ec2_backup.ebs.some_module")},
        {
            "at": 2.0,
            "event": "runner_on_ok",
            "event_data": {"task_action": milestones.ACTION, "res": {milestones.KEY: {"committing": committing}}},
        },
        {"at": 2.05, **failed(f"no such instance i-{1:017x}", host="localhost", task="Terminate")},
    ]


def test_the_same_value_is_always_replaced_by_the_same_one():
    stable = Stable({})
    first = stable(["vol-0bbbbbbbbbbbbbbb2 at 2026-12-01T10:00:00Z", "20261201t100000z-0a0b0c0d", "10.0.0.1"])
    assert first == [f"vol-{1:017x} at 2026-11-22T18:45:00Z", f"20261122t184500z-{1:08x}", "203.0.113.7"]
    assert stable({"vol-0bbbbbbbbbbbbbbb2": {"seconds": 0.3}}) == {f"vol-{1:017x}": {"seconds": 1.0}}
    assert stable("vol-0ccccccccccccccc3") == f"vol-{2:017x}"
    assert stable(stable("a" * 64)) == f"{2:064x}"  # what is replaced is volatile itself
