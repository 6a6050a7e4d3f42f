# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run one of the collection's playbooks through ansible-runner, and record how it went.

Facts about ansible-runner that this file depends on: without a ``cancel_callback`` runner installs its own handlers of
SIGINT and SIGTERM and never restores ours; ``suppress_env_files`` would put extra variables on the command line, where
``ps`` shows them, so they are written to files in a private directory instead.
"""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils import meter
from ansible_collections.ec2_backup.ebs.plugins.module_utils.milestones import MOVING
from ec2_backup.collection import collection_directory
from ec2_backup.run import environment, logs, processes
from ec2_backup.run.guard import guarded
from ec2_backup.run.outcome import Outcome, record
from ec2_backup.run.private import TEMPORARY, private_directory

COUNTERS = "progress"  # the file in a run's private directory that its streams write their byte counts to

_CONFIG = """\
[defaults]
home = {private}/home
local_tmp = {private}/tmp
remote_tmp = {private}/tmp
collections_path = {collections}:~/.ansible/collections:/usr/share/ansible/collections
localhost_warning = False
retry_files_enabled = False
nocows = True
internal_poll_interval = 0.005
[connection]
pipelining = True
"""


class Observer:
    """Is called while playbooks run, from runner's own loop, so it must return fast. This base class ignores events."""

    def begin(self, playbook: str, counters: Path) -> None:
        """Take note that a playbook is about to be started.

        :param playbook: its name.
        :param counters: the file that its streams write their byte counts to, as ``meter`` does.
        """

    def event(self, event: Mapping[str, Any]) -> None:
        """Take one event of ansible-runner."""


def literal(value: Any) -> Any:
    """Mark a value so that Ansible uses each string in it as it is.

    Ansible evaluates ``{{ … }}`` in an extra variable: without the mark, saving a directory of such a name would run
    the expression. The mark is that of Ansible's own JSON (``ansible._internal._json._profiles._legacy``), the format
    in which runner passes variables on.
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
        """Ask for an orderly end. Called from a signal handler, so it only sends signals.

        In a phase in which bytes are moved, the run's ssh processes are ended: their task fails, and the play's own
        ``always`` runs. In any other phase Ansible gets a SIGINT: it ends its workers and runs nothing more (seen with
        ansible-core 2.19). While the backup is committed, or after a failure, nothing is sent: what is left to do then
        is short, and it is what ends the run.
        """
        self._stop = True
        if self._pid is None or self.outcome.committing or self.outcome.failures:
            return
        connections = processes.of_run(self._run_id, "ssh") if self.outcome.phase in MOVING else []
        if connections:
            processes.tell(connections, signal.SIGTERM)
        else:
            processes.tell([self._pid], signal.SIGINT)

    def run(self, observer: Observer) -> Outcome:
        """Run it to its end, end the processes that it leaves, and return how it went."""
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
                **environment.locale_for_ansible(),
                **environment.keys_hidden(self._variables, os.environ),
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
