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
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils import meter
from ec2_backup import config, locales, logs, processes
from ec2_backup.guard import guarded
from ec2_backup.private import TEMPORARY, private_directory

COLLECTION = "ec2_backup.ebs"
SOURCE = f"{COLLECTION}.source_info"
STREAM = f"{COLLECTION}.stream_send"
# The tasks that last: they end when their connection is cut.
STREAMING = (STREAM, f"{COLLECTION}.stream_receive", f"{COLLECTION}.stream_check")
COMMIT = f"{COLLECTION}.manifest_write"
ATTACHMENT = f"{COLLECTION}.volume_attachment"
COUNTERS = "progress"  # the file of a run's private directory that says how far its stream is
# The tasks that make something in the account.
MAKING = (f"{COLLECTION}.instance_launch", f"{COLLECTION}.security_group")

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
    """How far a playbook came, and how it ended."""

    rc: int = 1
    """The exit status of ansible-playbook; negative: ended by that signal."""
    action: str = ""
    """The action of the task that began last."""
    failures: list[str] = dataclasses.field(default_factory=list)
    """The messages of the tasks that failed, the cause first."""
    warnings: list[str] = dataclasses.field(default_factory=list)
    """What the roles said aloud."""
    stats: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What the play handed back with set_stats."""
    launching: bool = False
    """Whether a task began that makes something in the account."""
    committing: bool = False
    """Whether all that is left to do is to commit the volume and to end the instance."""
    volume_id: str | None = None
    """The volume that is written to."""
    given: bool = False
    """Whether it is the user's, and not made by the run."""
    source_warnings: list[str] = dataclasses.field(default_factory=list)
    """What the stream could not save as it was."""
    written: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What is known of the backup that is being made, named as in the role's result."""
    tagged: bool = False
    """Whether the volume is tagged as complete."""
    detached: bool = False
    """Whether the volume has left the instance, and so is committed."""
    made: dict[str, None] = dataclasses.field(default_factory=dict)
    """The IDs of what the run made, as far as they are known, in that order."""
    region: str | None = None
    """The region that was asked for, or that a given volume was found in; None where the AWS chain decides."""
    profile: str | None = None
    """The profile that was asked for; None where the AWS chain decides."""
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


class Observer:
    """Is told what happens while playbooks run, from runner's own loop: must be fast. This one cares for nothing."""

    def begin(self, playbook: str, counters: Path) -> None:
        """The playbook of this name is going to be started; its streams write to the file as ``meter`` does."""

    def event(self, event: Mapping[str, Any]) -> None:
        """An event of ansible-runner."""


def record(outcome: Outcome, event: Mapping[str, Any]) -> None:
    """Take one event of ansible-runner into the outcome."""
    data = event.get("event_data") or {}
    match event.get("event"):
        case "playbook_on_task_start":
            outcome.action = str(data.get("task_action"))
            outcome.launching |= outcome.action in MAKING
            outcome.committing |= outcome.action == COMMIT
        case "runner_on_ok":
            _record_success(outcome, str(data.get("task_action")), data.get("res") or {}, data)
        case "runner_on_failed" if not data.get("ignore_errors"):
            outcome.failures.append(message(data))
        case "runner_on_unreachable":
            outcome.failures.append(f"Host {data.get('host')} is unreachable: {message(data)}")
        case "playbook_on_stats":
            outcome.stats = dict(data.get("artifact_data") or {})


def _record_success(outcome: Outcome, action: str, result: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    if action == "ansible.builtin.debug":
        text = message(data)
        if text.startswith("Warning: "):
            outcome.warnings.append(text.removeprefix("Warning: "))
    elif action == SOURCE:
        outcome.written["source"] = {key: result.get(key) for key in ("host", "path")}
    elif action == STREAM:
        outcome.source_warnings = list(result.get("source_warnings") or [])
        outcome.written |= {key: result.get(key) for key in ("bytes", "stored_bytes", "sha256")}
    elif data.get("task") == "Tag the volume as complete":
        outcome.tagged = True
    elif action == ATTACHMENT:
        outcome.detached = result.get("volume_state") == "available"
    elif action == f"{COLLECTION}.volume_find":
        outcome.region = result.get("region")
    elif action in MAKING:
        if result.get("region"):
            outcome.written["region"] = result["region"]
        for resource in (result.get("group_id"), result.get("instance_id")):
            if resource:
                outcome.made[str(resource)] = None
    elif action == "ansible.builtin.set_fact":
        facts = result.get("ansible_facts") or {}
        volume, instance = facts.get("__ec2_backup_volume") or {}, facts.get("__ec2_backup_instance") or {}
        for key, value in (("size_gib", volume.get("size_gib")), ("zone", instance.get("zone"))):
            if value:
                outcome.written[key] = value
        if volume.get("volume_id"):
            outcome.volume_id, outcome.given = str(volume["volume_id"]), bool(volume.get("given"))
            if not outcome.given:
                outcome.made[outcome.volume_id] = None


def message(data: Mapping[str, Any]) -> str:
    """A failed task's own words, in one line."""
    result = data.get("res") or {}
    result = next((item for item in result.get("results") or [] if item.get("failed")), result)  # of a loop
    text = result.get("msg") or result.get("module_stderr") or f"the task {data.get('task')!r} failed"
    return " ".join(str(text).split())


def literal(value: Any) -> Any:
    """The value, so marked that Ansible takes each string in it as it is.

    It would fill in `{{ … }}` in an extra variable: saving a directory of such a name would run what is in it. The mark
    is that of Ansible's own JSON (``ansible._internal._json._profiles._legacy``), in which runner hands variables on.
    """
    if isinstance(value, str):
        return {"__ansible_unsafe": value}
    if isinstance(value, Mapping):
        return {key: literal(each) for key, each in value.items()}
    return [literal(each) for each in value] if isinstance(value, list | tuple) else value


class Playbook:
    """One playbook of the collection, run once on this host."""

    def __init__(self, name: str, variables: Mapping[str, Any], run_id: str) -> None:
        self.outcome = Outcome(
            region=variables.get("ec2_backup_region") or None, profile=variables.get("ec2_backup_profile") or None
        )
        self._name = name
        self._variables = variables
        self._run_id = run_id
        self._pid: int | None = None
        self._stop = False

    def interrupt(self) -> None:
        """Ask for an orderly end; called from a signal handler, so it only sends signals.

        While streaming, the connection is cut: the task fails and the play's own ``always`` runs. Otherwise Ansible is
        interrupted, which makes it end its workers but run nothing more (seen with ansible-core 2.19). What commits the
        volume or ends the run is left to finish: it is short, and breaking it off helps nobody.
        """
        self._stop = True
        if self._pid is None or self.outcome.committing or self.outcome.failures:
            return
        connections = processes.of_run(self._run_id, "ssh") if self.outcome.action in STREAMING else []
        if connections:
            processes.tell(connections, signal.SIGTERM)
        else:
            processes.tell([self._pid], signal.SIGINT)

    def run(self, observer: Observer) -> Outcome:
        """Run it to its end."""
        with private_directory() as private, guarded(self._run_id, private):
            try:
                counters = private / COUNTERS
                counters.touch(mode=0o600)
                observer.begin(self._name, counters)
                self._invoke(private, observer)
            finally:
                processes.end(self._run_id)
        return self.outcome

    def _invoke(self, private: Path, observer: Observer) -> None:
        import ansible_runner  # here, because its import takes longer than --help may

        def handle(event: dict[str, Any]) -> bool:
            record(self.outcome, event)
            if self._pid is None and event.get("pid"):
                self._pid = int(event["pid"])
                if self._stop:
                    self.interrupt()
            observer.event(event)
            return False  # no event files

        collection = collection_directory()
        settings = private / "ansible.cfg"
        settings.write_text(_CONFIG.format(private=private, collections=collection.parents[2]))
        here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        runner = ansible_runner.run(
            private_data_dir=str(private),
            playbook=str(collection / "playbooks" / f"{self._name}.yml"),
            inventory={"all": {"hosts": {"localhost": here}}},
            extravars=literal(dict(self._variables)),
            envvars={
                "ANSIBLE_CONFIG": str(settings),
                "ANSIBLE_FORCE_COLOR": "0",
                "ANSIBLE_NOCOLOR": "1",
                # ansible-playbook stands beside our interpreter, on the user's PATH or not.
                "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
                # The run's keys too go where we remove them, whatever becomes of the play.
                "TMPDIR": str(private / TEMPORARY),
                meter.VARIABLE: str(private / COUNTERS),
                processes.MARKER: self._run_id,
                **locales.for_ansible(),
                **config.keys_hidden(self._variables, os.environ),
            },
            quiet=True,
            suppress_env_files=False,
            event_handler=handle,
            cancel_callback=lambda: False,
        )
        self.outcome.rc = 1 if runner.rc is None else runner.rc
        if self.outcome.rc != 0:
            output = Path(runner.config.artifact_dir) / "stdout"
            self.outcome.log = logs.keep(output, f"{self._run_id}-{self._name}", os.environ)
