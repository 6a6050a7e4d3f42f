# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The benchmark of a backup's cost: what it reads, what it computes, what it prints; no backup is run."""

import json
import os
import subprocess
import sys

import pytest

from tests.bench import control, measured
from tests.bench.checkouts import COLLECTION, GitError, checked_out, copy_environment

REPORT = json.dumps({"status": 0, "wall": 10.5, "cpu": 8.0})
RECORDS = """\
{"module": "amazon.aws.ec2_tag", "cpu": 1.5}
{"stream": 0.5}
{"module": "ansible.builtin.raw", "cpu": 0.25}
{"module": "amazon.aws.ec2_tag", "cpu": 0.5}
"""
CALLS = """\
{"action": "RunInstances", "outcome": "ok"}
{"action": "DescribeInstances", "outcome": "ok"}
{"action": "DescribeInstances", "outcome": "error"}
"""


@pytest.fixture
def run():
    return control.parse(REPORT, RECORDS, CALLS)


def values(rows, title):
    """What the row of this title shows."""
    (row,) = [row for row in rows if row.title == title]
    return row.values


def test_figures_come_from_what_a_run_writes(run):
    assert (run.wall, run.cpu, run.stream) == (10.5, 8.0, 0.5)
    assert run.modules == (("amazon.aws.ec2_tag", 1.5), ("ansible.builtin.raw", 0.25), ("amazon.aws.ec2_tag", 0.5))
    assert dict(run.calls) == {"RunInstances": 1, "DescribeInstances": 2}


def test_the_boot_and_the_stream_are_taken_off_the_wall_time(run):
    assert run.overhead == 10.5 - control.PENDING - control.BOOT - 0.5


def test_a_run_that_wrote_nothing_on_the_way_has_no_modules_no_calls_and_no_stream():
    run = control.parse(REPORT, "", "")
    assert (run.stream, run.modules, dict(run.calls)) == (0, (), {})


def test_module_processes_are_counted_and_their_cpu_time_is_added_up_by_module(run):
    rows = control.rows([[run]])
    assert values(rows, "module processes") == [[3]]
    assert values(rows, "CPU time of module processes, s") == [[2.25]]
    assert values(rows, "  amazon.aws.ec2_tag") == [[2.0]]


def test_what_only_one_checkout_does_is_none_of_the_other(run):
    rows = control.rows([[control.parse(REPORT, "", "")], [run]])
    assert values(rows, "  RunInstances") == [[0], [1]]
    assert values(rows, "  ansible.builtin.raw") == [[0], [0.25]]


def test_the_table_has_least_median_and_most_of_each_checkout_and_the_ratio_of_the_medians():
    text = control.table(["a", "b"], [control.Row("seconds", [[4.0, 1.0, 2.0], [4.0, 8.0, 3.0]])])
    assert [line.split() for line in text.splitlines()] == [
        ["a", "b", "ratio"],
        ["min", "median", "max"] * 2,
        ["seconds", "1.0", "2.0", "4.0", "3.0", "4.0", "8.0", "0.50"],
    ]
    assert len({len(line) for line in text.splitlines()[::2]}) == 1  # the heads stand above their columns


def test_without_another_checkout_there_is_no_ratio():
    text = control.table(["a"], [control.Row("calls", [[15, 15, 16]], 0)])
    assert text.splitlines()[-1].split() == ["calls", "15", "15", "16"]


def test_nothing_is_divided_by_zero():
    assert control.ratio([[1.0], [0.0]]) == "-"


@pytest.mark.parametrize("word", ["0", "-1", "many", "1.5"])
def test_a_number_of_runs_that_is_none_is_wrong_usage(word, capsys):
    with pytest.raises(SystemExit, match="2"):
        control.main([f"--runs={word}"])
    assert "is not a number of runs: give 1 or more" in capsys.readouterr().err


def test_settings_of_whoever_runs_it_do_not_count(tmp_path):
    found = control.environment(
        tmp_path, {"EC2_BACKUP_VERBOSE": "1", "EC2_LAB_ATTACH": "9", "ANSIBLE_X": "1", "HOME": "/"}
    )
    assert found["HOME"] == "/"
    assert not {"EC2_BACKUP_VERBOSE", "EC2_LAB_ATTACH", "ANSIBLE_X"} & found.keys()
    assert (found["EC2_LAB_PENDING"], found["EC2_LAB_BOOT"]) == ("1.0", "2.0")


# ---- what is measured -----------------------------------------------------------------------------------------------

BURN = "import time\nwhile time.process_time() < 0.3: pass\n"


def measure(tmp_path, code):
    """What measured.py writes of a Python program."""
    report = tmp_path / "report.json"
    subprocess.run([sys.executable, measured.__file__, report, sys.executable, "-c", code], check=False)
    return json.loads(report.read_text())


def test_the_time_of_grandchildren_counts(tmp_path):
    child = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN!r}])"
    assert measure(tmp_path, child)["cpu"] >= 0.3


def test_the_time_of_what_outlives_its_parent_counts(tmp_path):
    child = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {BURN!r}], start_new_session=True)"
    assert measure(tmp_path, child)["cpu"] >= 0.3


def test_the_exit_status_is_the_command_s(tmp_path):
    assert measure(tmp_path, "raise SystemExit(3)")["status"] == 3


def test_the_hook_notes_an_interpreter_that_ran_a_module_and_no_other(tmp_path):
    records = tmp_path / "records.jsonl"
    records.touch()
    arguments = json.dumps({"ANSIBLE_MODULE_ARGS": {"_ansible_module_name": "ansible.builtin.ping"}})
    codes = [
        "pass",
        "import ansible.module_utils.basic",
        f"import ansible.module_utils.basic as basic; basic._ANSIBLE_ARGS = {arguments.encode()!r}",
    ]
    for code in codes:
        variables = {"PYTHONPATH": str(control.HOOKS / "python"), "EC2_BACKUP_BENCH_RECORDS": str(records)}
        subprocess.run([sys.executable, "-c", code], env={**os.environ, **variables}, check=True)
    (line,) = records.read_text().splitlines()
    assert json.loads(line)["module"] == "ansible.builtin.ping"
    assert json.loads(line)["cpu"] > 0


# ---- the other checkout ---------------------------------------------------------------------------------------------


def test_a_virtual_environment_is_copied_without_what_belongs_to_the_other_checkout(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    library = old / ".venv" / "lib" / "python3.11" / "site-packages"
    (library / COLLECTION).parent.mkdir(parents=True)
    (library / COLLECTION).symlink_to(old)
    (library / "ansible_collections" / "amazon").mkdir()
    (library / "boto3").mkdir()
    (library / "_ec2_backup.pth").write_text(f"{old}\n")
    (old / ".venv" / "pyvenv.cfg").write_text(f"command = python -m venv {old}/.venv\n")
    binaries = old / ".venv" / "bin"
    binaries.mkdir()
    (binaries / "python").symlink_to(sys.executable)
    (binaries / "ansible-playbook").write_text(f"#!{old}/.venv/bin/python\n")
    (binaries / "ruff").write_bytes(b"\x7fELF")

    assert copy_environment(old / ".venv", new) == new / ".venv" / "bin" / "python"

    made = new / ".venv" / "lib" / "python3.11" / "site-packages"
    assert (made / "boto3").resolve() == library / "boto3"
    assert (made / "ansible_collections" / "amazon").resolve() == library / "ansible_collections" / "amazon"
    assert (made / COLLECTION).readlink() == new
    assert (made / "_ec2_backup.pth").read_text() == f"{new}\n"
    assert (new / ".venv" / "bin" / "ansible-playbook").read_text() == f"#!{new}/.venv/bin/python\n"
    assert os.access(new / ".venv" / "bin" / "ansible-playbook", os.X_OK)
    assert (new / ".venv" / "bin" / "python").readlink() == binaries.joinpath("python").readlink()
    assert (new / ".venv" / "bin" / "ruff").resolve() == binaries / "ruff"
    assert str(old) not in (new / ".venv" / "pyvenv.cfg").read_text()


def test_a_revision_that_is_none_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(GitError), checked_out("no-such-revision"):
        pass
    assert not list(tmp_path.iterdir())
