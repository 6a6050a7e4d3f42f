"""The command line, without running a playbook."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.ec2_backup.ebs.plugins.module_utils.runs import new_run_id
from ec2_backup import cli
from ec2_backup.arguments import settings
from ec2_backup.commands import backup
from ec2_backup.run import playbook, supervise
from ec2_backup.run.outcome import Outcome
from ec2_backup.run.supervise import Supervised

CHECKOUT = Path(__file__).parents[2]
RUN = "20261122t184500z-1f2e3d4c"
VOLUME = "vol-0123456789abcdef0"


@pytest.fixture
def ran(monkeypatch):
    """Replace the supervised run by one that ended as the test says; return what it was asked for."""
    asked = {"run": Supervised(Outcome(rc=1), None, [])}

    def supervised(name, variables, run_id, observer):
        asked.update(variables=variables, run_id=run_id)
        return asked["run"]

    monkeypatch.setattr(backup, "supervise", supervised)
    monkeypatch.delenv("EC2_BACKUP_FLAGS_AWS", raising=False)
    monkeypatch.delenv("EC2_BACKUP_FLAGS_SSH", raising=False)
    return asked


def done(caught=None, left=(), **result):
    """A backup that worked."""
    results = {"ec2_backup_results": {"localhost": {"volume_id": "vol-1", "warnings": [], **result}}}
    return Supervised(Outcome(rc=0, results=results), caught, list(left))


def test_a_backup_prints_the_volume_and_nothing_else(ran, capsys):
    ran["run"] = done()
    assert cli.main(["/srv"]) == 0
    assert capsys.readouterr() == ("vol-1\n", "")


def test_a_name_that_ansible_does_not_accept_is_refused(ran, capsys):
    assert cli.main([os.fsdecode(b"/srv/caf\xe9")]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "not UTF-8" in told.err
    assert "0xe9" in told.err
    assert "variables" not in ran


def test_a_source_that_changed_is_told_and_gives_status_3(ran, capsys):
    ran["run"] = done(warnings=["./log: file changed as we read it"])
    assert cli.main(["/srv"]) == 3
    assert capsys.readouterr() == ("vol-1\n", "ec2-backup: warning: ./log: file changed as we read it\n")


def test_a_failure_that_left_nothing_gives_status_1_and_its_cause(ran, capsys):
    ran["run"] = Supervised(Outcome(rc=2, failures=["Volume vol-1 is too small.", "later"]), None, [])
    assert cli.main(["/srv"]) == 1
    assert capsys.readouterr() == ("", "ec2-backup: error: Volume vol-1 is too small.\n")


@pytest.mark.parametrize(
    ("left", "words"),
    [(["i-1", "sg-2"], "i-1, sg-2"), (None, f"what is tagged ec2-backup:run-id={RUN}")],
)
def test_a_failure_that_left_something_gives_status_4_and_the_command_that_removes_it(
    ran, capsys, monkeypatch, left, words
):
    monkeypatch.setattr(backup, "new_run_id", lambda: RUN)
    failures = ["the cause", "cleaning up: no answer"]
    ran["run"] = Supervised(Outcome(rc=2, failures=failures, region="eu-west-1"), None, left)
    assert cli.main(["/srv"]) == 4
    command = f"ec2-backup cleanup --run-id {RUN} --region eu-west-1"
    assert capsys.readouterr() == (
        "",
        (
            "ec2-backup: error: the cause\n"
            f"ec2-backup: error: may be left behind: {words}; remove it with: {command}\n"
            "ec2-backup: error: cleaning up: no answer\n"
        ),
    )


@pytest.mark.parametrize(
    "command",
    [["/srv"], ["--dry-run", "/srv"], ["restore", VOLUME, "/x"], ["verify", VOLUME], ["list"], ["cleanup"]],
)
def test_a_playbook_that_ends_without_a_result_is_a_failure(monkeypatch, capsys, command):
    class Silent:
        def __init__(self, name, variables, run_id):
            self.outcome = Outcome()

        def run(self, observer):
            self.outcome.rc = 0
            return self.outcome

    monkeypatch.setattr(supervise, "Playbook", Silent)
    assert cli.main(command) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("ec2-backup: error: the playbook came to its end without returning a result\n")


def test_a_signal_gives_its_status(ran, capsys):
    ran["run"] = Supervised(Outcome(rc=254), signal.SIGTERM, [])
    assert cli.main(["/srv"]) == 128 + 15
    assert capsys.readouterr() == ("", "ec2-backup: error: ended by SIGTERM\n")


def test_after_a_signal_that_came_after_the_commit_the_volume_is_printed(ran, capsys):
    ran["run"] = done(caught=signal.SIGINT)
    assert cli.main(["/srv"]) == 128 + 2
    assert capsys.readouterr().out == "vol-1\n"


def test_a_full_standard_output_is_an_error_that_names_the_volume(ran, capsys, monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    ran["run"] = done()
    monkeypatch.setattr(sys, "stdout", Full())
    assert cli.main(["/srv"]) == 1
    assert "vol-1 could not be written to standard output: No space left" in capsys.readouterr().err


def test_arguments_become_role_variables(ran):
    ran["run"] = done()
    tags = ["-e", 'ec2_backup_tags={"team": "ops"}']
    cli.main(["backup", "-v", VOLUME, "-l", "zstd", "-r", "cat", "--force", "-e", "ec2_backup_name=a=b", *tags, "dir"])
    run_id = ran["variables"].pop("ec2_backup_run_id")
    assert run_id == ran["run_id"]
    assert ran["variables"] == {
        "ec2_backup_source": os.path.abspath("dir"),
        "ec2_backup_volume_id": VOLUME,
        "ec2_backup_local_filter": "zstd",
        "ec2_backup_remote_filter": "cat",
        "ec2_backup_force": True,
        "ec2_backup_name": "a=b",
        "ec2_backup_tags": {"team": "ops"},
    }


def test_a_directory_that_has_a_commands_name_is_given_with_its_path(ran):
    ran["run"] = done()
    cli.main(["./backup"])
    assert ran["variables"]["ec2_backup_source"] == os.path.abspath("backup")


def test_run_ids_sort_by_time_and_differ():
    first, second = new_run_id(), new_run_id()
    assert first != second
    assert first[:8].isdigit()
    assert len(first) == len("20261122t184500z-1f2e3d4c")


def test_no_value_is_a_template_for_ansible(tmp_path):
    values = {"text": "{{ 1 + 1 }}", "list": ["{{ 2 }}"], "mapping": {"key": "{% if %}"}, "number": 1, "flag": True}
    written = tmp_path / "extravars"
    written.write_text(json.dumps(playbook.literal(values)))  # as runner does
    loaded = DataLoader().load_from_file(str(written), trusted_as_template=True)
    assert Templar(None, variables=loaded).template(loaded) == values


# Ctrl-C comes when the module of that name is imported.
INTERRUPTED = """
import runpy, sys
class Finder:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
sys.argv = ["ec2-backup", "/srv"]
runpy.run_{how}
"""


RUNNER, MODULE = (f"{how}, run_name='__main__')" for how in ("path('ec2_backup_runner.py'", "module('ec2_backup'"))


@pytest.mark.parametrize(
    ("how", "module"),
    [
        (RUNNER, "ec2_backup"),
        (RUNNER, "ec2_backup.cli"),
        (RUNNER, "ec2_backup.commands.backup"),
        (MODULE, "ec2_backup.commands.backup"),
    ],
)
def test_ctrl_c_before_anything_has_begun_is_told_without_a_traceback(how, module):
    code = INTERRUPTED.format(module=module, how=how)
    run = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "ec2-backup: error: ended by SIGINT\n")


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_while_the_command_line_is_read_is_told_without_a_traceback(monkeypatch, capsys, as_json):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(settings, "role_variables", interrupted)
    assert cli.main([*(["--json"] if as_json else []), "/srv"]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    if as_json:
        told = json.loads(err)
        assert (told["message"], told["signal"], told["status"]) == ("ended by SIGINT", "SIGINT", 130)
    else:
        assert err == "ec2-backup: error: ended by SIGINT\n"
