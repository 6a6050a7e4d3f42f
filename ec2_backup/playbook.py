# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run one of the collection's playbooks through ansible-runner, and say how it went.

Facts about ansible-runner that shape this file: ``cancel_callback`` must be given, or runner takes SIGINT and SIGTERM
over and never gives them back; ``suppress_env_files`` would put extra variables on the command line, where ``ps`` shows
them, so they go into files of a private directory instead; what ``set_stats`` set arrives with the last event.
"""

import dataclasses
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

COLLECTION = "ec2_backup.ebs"

_CONFIG = """\
[defaults]
home = {private}/home
local_tmp = {private}/tmp
remote_tmp = {private}/tmp
collections_path = {collections}:~/.ansible/collections:/usr/share/ansible/collections
localhost_warning = False
retry_files_enabled = False
nocows = True
[connection]
pipelining = True
"""


@dataclasses.dataclass
class Outcome:
    """How a playbook ended."""

    rc: int = 1
    """The exit status of ansible-playbook."""
    failures: list[str] = dataclasses.field(default_factory=list)
    """The messages of the tasks that failed, the cause first."""
    warnings: list[str] = dataclasses.field(default_factory=list)
    """What the roles said aloud."""
    stats: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What the play handed back with set_stats."""
    launching: bool = False
    """Whether a task began that makes something in the account."""
    log: Path | None = None
    """Where Ansible's own output of a failed run is kept."""


def collection_directory() -> Path:
    """The directory of the collection that belongs to this very installation.

    :raises RuntimeError: the package was installed without it.
    """
    spec = importlib.util.find_spec(f"ansible_collections.{COLLECTION}")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"the collection {COLLECTION} is not installed beside the package ec2-backup")
    return Path(next(iter(spec.submodule_search_locations)))


def state_directory(environment: Mapping[str, str]) -> Path:
    """Where logs are kept: ``$XDG_STATE_HOME/ec2-backup``, by the XDG base directory specification."""
    base = environment.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(base) / "ec2-backup"


def record(outcome: Outcome, event: Mapping[str, Any]) -> str | None:
    """Take one event of ansible-runner into the outcome; return the name of a task that begins."""
    data = event.get("event_data") or {}
    match event.get("event"):
        case "playbook_on_task_start":
            outcome.launching |= data.get("task_action") in ("amazon.aws.ec2_instance", "amazon.aws.ec2_security_group")
            # Ansible's own housekeeping between the steps means nothing to a person.
            return None if str(data.get("task_action")).startswith("ansible.builtin.") else str(data.get("task"))
        case "runner_on_failed" if not data.get("ignore_errors"):
            outcome.failures.append(message(data))
        case "runner_on_unreachable":
            outcome.failures.append(f"Host {data.get('host')} is unreachable: {message(data)}")
        case "runner_on_ok" if data.get("task_action") == "ansible.builtin.debug":
            text = message(data)
            if text.startswith("Warning: "):
                outcome.warnings.append(text.removeprefix("Warning: "))
        case "playbook_on_stats":
            outcome.stats = dict(data.get("artifact_data") or {})
    return None


def message(data: Mapping[str, Any]) -> str:
    """A failed task's own words, in one line."""
    result = data.get("res") or {}
    result = next((item for item in result.get("results") or [] if item.get("failed")), result)  # of a loop
    text = result.get("msg") or result.get("module_stderr") or f"the task {data.get('task')!r} failed"
    return " ".join(str(text).split())


def run(
    name: str, variables: Mapping[str, Any], log_name: str, on_task: Callable[[str], None] = lambda task: None
) -> Outcome:
    """Run the playbook ``name`` of the collection on this host with the given role variables.

    :param log_name: the file name under which Ansible's output is kept if the playbook fails.
    :param on_task: called with each task's name as it begins, from runner's own loop: return fast.
    """
    import ansible_runner

    outcome = Outcome()
    collection = collection_directory()
    private = Path(tempfile.mkdtemp(prefix="ec2-backup-"))  # 0700
    try:
        (private / "tmp").mkdir(mode=0o700)
        config = private / "ansible.cfg"
        config.write_text(_CONFIG.format(private=private, collections=collection.parents[2]))

        def handle(event: dict[str, Any]) -> bool:
            task = record(outcome, event)
            if task:
                on_task(task)
            return False  # no event files

        runner = ansible_runner.run(
            private_data_dir=str(private),
            playbook=str(collection / "playbooks" / f"{name}.yml"),
            inventory={
                "all": {
                    "hosts": {
                        "localhost": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
                    }
                }
            },
            extravars=dict(variables),
            envvars={
                "ANSIBLE_CONFIG": str(config),
                "ANSIBLE_FORCE_COLOR": "0",
                "ANSIBLE_NOCOLOR": "1",
                # ansible-playbook stands beside our interpreter, whether or not that directory is on the user's PATH.
                "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            },
            quiet=True,
            suppress_env_files=False,
            event_handler=handle,
            cancel_callback=lambda: False,
        )
        outcome.rc = 1 if runner.rc is None else runner.rc
        if outcome.rc != 0:
            outcome.log = _keep_log(Path(runner.config.artifact_dir) / "stdout", log_name)
    finally:
        shutil.rmtree(private, ignore_errors=True)
    return outcome


def _keep_log(output: Path, log_name: str) -> Path | None:
    """Copy Ansible's output to where it outlives the run; None where that can't be done, for a log is not the job."""
    try:
        directory = state_directory(os.environ) / "log"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = directory / f"{log_name}.log"
        shutil.copyfile(output, kept)
        kept.chmod(0o600)
    except OSError:
        return None
    return kept
