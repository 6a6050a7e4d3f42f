"""The roles: one plan, one run, one end; and nothing that the wrapper listens to is left unsaid."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.ec2_backup.ebs.plugins.module_utils import milestones

ROLES = Path(__file__).parents[2] / "roles"
FILES = sorted(ROLES.glob("*/tasks/*.yml"))
BLOCKS = ("block", "rescue", "always")


def tasks(content: Any) -> Iterator[dict[str, Any]]:
    """The tasks of a file, those in blocks too."""
    for task in content or []:
        yield task
        for part in BLOCKS:
            yield from tasks(task.get(part))


def tasks_of(path: Path) -> list[dict[str, Any]]:
    """The tasks of a file, those in blocks too."""
    return list(tasks(yaml.safe_load(path.read_text())))


def sets(task: dict[str, Any]) -> set[str]:
    """The private facts that a task sets."""
    facts = {*task.get("ansible.builtin.set_fact", {}), task.get("register", "")}
    return {name for name in facts if name.startswith("__ec2_backup_")}


def places_that_set(fact: str) -> list[str]:
    """The files that set a fact, but for `session/start`, which clears what an earlier run has left."""
    found = [path for path in FILES if any(fact in sets(task) for task in tasks_of(path))]
    return [str(path.relative_to(ROLES)) for path in found if path != ROLES / "session/tasks/start.yml"]


def test_the_plan_is_made_in_one_place_and_changed_nowhere():
    assert places_that_set("__ec2_backup_plan") == ["session/tasks/plan.yml"]


# Where a fact has two sources, they exclude each other.
TWO_SOURCES = {
    "__ec2_backup_found": {"volume/tasks/find.yml", "volume/tasks/find_snapshot.yml"},
    "__ec2_backup_launched": {"instance/tasks/try.yml", "instance/tasks/elsewhere.yml"},
    "__ec2_backup_unsettled": {"instance/tasks/launch.yml", "session/tasks/end.yml"},
    "__ec2_backup_without_room": {"instance/tasks/elsewhere.yml", "instance/tasks/launch.yml"},
}


@pytest.mark.parametrize("fact", sorted(set().union(*(sets(task) for path in FILES for task in tasks_of(path)))))
def test_a_fact_is_set_in_one_file(fact):
    places = places_that_set(fact)
    assert len(places) <= 1 or set(places) == TWO_SOURCES.get(fact), places


# What goes into the plan. Once that is made, the plan is read and nothing else.
PARTS = re.compile(r"\b__ec2_backup_(session|stream|volume|instance)\b")
PLANNING = {
    "start.yml",
    "run.yml",
    "plan.yml",
    "plan_read.yml",
    "plan_write.yml",
    "decide.yml",
    "adopt.yml",
    "find.yml",
}


@pytest.mark.parametrize("path", [path for path in FILES if path.name not in PLANNING], ids=str)
def test_what_comes_after_the_plan_reads_the_plan_only(path):
    assert PARTS.findall(path.read_text()) == []


def included(path: Path) -> set[str]:
    """The roles of this collection that a file includes by their name."""
    found = [task.get("ansible.builtin.include_role", {}).get("name", "") for task in tasks_of(path)]
    return {name.removeprefix("ec2_backup.ebs.") for name in found if name.startswith("ec2_backup.ebs.")}


def test_roles_do_not_include_each_other_in_circles():
    # The work of a run is a parameter: `session` includes the role that the job names, and knows none by name.
    edges = {role.name: set().union(*map(included, role.glob("tasks/*.yml"))) for role in ROLES.iterdir()}
    order: list[str] = []
    while edges:
        free = sorted(role for role, needs in edges.items() if needs <= set(order))
        assert free, f"roles that include each other: {sorted(edges)}"
        order += free
        for role in free:
            del edges[role]
    assert order.index("session") < order.index("backup")


def test_an_instance_is_launched_and_terminated_in_one_place():
    def uses(module: str, state: str) -> list[str]:
        return [
            str(path.relative_to(ROLES))
            for path in FILES
            for task in tasks_of(path)
            if task.get(module, {}).get("state", "present") == state and module in task
        ]

    assert uses("amazon.aws.ec2_instance", "present") == ["instance/tasks/try.yml"]
    assert uses("amazon.aws.ec2_instance", "absent") == ["instance/tasks/terminate.yml"]
    with_always = [path for path in FILES if any("always" in task for task in tasks_of(path))]
    assert [str(path.relative_to(ROLES)) for path in with_always] == [
        "session/tasks/end.yml",
        "session/tasks/lifecycle.yml",
    ]


def said() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each milestone of the roles: the file, and its options as they are written."""
    for path in FILES:
        for task in tasks_of(path):
            if milestones.ACTION in task:
                yield str(path.relative_to(ROLES)), task[milestones.ACTION]


# What each file says, in this order. A milestone that is not said any more fails the test, and so does a new one.
SAID = {
    "backup/tasks/report.yml": ["result notice"],
    "backup/tasks/report_plan.yml": ["result"],
    "backup/tasks/work.yml": ["volume", "phase committing"],
    "catalog/tasks/main.yml": ["phase", "notice result"],
    "cleanup/tasks/main.yml": ["phase", "notice result"],
    "instance/tasks/elsewhere.yml": ["recovered", "notice"],
    "instance/tasks/group.yml": ["resource"],
    "instance/tasks/launch.yml": ["settled run_id region profile", "resource"],
    "instance/tasks/ready.yml": ["phase"],
    "instance/tasks/running.yml": ["resource"],
    "restore/tasks/report.yml": ["result notice"],
    "restore/tasks/work.yml": ["warning"],
    "session/tasks/end.yml": ["phase", "settled run_id"],
    "session/tasks/open.yml": ["warning"],
    "session/tasks/run.yml": ["phase"],
    "source/tasks/main.yml": ["phase", "total warning notice"],
    "stream/tasks/check.yml": ["phase"],
    "stream/tasks/describe.yml": ["phase", "total"],
    "stream/tasks/receive.yml": ["phase", "moved"],
    "stream/tasks/send.yml": ["phase", "moved"],
    "verify/tasks/each.yml": ["recovered"],
    "verify/tasks/main.yml": ["result notice"],
    "verify/tasks/there.yml": ["moved"],
    "volume/tasks/adopt.yml": ["warning"],
    "volume/tasks/attach.yml": ["phase"],
    "volume/tasks/commit.yml": ["complete", "committed"],
    "volume/tasks/find.yml": ["phase"],
    "volume/tasks/find_snapshot.yml": ["phase"],
    "volume/tasks/release.yml": ["phase"],
}


def test_the_roles_say_what_the_wrapper_listens_to():
    found: dict[str, list[str]] = {}
    for path, milestone in said():
        found.setdefault(path, []).append(" ".join(milestone))
    assert found == SAID
    assert {option for lines in SAID.values() for line in lines for option in line.split()} == set(milestones.SPEC)


def test_the_roles_say_every_phase_that_there_is_but_the_first():
    text = "".join(path.read_text() for path in ROLES.glob("*/*/*.yml"))
    phases = "\n".join(re.findall(r"^ +phase: (.+)$", text, re.MULTILINE))
    unsaid = {phase for phase in milestones.PHASES if not re.search(rf"(^|'|\"){phase}($|'|\")", phases, re.MULTILINE)}
    assert unsaid == {"starting"}


# What must be said before which task, in the same file: the wrapper would not know in time otherwise.
@pytest.mark.parametrize(
    ("path", "before", "option"),
    [
        ("instance/tasks/launch.yml", "ansible.builtin.include_tasks", "settled"),
        ("stream/tasks/send.yml", "ec2_backup.ebs.stream_send", "phase"),
        ("stream/tasks/receive.yml", "ec2_backup.ebs.stream_receive", "phase"),
        ("stream/tasks/check.yml", "ec2_backup.ebs.stream_check", "phase"),
        ("session/tasks/end.yml", "ansible.builtin.include_role", "phase"),
    ],
)
def test_it_is_said_before_the_task_that_it_is_about(path, before, option):
    names = [
        option if option in task.get(milestones.ACTION, {}) else next((key for key in task if key == before), "")
        for task in tasks_of(ROLES / path)
    ]
    assert option in names
    assert names.index(option) < names.index(before)


def test_no_fact_of_a_role_has_the_name_of_another_role_s_variable():
    """A fact outranks a role's variable of the same name, in every role that follows."""
    facts = set().union(*(sets(task) for path in FILES for task in tasks_of(path)))
    variables = {name for path in ROLES.glob("*/vars/main.yml") for name in yaml.safe_load(path.read_text()) or {}}
    assert facts & variables == set()
