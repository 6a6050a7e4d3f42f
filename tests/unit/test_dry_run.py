"""The dry run: how its plan is printed, and what its modules ask EC2."""

import json

import pytest
from botocore.exceptions import ClientError

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.estimate import backup_plan
from ansible_collections.ec2_backup.ebs.plugins.modules import instance_launch, permission_check, security_group
from ec2_backup import cli, progress
from ec2_backup.commands import backup
from ec2_backup.dry_run import asked_for, lines
from ec2_backup.playbook import Outcome
from ec2_backup.supervise import Supervised
from tests.unit.test_estimate import CHOSEN, FACTS

PLAN = backup_plan(FACTS)
RUN_COSTS = (
    "a run costs   0.0258 USD an hour (t3.small 0.0208 + public IPv4 address 0.0050), "
    "billed by the second, for 60 s at least"
)


class Account:
    """An account that answers dry runs only: every call with a code, C(DryRunOperation) unless the test says other."""

    def __init__(self, **codes):
        self.codes, self.calls = codes, []

    def __getattr__(self, method):
        def call(**wanted):
            assert wanted.pop("DryRun"), method
            self.calls.append((method, wanted))
            code = self.codes.get(method, "DryRunOperation")
            if isinstance(code, list):
                code = code.pop(0)
            raise ClientError({"Error": {"Code": code, "Message": ""}}, method)

        return call


# ---- for people and for programs


def test_a_plan_is_a_line_for_each_thing():
    assert lines(PLAN) == [
        "source        web1:/srv",
        "archive       1.0 MiB (1048576 bytes)",
        "volume        new, 3 GiB, gp3, encrypted",
        "name          ec2-backup web1:/srv",
        "where         us-east-1, zone us-east-1a, or if that is full us-east-1b",
        "instance      t3.small, or if there is none t3a.small",
        "image         ami-1",
        "network       subnet-a, public address, a group of its own: tcp/22 from 203.0.113.7/32",
        "volume costs  0.24 USD a month",
        RUN_COSTS,
        "prices        list prices of us-east-1, 2026",
        "allowed       ec2:RunInstances, ec2:CreateSecurityGroup, ec2:TerminateInstances",
        "not known     ec2:CreateTags: EC2 tells only when there is something to permit it for",
    ]


def test_a_price_that_is_not_known_or_is_that_of_another_region_is_told_as_such():
    chosen = {"instance_type": "m7i.large", "subnet_id": "subnet-a", "zone": "eu-west-1a"}
    facts = {**FACTS, "candidates": [chosen], "launch": {"candidate": chosen, "region": "eu-west-1"}}
    shown = "\n".join(lines(backup_plan(facts)))
    assert "not known: there is no price of m7i.large here; public IPv4 address 0.0050 USD an hour" in shown
    assert "list prices of us-east-1, 2026; those of eu-west-1 differ" in shown


def test_a_refusal_that_may_be_right_is_told_as_such():
    unsure = [{"permission": "ec2:TerminateInstances", "code": "UnauthorizedOperation"}]
    shown = lines({**PLAN, "unsure": unsure})[-1]
    assert shown.startswith("refused       ec2:TerminateInstances: for IDs that nobody has")


def test_nothing_in_a_name_reaches_the_terminal_as_a_command():
    assert lines({**PLAN, "source": {"host": "web1", "path": "/srv/\x1b[2J"}})[0] == "source        web1:/srv/?[2J"


@pytest.mark.parametrize(("value", "asked"), [(True, True), ("true", True), ("no", False), (False, False), ("", False)])
def test_the_variable_asks_for_a_dry_run_as_the_option_does(value, asked):
    assert asked_for({"ec2_backup_dry_run": value}) is asked


@pytest.fixture
def rehearsed(monkeypatch):
    """Replace the playbook by one that ended as the test says; a real run fails the test."""
    ended = {"outcome": Outcome(rc=0, stats={"ec2_backup_plans": {"localhost": PLAN}})}
    asked = {}

    def attend(name, run_id, variables, observer):
        asked.update(variables)
        return Supervised(ended["outcome"], None, [])

    monkeypatch.setattr(backup, "attend", attend)
    monkeypatch.setattr(backup, "supervise", None)
    monkeypatch.delenv("EC2_BACKUP_FLAGS_AWS", raising=False)
    monkeypatch.delenv("EC2_BACKUP_FLAGS_SSH", raising=False)
    return asked, ended


@pytest.mark.parametrize("words", [["--dry-run"], ["-e", "ec2_backup_dry_run=true"]])
def test_the_plan_is_the_result(rehearsed, capsys, words):
    assert cli.main([*words, "/srv"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == lines(PLAN)
    assert err == ""
    assert asked_for(rehearsed[0])


def test_programs_get_the_plan_as_one_object(rehearsed, capsys):
    assert cli.main(["--json", "--dry-run", "/srv"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["dry_run"] is True
    assert told["volume"]["size_gib"] == 3
    assert told["cost"]["run_per_hour"] == 0.0258


def test_what_a_dry_run_finds_wrong_has_the_status_of_a_run(rehearsed, capsys):
    rehearsed[1]["outcome"] = Outcome(rc=2, failures=["Volume vol-1 is too small."])
    assert cli.main(["--dry-run", "/srv"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "Volume vol-1 is too small" in err


@pytest.mark.parametrize(("rehearsal", "phase"), [(True, "checking"), (False, "launching")])
def test_the_steps_of_a_launch_are_checks_in_a_dry_run(rehearsal, phase):
    session = {"ansible_facts": {"__ec2_backup_session": {"dry_run": rehearsal}}}
    state = progress.after_begin(progress.start(0), "backup", 0)
    for event, data in (
        ("runner_on_ok", {"task_action": "ansible.builtin.set_fact", "res": session}),
        ("runner_on_ok", {"task_action": "ansible.builtin.set_fact", "res": {"ansible_facts": {"other": 1}}}),
        ("playbook_on_task_start", {"task": "Launch", "task_path": "/x/roles/instance/tasks/launch.yml:6"}),
    ):
        state = progress.after_event(state, {"event": event, "event_data": data}, 1)
    assert state.phase == phase


# ---- what EC2 is asked

LAUNCH = {
    "candidates": [CHOSEN, {**CHOSEN, "zone": "us-east-1b", "subnet_id": "subnet-b"}],
    "image_id": "ami-1",
    "key_name": None,
    "security_group_ids": [],
    "public_ip": True,
    "user_data": "#cloud-config",
    "volume": {"device_name": "/dev/sdf", "size": 3, "volume_type": "gp3"},
    "tags": {"ec2-backup:run-id": "r1"},
}


def test_a_launch_is_rehearsed_with_the_very_call_that_makes_it():
    account = Account()
    assert instance_launch.launch(account, LAUNCH, instance_launch.pretend) == ("", CHOSEN, [])
    ((method, wanted),) = account.calls
    assert method == "run_instances"
    real = instance_launch.request(LAUNCH, CHOSEN)
    assert {**wanted, "ClientToken": ""} == {**real, "ClientToken": ""}
    assert wanted["BlockDeviceMappings"][0]["Ebs"]["Encrypted"]
    assert {one["ResourceType"] for one in wanted["TagSpecifications"]} == {"instance", "volume"}


def test_a_zone_without_the_type_is_passed_over_in_a_rehearsal_too():
    account = Account(run_instances=["Unsupported", "DryRunOperation"])
    instance_id, candidate, passed_over = instance_launch.launch(account, LAUNCH, instance_launch.pretend)
    assert (instance_id, candidate["zone"]) == ("", "us-east-1b")
    assert passed_over == [{**CHOSEN, "code": "Unsupported"}]


def test_a_launch_that_is_not_permitted_fails_its_rehearsal():
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        instance_launch.launch(Account(run_instances="UnauthorizedOperation"), LAUNCH, instance_launch.pretend)


class Groups(Account):
    """An account with this group, or with none."""

    def __init__(self, group_id="", **codes):
        super().__init__(**codes)
        self.group_id = group_id

    def describe_security_groups(self, **wanted):
        return {"SecurityGroups": [{"GroupId": self.group_id}] if self.group_id else []}


def test_a_group_is_rehearsed_and_not_made():
    params = {"name": "g", "vpc_id": "vpc-1", "description": "d", "tags": {}, "timeout": 0}
    account = Groups()
    assert security_group.present_checked(account, params) == (True, "")
    assert [method for method, _ in account.calls] == ["create_security_group"]
    account = Groups("sg-1")
    assert security_group.absent_checked(account, params) == (True, "sg-1")
    assert account.calls == [("delete_security_group", {"GroupId": "sg-1"})]
    assert security_group.absent_checked(Groups(), params) == (False, "")


ASKED = {
    "volume_id": "vol-1",
    "device": "/dev/sdf",
    "tags": {"ec2-backup:status": "writing"},
    "tags_taken": ["ec2-backup:run-id"],
    "own_group": True,
}


def test_all_that_a_run_does_after_its_launch_is_asked():
    account = Account()
    assert permission_check.ask(account, ASKED) == (
        [
            "ec2:AuthorizeSecurityGroupIngress",
            "ec2:AttachVolume",
            "ec2:DeleteTags",
            "ec2:CreateTags",
            "ec2:DetachVolume",
            "ec2:TerminateInstances",
            "ec2:DeleteSecurityGroup",
        ],
        [],
        [],
    )
    assert dict(account.calls)["terminate_instances"] == {"InstanceIds": [permission_check.NO_INSTANCE]}
    account = Account()
    permission_check.ask(account, {**ASKED, "volume_id": None, "own_group": False})
    assert [method for method, _ in account.calls] == ["create_tags", "detach_volume", "terminate_instances"]


def test_a_missing_permission_on_a_given_volume_is_certain_and_any_other_is_not():
    codes = {
        "create_tags": "UnauthorizedOperation",
        "terminate_instances": "UnauthorizedOperation",
        "detach_volume": "InvalidInstanceID.NotFound",
    }
    _, missing, unsure = permission_check.ask(Account(**codes), ASKED)
    assert missing == ["ec2:CreateTags"]
    assert unsure == [
        {"permission": "ec2:DetachVolume", "code": "InvalidInstanceID.NotFound"},
        {"permission": "ec2:TerminateInstances", "code": "UnauthorizedOperation"},
    ]
    _, missing, _ = permission_check.ask(Account(**codes), {**ASKED, "volume_id": None})
    assert missing == []
