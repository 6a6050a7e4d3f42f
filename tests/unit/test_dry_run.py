"""The dry run: how its plan is printed, and what its modules ask EC2."""

import json

import pytest
from botocore.exceptions import ClientError

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account import launch
from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.estimate import backup_plan
from ansible_collections.ec2_backup.ebs.plugins.modules import permission_check, security_group
from ec2_backup import cli
from ec2_backup.commands import backup
from ec2_backup.run.outcome import Outcome
from ec2_backup.run.supervise import Supervised
from ec2_backup.show.dry_run import asked_for, lines
from tests.unit.test_estimate import CHOSEN, FACTS, facts

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
        "not known     ec2:CreateTags: EC2 says so only when the resource exists",
    ]


def test_a_price_that_is_not_known_or_is_of_another_region_is_marked():
    chosen = {"instance_type": "m7i.large", "subnet_id": "subnet-a", "zone": "eu-west-1a"}
    elsewhere = facts(permissions={"candidate": chosen, "region": "eu-west-1"}, instance={"candidates": [chosen]})
    shown = "\n".join(lines(backup_plan(elsewhere)))
    assert "not known: there is no price of m7i.large here; public IPv4 address 0.0050 USD an hour" in shown
    assert "list prices of us-east-1, 2026; those of eu-west-1 differ" in shown


def test_a_refusal_that_may_be_right_is_marked():
    unsure = [{"permission": "ec2:TerminateInstances", "code": "UnauthorizedOperation"}]
    shown = lines({**PLAN, "unsure": unsure})[-1]
    assert shown.startswith("refused       ec2:TerminateInstances: for placeholder IDs")


def test_nothing_in_a_name_reaches_the_terminal_as_a_command():
    assert lines({**PLAN, "source": {"host": "web1", "path": "/srv/\x1b[2J"}})[0] == "source        web1:/srv/?[2J"


@pytest.mark.parametrize(("value", "asked"), [(True, True), ("true", True), ("no", False), (False, False), ("", False)])
def test_the_variable_asks_for_a_dry_run_as_the_option_does(value, asked):
    assert asked_for({"ec2_backup_dry_run": value}) is asked


@pytest.fixture
def rehearsed(monkeypatch):
    """Replace the playbook by one that ended as the test says; a real run fails the test."""
    ended = {"outcome": Outcome(rc=0, results={"ec2_backup_plans": {"localhost": PLAN}})}
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


# ---- what EC2 is asked

LAUNCH = {
    "candidates": [CHOSEN, {**CHOSEN, "zone": "us-east-1b", "subnet_id": "subnet-b"}],
    "image_id": "ami-1",
    "key_name": None,
    "security_group_ids": [],
    "public_ip": True,
    "volume": {
        "device_name": "/dev/sdf",
        "ebs": {"volume_size": 3, "volume_type": "gp3", "encrypted": True, "delete_on_termination": True},
    },
    "tags": {"ec2-backup:run-id": "r1"},
}


def test_a_launch_is_checked_as_a_whole():
    account = Account()
    assert permission_check.check_launch(account, LAUNCH) == CHOSEN
    ((method, wanted),) = account.calls
    assert method == "run_instances"
    assert wanted["BlockDeviceMappings"] == [
        {
            "DeviceName": "/dev/sdf",
            "Ebs": {"VolumeSize": 3, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True},
        }
    ]
    assert (wanted["MaxCount"], wanted["InstanceInitiatedShutdownBehavior"]) == (1, "terminate")
    assert {one["ResourceType"] for one in wanted["TagSpecifications"]} == {"instance", "volume"}


def test_what_is_not_asked_for_is_not_in_the_launch():
    wanted = launch.request({**LAUNCH, "public_ip": False, "volume": None}, CHOSEN)
    assert "BlockDeviceMappings" not in wanted
    assert wanted["NetworkInterfaces"] == [{"DeviceIndex": 0, "SubnetId": "subnet-a", "DeleteOnTermination": True}]
    wanted = launch.request({**LAUNCH, "key_name": "mine", "security_group_ids": ["sg-1"]}, CHOSEN)
    assert (wanted["KeyName"], wanted["NetworkInterfaces"][0]["Groups"]) == ("mine", ["sg-1"])


def test_a_zone_without_the_type_is_passed_over():
    account = Account(run_instances=["Unsupported", "DryRunOperation"])
    assert permission_check.check_launch(account, LAUNCH)["zone"] == "us-east-1b"


def test_that_no_zone_has_the_type_is_told_with_what_to_do():
    with pytest.raises(permission_check.NoRoom, match=r"does not offer t3\.small in us-east-1a \(Unsupported\), t3"):
        permission_check.check_launch(Account(run_instances="Unsupported"), LAUNCH)
    full = [{**CHOSEN, "code": "Unsupported"}, {**CHOSEN, "code": "InsufficientInstanceCapacity"}]
    assert launch.no_room(full).endswith("Try later, or name other types in ec2_backup_instance_type_alternatives.")


def test_a_launch_that_is_not_permitted_fails():
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        permission_check.check_launch(Account(run_instances="UnauthorizedOperation"), LAUNCH)


def test_a_group_of_the_runs_own_is_checked():
    account = Account()
    permission_check.check_group(
        account, {"name": "g", "description": "d", "vpc_id": "vpc-1", "tags": {"ec2-backup:run-id": "r1"}}
    )
    assert [method for method, _ in account.calls] == ["create_security_group"]


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
    assert security_group.present_checked(account, params) == (False, "sg-1")
    assert account.calls == []


ASKED = {
    "volume_id": "vol-1",
    "device": "/dev/sdf",
    "tags": {"ec2-backup:status": "writing"},
    "tags_taken": ["ec2-backup:run-id"],
    "launch": LAUNCH,
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
    permission_check.ask(account, {**ASKED, "volume_id": None, "launch": {"security_group_ids": ["sg-1"]}})
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
