# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Modules that run in a fork of Ansible's worker: what they find there, and that they change nothing outside of it."""

from __future__ import annotations

import atexit
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ec2_backup.ebs.plugins.plugin_utils import aws_models, forked_module
from ansible_collections.ec2_backup.ebs.plugins.plugin_utils.forked_module import arguments, imported, run_forked

ROOT = Path(__file__).parents[2]
OWN_ACTIONS = {"milestone"}


def run(main: Callable[[], None], environment: dict[str, str] | None = None, **options: Any) -> tuple[int, Any, str]:
    """Run it; return its exit status, its result (None if there is none), and what it wrote to stderr."""
    payload = arguments({"_ansible_module_name": "a.b.c", "_ansible_remote_tmp": tempfile.gettempdir(), **options})
    status, stdout, stderr = run_forked(main, "a.b.c", payload, environment or {}, "/")
    return status, json.loads(stdout) if stdout.strip() else None, stderr.decode()


def found(find: Callable[[AnsibleModule], Any], **options: Any) -> Any:
    """What a module's ``main`` finds."""

    def main() -> None:
        spec = {
            "name": {"type": "str"},
            "secret": {"type": "str", "no_log": True},
            "number": {"type": "int", "default": 7},
        }
        module = AnsibleModule(spec, supports_check_mode=True)
        module.exit_json(found=find(module))

    environment = options.pop("environment", None)
    status, result, stderr = run(main, environment, **options)
    assert (status, stderr) == (0, "")
    return result["found"]


def test_a_module_has_its_arguments_and_the_defaults_of_the_others():
    assert found(lambda module: [module.params["name"], module.params["number"]], name="x") == ["x", 7]


@pytest.mark.parametrize("check", [True, False])
def test_a_module_knows_of_check_mode_and_of_diff(check):
    def main():
        module = AnsibleModule({}, supports_check_mode=True)
        module.exit_json(check=module.check_mode, diff=module._diff)

    result = run(main, _ansible_check_mode=check, _ansible_diff=not check)[1]
    assert (result["check"], result["diff"]) == (check, not check)


def test_a_module_that_does_not_support_check_mode_is_skipped_in_it():
    status, result, _stderr = run(lambda: AnsibleModule({}).exit_json(ran=True), _ansible_check_mode=True)
    assert (status, result["skipped"], "ran" in result) == (0, True, False)


def test_options_that_are_not_to_be_logged_are_censored_in_the_result():
    def main():
        module = AnsibleModule({"secret": {"type": "str", "no_log": True}})
        module.exit_json(said="it is hunter22, that is it")

    status, result, _stderr = run(main, secret="hunter22")
    assert status == 0
    assert "hunter22" not in json.dumps(result)
    assert result["invocation"]["module_args"]["secret"] == "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"


def test_a_failed_module_says_so_with_status_1():
    status, result, _stderr = run(lambda: AnsibleModule({}).fail_json(msg="no", error={"code": "Busy"}))
    assert (status, result["failed"], result["msg"], result["error"]) == (1, True, "no", {"code": "Busy"})


def test_an_unknown_option_fails_the_module():
    status, result, _stderr = run(lambda: AnsibleModule({}).exit_json(), bogus=1)
    assert status == 1
    assert "Unsupported parameters for (a.b.c) module: bogus" in result["msg"]


def test_warnings_and_deprecations_are_part_of_the_result():
    def main():
        module = AnsibleModule({})
        module.warn("mind the gap")
        module.deprecate("old", version="9.0.0", collection_name="a.b")
        module.exit_json()

    result = run(main)[1]
    assert "mind the gap" in json.dumps(result["warnings"])
    assert "old" in json.dumps(result["deprecations"])


def test_a_module_has_the_environment_of_its_task_and_this_process_does_not(monkeypatch, tmp_path):
    monkeypatch.setenv("INHERITED", "yes")
    seen = found(
        lambda _module: [os.environ.get(name) for name in ("GIVEN", "INHERITED")] + [tempfile.gettempdir()],
        environment={"GIVEN": "a b", "TMPDIR": str(tmp_path)},
    )
    assert seen == ["a b", "yes", str(tmp_path)]
    assert "GIVEN" not in os.environ


def test_a_module_has_an_empty_stdin_and_nothing_open_but_its_own():
    with tempfile.TemporaryFile() as file:
        number = file.fileno()
        seen = found(lambda _module: [sys.stdin.read(), os.read(0, 1) == b"", os.readlink(f"/proc/self/fd/{number}")])
    assert seen == ["", True, "/dev/null"]


def test_a_module_begins_with_the_default_signal_handlers_and_leaves_those_of_this_process_alone():
    def mine(_number: int, _frame: object) -> None:
        """A handler of the worker."""

    def find(_module: AnsibleModule) -> list[bool]:
        seen = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGINT)]
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.unraisablehook = print
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return [seen == [signal.SIG_DFL, signal.SIG_DFL, signal.default_int_handler], not masked]

    before = [signal.signal(number, mine) for number in (signal.SIGTERM, signal.SIGALRM)]
    hook = sys.unraisablehook
    try:
        assert found(find) == [True, True]
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)] == [mine, mine]
        assert sys.unraisablehook is hook
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGALRM), before, strict=True):
            signal.signal(number, handler)


def test_a_module_runs_in_the_directory_that_is_given_and_this_process_stays_where_it_is():
    before = os.getcwd()
    assert found(lambda _module: os.getcwd()) == "/"
    assert os.getcwd() == before


def test_at_its_end_a_module_runs_its_own_exit_functions_and_no_other(tmp_path):
    ours, its = tmp_path / "ours", tmp_path / "its"

    def find(module: AnsibleModule) -> str:
        atexit.register(its.touch)
        return str(module.tmpdir)

    atexit.register(ours.touch)
    try:
        left = found(find)
    finally:
        atexit.unregister(ours.touch)
    assert its.exists()
    assert not ours.exists()
    assert not os.path.exists(left)


def test_a_modules_threads_are_waited_for(tmp_path):
    def work() -> None:
        time.sleep(0.2)
        (tmp_path / "done").touch()

    found(lambda _module: threading.Thread(target=work).start())
    assert (tmp_path / "done").exists()


def test_a_result_of_any_length_arrives():
    assert len(found(lambda _module: "x" * 3_000_000)) == 3_000_000


def test_an_exception_becomes_a_failed_result_with_its_text():
    def main():
        raise ValueError("the moon is full")

    status, result, _stderr = run(main)
    assert (status, result["failed"]) == (1, True)
    assert result["msg"] == "The module a.b.c failed with ValueError: the moon is full"
    assert "in main" in result["exception"]


def test_a_module_that_returns_without_a_result_has_failed():
    assert "it returned without a result" in run(lambda: None)[1]["msg"]


@pytest.mark.parametrize(
    ("end", "status", "words"),
    [
        (lambda: sys.exit(3), 3, ""),
        (lambda: sys.exit("that is it"), 1, "that is it"),
        (lambda: sys.exit(), 0, ""),
        (lambda: os._exit(4), 4, ""),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), -signal.SIGKILL, ""),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), -signal.SIGTERM, ""),
        (lambda: signal.raise_signal(signal.SIGINT), -signal.SIGINT, ""),
    ],
)
def test_this_process_learns_how_a_module_without_a_result_ended(end, status, words):
    seen, result, stderr = run(end)
    assert (seen, result) == (status, None)
    assert words in stderr


def test_a_module_without_a_result_fails_its_task_in_words(monkeypatch):
    action = object.__new__(forked_module.ForkedModule)
    monkeypatch.setattr(action, "_task", type("Task", (), {"action": "a.b.c"})(), raising=False)
    monkeypatch.setattr(action, "_result", lambda told: json.loads(told["stdout"]))

    def end():
        print("ssh: out of luck", file=sys.stderr)
        sys.exit(3)

    result = action._run_forked(end, "a.b.c", arguments({}), {}, "/")
    assert (result["failed"], result["rc"]) == (True, 3)
    assert result["msg"] == "The module a.b.c ended with status 3, without a result: ssh: out of luck"


class TimeIsUp(BaseException):
    """What the handler of an alarm raises."""


@pytest.mark.parametrize("stubborn", [False, True])
def test_an_alarm_of_this_process_ends_the_module_and_waits_for_it(monkeypatch, tmp_path, stubborn):
    """As the ``timeout`` of a task does. The module that ignores SIGTERM is killed."""
    told = tmp_path / "told"

    def main():
        if stubborn:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        told.write_text(str(os.getpid()))
        time.sleep(60)

    def late(_number: int, _frame: object) -> None:
        raise TimeIsUp

    monkeypatch.setattr(forked_module, "ENDING_SECONDS", 0.3)
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(TimeIsUp):
            run(main)
    finally:
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


def test_no_descriptor_of_this_process_is_left_open():
    before = sorted(os.listdir("/proc/self/fd"))
    run(lambda: None)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_values_that_ansible_has_tagged_are_plain_for_the_module():
    from ansible.template import trust_as_template

    payload = json.loads(
        arguments({"path": trust_as_template("/a"), "number": 2**40, "list": [trust_as_template("b")]})
    )
    assert payload == {"ANSIBLE_MODULE_ARGS": {"path": "/a", "number": 2**40, "list": ["b"]}}


def test_another_interpreter_is_not_taken_for_this_one(tmp_path):
    link = tmp_path / "python"
    link.symlink_to(os.path.realpath(sys.executable))  # as in another virtual environment
    assert forked_module.same_interpreter(sys.executable)
    assert not forked_module.same_interpreter(str(link))
    assert not forked_module.same_interpreter("")


def test_with_a_version_of_ansible_that_was_not_tried_modules_are_run_the_usual_way(monkeypatch):
    assert imported("source_info") is not None
    monkeypatch.setattr(forked_module, "CORE", (9, 9))
    assert imported("source_info") is None


def test_a_module_that_cannot_be_imported_here_is_run_the_usual_way(monkeypatch):
    assert imported("no_such_module") is None
    monkeypatch.setattr(aws_models, "_loader", None)
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert imported("run_end") is None
    assert imported("source_info") is not None


def test_ec2s_description_is_read_once_for_all_clients(monkeypatch):
    import boto3
    import botocore.loaders
    import botocore.session

    aws_models.load()
    read = []
    monkeypatch.setattr(botocore.loaders.JSONFileLoader, "load_file", lambda _self, path: read.append(path))
    monkeypatch.setattr(botocore.session, "create_loader", botocore.session.create_loader)  # put back at the end
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_DATA_PATH"):
        monkeypatch.delenv(name, raising=False)
    aws_models.use()
    boto3.session.Session().client("ec2", region_name="eu-west-3", aws_access_key_id="a", aws_secret_access_key="b")
    assert [path for path in read if "ec2/" in path or "endpoints" in path or "partitions" in path] == []


def test_each_module_has_an_action_that_runs_it():
    modules = {path.stem for path in (ROOT / "plugins/modules").glob("*.py")}
    actions = {path.stem: path.read_text() for path in (ROOT / "plugins/action").glob("*.py")}
    assert modules == set(actions)
    for name in modules - OWN_ACTIONS:
        assert f'imported("{name}")' in actions[name]


ELSEWHERE = '''
DOCUMENTATION = """
name: elsewhere
short_description: like local, but not called so
description: [a test]
author: [a test]
"""
from ansible.plugins.connection.local import Connection as Local
class Connection(Local):
    transport = "elsewhere"
'''
PLAY = """
- hosts: here
  gather_facts: false
  module_defaults:
    group/ec2_backup.ebs.aws: {region: eu-west-3, profile: nobody}
  tasks:
    - name: plain
      ec2_backup.ebs.source_info: {path: "~", exclude: ["*.o"]}
      environment: {HOME: "{{ playbook_dir }}/home"}
      register: plain
    - name: arithmetic
      ansible.builtin.assert:
        that: [plain.archive_bytes + 1 == 1048577, plain.path == playbook_dir ~ '/home', plain is not changed]
    - name: failing
      ec2_backup.ebs.source_info: {path: /no/such/directory}
      ignore_errors: true
    - name: defaults
      ec2_backup.ebs.run_end: {instance_ids: [strange]}
      ignore_errors: true
    - name: secret
      ec2_backup.ebs.session_open: {run_id: r-1, directory_base: "{{ playbook_dir }}"}
      no_log: true
      register: secret
    - name: late
      ec2_backup.ebs.ssh_wait: {ssh: [sleep, '77'], timeout: 60}
      timeout: 1
      ignore_errors: true
    - name: other interpreter
      ec2_backup.ebs.source_info: {path: "{{ playbook_dir }}/home"}
      vars: {ansible_python_interpreter: "{{ playbook_dir }}/python"}
    - name: results
      ansible.builtin.debug: {msg: "{{ secret.host_private_key | length > 100 }}"}
- hosts: there
  gather_facts: false
  tasks:
    - name: elsewhere
      ec2_backup.ebs.source_info: {path: "{{ playbook_dir }}/home"}
      register: elsewhere
    - name: delegated
      ec2_backup.ebs.source_info: {path: "{{ playbook_dir }}/home"}
      delegate_to: localhost
"""


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    """What Ansible printed of each task of PLAY."""
    directory = tmp_path_factory.mktemp("play")
    (directory / "connection_plugins").mkdir()
    (directory / "connection_plugins/elsewhere.py").write_text(ELSEWHERE)
    (directory / "home").mkdir()
    (directory / "python").symlink_to(os.path.realpath(sys.executable))
    (directory / "play.yml").write_text(PLAY)
    (directory / "ansible.cfg").write_text("[connection]\npipelining = True\n")
    own = f"ansible_python_interpreter={sys.executable}"
    (directory / "hosts").write_text(f"here ansible_connection=local {own}\nthere ansible_connection=elsewhere {own}\n")
    program = Path(sys.executable).with_name("ansible-playbook")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "AWS_"))}
    environment["ANSIBLE_COLLECTIONS_PATH"] = str(ROOT / ".venv/collections")
    done = subprocess.run(
        [program, "-vvv", "-i", "hosts", "play.yml"],
        check=False,
        capture_output=True,
        text=True,
        cwd=directory,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(re.findall(r"^TASK \[(.*?)\] .*?\n(.*?)(?=^TASK |^PLAY |\Z)", done.stdout, re.MULTILINE | re.DOTALL))


FORK, USUAL = "in a fork of the worker", "Using module file"


@pytest.mark.parametrize("task", ["plain", "failing", "defaults", "secret", "late", "delegated"])
def test_a_module_on_this_host_and_with_this_interpreter_runs_in_a_fork(play, task):
    assert FORK in play[task]
    assert USUAL not in play[task]


@pytest.mark.parametrize("task", ["other interpreter", "elsewhere"])
def test_all_else_is_run_the_usual_way(play, task):
    assert USUAL in play[task]
    assert FORK not in play[task]
    assert '"archive_bytes": 1048576' in play[task]


def test_a_task_reports_the_modules_own_error(play):
    assert '"msg": "/no/such/directory: there is no such directory"' in play["failing"]


def test_the_defaults_of_the_modules_group_are_used(play):
    assert "'strange' in instance_ids is not what an instance's ID looks like" in play["defaults"]
    assert '"region": "eu-west-3"' in play["defaults"]
    assert '"profile": "nobody"' in play["defaults"]


def test_a_task_whose_result_is_secret_shows_none_of_it(play):
    assert "censored" in play["secret"]
    assert "PRIVATE KEY" not in play["secret"]
    assert '"msg": true' in play["results"].lower()


def test_a_task_with_a_timeout_ends_its_module(play):
    assert "Timed out after 1 second" in play["late"]
