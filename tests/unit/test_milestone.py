"""The action that reports milestones: its schema, its lines, its result, and what it does without a host."""

import copy
import os
import sys
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.ec2_backup.ebs.plugins.module_utils import milestones
from ansible_collections.ec2_backup.ebs.plugins.module_utils.milestones import PHASES, RULES, SPEC, describe, given

ROOT = Path(__file__).parents[2]


def validate(**options):
    """The milestone of these options, and the messages of what is wrong with them."""
    result = ArgumentSpecValidator(SPEC, **RULES).validate(copy.deepcopy(options))
    return given(result.validated_parameters), result.error_messages


@pytest.mark.parametrize(
    "said",
    [
        *({"phase": phase} for phase in PHASES),
        {"total": 10240},
        {"moved": {"taken": 10240, "sent": 512}},
        {"moved": {"sent": 512}},
        {"warning": ["one", "two"], "notice": ["three"]},
        {"settled": False, "run_id": "r-1", "region": "", "profile": ""},
        {"settled": True, "run_id": "r-1"},
        {"settled": True},
        {"resource": {"kind": "security-group", "id": "sg-1"}},
        {"volume": {"volume_id": "vol-1", "given": True}},
        {"committing": {"volume_id": "vol-1"}, "phase": "committing"},
        {"complete": "vol-1"},
        {"committed": "vol-1"},
        {"recovered": True},
        {"result": {"ec2_backup_plans": {"web1": {"bytes": 1}}}},
    ],
    ids=str,
)
def test_a_milestone_holds_the_options_that_were_given_and_no_other(said):
    assert validate(**said) == (said, [])


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "one of the following is required"),
        ({"run_id": "r-1"}, "one of the following is required"),
        ({"phase": "dreaming"}, "value of phase must be one of"),
        ({"moved": {"taken": 1}}, "missing required arguments: sent"),
        ({"settled": False}, "settled is False but all of the following are missing: run_id"),
        ({"phase": "launching", "region": "eu-central-1"}, "missing parameter(s) required by 'region': settled"),
        ({"resource": {"kind": "bucket", "id": "b"}}, "value of kind must be one of"),
        ({"volume": {"volume_id": "vol-1"}}, "missing required arguments: given"),
        ({"total": "many"}, "unable to convert to int"),
        ({"volume_id": "vol-1", "phase": "starting"}, "volume_id. Supported parameters include"),
    ],
    ids=str,
)
def test_what_is_no_milestone_is_refused(said, message):
    assert message in "; ".join(validate(**said)[1])


def test_numbers_that_come_as_text_are_numbers():
    assert validate(total="10240", moved={"taken": "1", "sent": "2"})[0] == {
        "total": 10240,
        "moved": {"taken": 1, "sent": 2},
    }


def test_each_milestone_is_described_in_a_line():
    said = {
        "phase": "launching",
        "total": 10240,
        "moved": {"taken": 10240, "sent": 512},
        "warning": ["a\nb", "\x1b[31mred"],
        "notice": ["c   d"],
        "settled": False,
        "run_id": "r-1",
        "resource": {"kind": "security-group", "id": "sg-1"},
        "volume": {"volume_id": "vol-1", "given": True},
        "committing": {},
        "complete": "vol-1",
        "committed": "vol-1",
        "recovered": True,
        "result": {"ec2_backup_results": {}},
    }
    assert describe(said) == [
        "launching",
        "the archive has 10240 bytes",
        "10240 bytes of the archive, 512 bytes over SSH",
        "warning: a b",
        "warning: ?[31mred",
        "note: c   d",
        "from now on run r-1 may have something in the account",
        "made the security group sg-1",
        "writing to the given volume vol-1",
        "all data is on the volume: the backup can be committed",
        "volume vol-1 is tagged complete",
        "volume vol-1 is detached: the backup is committed",
        "the failure before this was expected and has been handled",
        "the play returns ec2_backup_results",
    ]
    assert describe({"settled": True}) == ["nothing that the run made for itself is left in the account"]


def test_the_documentation_has_the_options_of_the_schema():
    text = (ROOT / "plugins/modules/milestone.py").read_text()
    documented = yaml.safe_load(text.split('DOCUMENTATION = r"""')[1].split('"""')[0])["options"]

    def spec(options, inner):
        kept = ("type", "choices", "elements", "required")
        return {
            name: {key: option[key] for key in kept if key in option}
            | ({"options": spec(option[inner], inner)} if inner in option else {})
            for name, option in options.items()
        }

    assert spec(documented, "suboptions") == spec(SPEC, "options")


PLAY = """
- hosts: web1
  gather_facts: false
  tasks:
    - name: Say something
      ec2_backup.ebs.milestone:
        phase: launching
        warning: ["{{ inventory_hostname }} is {{ 'checked' if ansible_check_mode else 'changed' }}"]
    - name: Say something of another host
      ec2_backup.ebs.milestone:
        result: {ec2_backup_results: {web1: {volume_id: vol-1, bytes: "{{ 1 + 1 }}"}}}
      delegate_to: db1
    - name: Say what cannot be said
      ec2_backup.ebs.milestone:
        phase: dreaming
      ignore_errors: true
"""


@pytest.fixture(scope="module")
def run_play(tmp_path_factory):
    """Run the play above with ansible-runner against hosts that do not exist; return its events and its output."""
    import ansible_runner

    def run(cmdline):
        private = tmp_path_factory.mktemp("private")
        (private / "play.yml").write_text(PLAY)
        (private / "ansible.cfg").touch()
        runner = ansible_runner.run(
            private_data_dir=str(private),
            playbook=str(private / "play.yml"),
            inventory="\n".join(f"{host} ansible_host=host.invalid" for host in ("web1", "db1")),
            envvars={
                "ANSIBLE_CONFIG": str(private / "ansible.cfg"),  # an empty one, and not the checkout's
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".venv/collections"),
                "ANSIBLE_NOCOLOR": "1",
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            cmdline=cmdline,
            quiet=True,
        )
        assert runner.rc == 0, runner.stdout.read()
        return list(runner.events), runner.stdout.read()

    return run


@pytest.mark.parametrize("cmdline", [None, "--check"])
def test_it_runs_without_touching_the_host_and_is_seen_in_the_events(run_play, cmdline):
    events, output = run_play(cmdline)
    mine = [event["event_data"] for event in events if event["event"] == "runner_on_ok"]
    assert [data["task_action"] for data in mine] == [milestones.ACTION] * 2
    assert [data["res"][milestones.KEY] for data in mine] == [
        {"phase": "launching", "warning": [f"web1 is {'checked' if cmdline else 'changed'}"]},
        {"result": {"ec2_backup_results": {"web1": {"volume_id": "vol-1", "bytes": 2}}}},
    ]
    assert not any(data["res"]["changed"] for data in mine)
    (stats,) = [event["event_data"] for event in events if event["event"] == "playbook_on_stats"]
    assert stats["artifact_data"] == {"ec2_backup_results": {"web1": {"volume_id": "vol-1", "bytes": 2}}}
    (failed,) = [event["event_data"] for event in events if event["event"] == "runner_on_failed"]
    assert "value of phase must be one of" in failed["res"]["msg"]
    lines = [line for line in output.splitlines() if line.startswith("ec2-backup: ")]
    assert lines == [
        "ec2-backup: [web1] launching",
        f"ec2-backup: [web1] warning: web1 is {'checked' if cmdline else 'changed'}",
        "ec2-backup: [web1] the play returns ec2_backup_results",
    ]
