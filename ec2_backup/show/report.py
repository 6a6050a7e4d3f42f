# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reporting how a command ended: the result on stdout, everything else on stderr, and the exit status.

A command reports to a ``Report``, which prints text for people or, with ``--json``, objects for programs (docs/json.md;
``schema.json`` beside this file)::

    report = Report("backup", run_id, observer.phases)     # when the display has finished
    report.warn("…")                                       # a line; with --json kept for the object
    printed = report.result(status, {"dry_run": True, …}, ["a line for people", …], "the plan")
    report.error("…")                                      # a line; with --json kept for the one object on stderr
    return report.end(status if printed else Status.FAILED)

``emit_result(report, status, fields, lines, what)`` does this for a command that has only a result to report.
``Report`` adds the fields that the objects of all commands have; a command adds its own ones. A name that may not be
UTF-8 is converted by ``name``. Every field has to be in ``schema.json``, or a test fails.
"""

import base64
import contextlib
import errno
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils.times import stamp
from ec2_backup.run.outcome import Outcome
from ec2_backup.run.supervise import Supervised, by_hand
from ec2_backup.show.aws_errors import reworded
from ec2_backup.status import JSON_VERSION, Status, UserError, json_line, put, say, sound, speaks_json

Phases = Mapping[str, float]


def name(text: str | bytes | None) -> str | dict[str, str] | None:
    """Return a file's or host's name for an object: a string, or if it is not UTF-8 its bytes as ``{"base64": …}``.

    :param text: bytes, or a string with surrogates for bytes that are not UTF-8 (PEP 383).
    """
    if text is None:
        return None
    try:
        raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}
    except UnicodeEncodeError:
        return str(sound(text))


def about_backup(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a volume's manifest says about the backup; None without a manifest.

    The names are those of a backup's result.
    """
    if not manifest:
        return None
    return {
        "run_id": manifest["run_id"],
        "source": {key: name(manifest["source"][key]) for key in ("host", "path")},
        "bytes": manifest["stream"]["bytes"],
        "sha256": manifest["stream"]["sha256"],
        "stored_bytes": manifest["stored"]["bytes"],
        "started": manifest["started"],
        "finished": manifest["finished"],
        "warnings_count": manifest["warnings"],
    }


def cause_of(outcome: Outcome) -> str:
    """Return why a playbook failed: the first failure, or if no task failed, how ansible-playbook ended."""
    if outcome.failures:
        return reworded(outcome.failures[0])
    if outcome.rc == 0:
        return "the playbook came to its end without returning a result"
    return f"ansible-playbook ended with status {outcome.rc}"


class Report:
    """Reports how one command ended."""

    def __init__(self, command: str, run_id: str | None, phases: Phases) -> None:
        self.as_json = speaks_json()
        self.command = command
        self.run_id = run_id
        self.phases = phases
        self.warnings: list[str] = []
        self.errors: list[str] = []
        self.log: Path | None = None
        self.signal: signal.Signals | None = None
        self.left: list[str] | None = []
        """The IDs of what may be left in the account; None if that is not known."""
        self.remedy: str | None = None
        """The command that removes it."""

    def warn(self, text: str) -> None:
        """Report something that does not make the command fail."""
        if self.as_json:
            self.warnings.append(text)
        else:
            say(f"warning: {text}")

    def error(self, text: str, shown: str | None = None) -> None:
        """Report why the command failed. The first error is the cause.

        :param shown: the line for people; ``error: `` and the text by default.
        """
        if self.as_json:
            self.errors.append(text)
        else:
            say(shown or f"error: {text}")

    def result(
        self,
        status: int,
        fields: Mapping[str, Any],
        lines: Iterable[str],
        what: str,
        items: tuple[str, Iterable[Any]] | None = None,
    ) -> bool:
        """Print the result; return whether it was written. A closed pipe or a full disk prevent it.

        :param status: the exit status that the command will have.
        :param fields: the command's fields of the object.
        :param lines: the text for people.
        :param what: the name of the result in the message that it could not be written.
        :param items: the name and the items of the object's last field, a list that need not fit into memory.
        """
        try:
            if sys.stdout is None:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            if self.as_json:
                self._print_object({**self._head(status), **fields}, items)
            else:
                for line in lines:
                    print(line, flush=True)
        except OSError as error:
            self.output_failed(what, error)
            return False
        self.warnings.clear()
        return True

    def _head(self, status: int) -> dict[str, Any]:
        elapsed = sum(self.phases.values())
        now = time.time()
        return {
            "version": JSON_VERSION,
            "type": "result",
            "command": self.command,
            "status": int(status),
            "run_id": self.run_id,
            "started": stamp(now - elapsed),
            "finished": stamp(now),
            "elapsed": round(elapsed, 1),
            "phases": {phase: round(seconds, 1) for phase, seconds in self.phases.items()},
            "warnings": list(self.warnings),
        }

    @staticmethod
    def _print_object(fields: Mapping[str, Any], items: tuple[str, Iterable[Any]] | None) -> None:
        text = json.dumps(sound(dict(fields)))
        if items is None:
            print(text, flush=True)
            return
        sys.stdout.write(f"{text[:-1]}, {json.dumps(items[0])}: [")
        for number, item in enumerate(items[1]):
            sys.stdout.write((", " if number else "") + json.dumps(sound(item)))
        print("]}", flush=True)

    def output_failed(self, what: str, error: OSError) -> None:
        """Report that the result could not be written, and keep the interpreter from trying again at its exit."""
        self.error(f"{what} could not be written to standard output: {error.strerror}")
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def end(self, status: int) -> int:
        """Print the error object, if the command failed and programs read it; return the exit status."""
        if self.as_json and status not in (Status.DONE, Status.INCOMPLETE_SOURCE):
            message, *details = self.errors or [f"ended with status {int(status)}"]
            fields = {
                "command": self.command,
                "status": int(status),
                "run_id": self.run_id,
                "message": message,
                "details": details,
                "warnings": self.warnings,
                "log": name(str(self.log)) if self.log else None,
                "signal": self.signal.name if self.signal else None,
                "left": self.left,
                "cleanup_command": self.remedy,
            }
            put(json_line("error", **fields))
        return int(status)


def emit_result(report: Report, status: int, fields: Mapping[str, Any], lines: Iterable[str], what: str) -> int:
    """Print a result, and return the exit status: the one given, or 1 if the result could not be written."""
    return report.end(status if report.result(status, fields, lines, what) else Status.FAILED)


def user_error(command: str, error: UserError) -> int:
    """Report a user's error; return the exit status."""
    report = Report(command, None, {})
    report.error(reworded(str(error)))
    return report.end(error.status)


def interrupted(command: str) -> int:
    """Report that Ctrl-C ended a command before it began anything; return the exit status."""
    report = Report(command, None, {})
    report.signal = signal.SIGINT
    report.error(f"ended by {report.signal.name}")
    return report.end(128 + report.signal)


def say_cause(outcome: Outcome, report: Report) -> None:
    """Report why a playbook failed, and where its log is."""
    say_error(outcome, cause_of(outcome), report)


def say_error(outcome: Outcome, cause: str, report: Report) -> None:
    """Report an error, and where the playbook's log is."""
    report.log = outcome.log
    report.error(cause, f"error: {cause}" + (f" (log: {outcome.log})" if outcome.log else ""))


def failure_status(run: Supervised) -> int:
    """Return the exit status of a run that failed."""
    if run.left != []:
        return Status.LEFT_BEHIND
    return Status.FAILED if run.signal is None else 128 + run.signal


def tell_failure(run: Supervised, report: Report, complete: bool = False) -> None:
    """Report how a run failed, and what it has left behind.

    :param complete: the backup was complete all the same, before a signal or a failure of the cleanup.
    """
    outcome = run.outcome
    report.signal, report.left = run.signal, run.left
    if run.signal is None:
        say_cause(outcome, report)
    elif complete:
        late = f"{run.signal.name}: came when the backup was complete already"
        report.error(late, late)
    else:
        say_error(outcome, f"ended by {run.signal.name}", report)
    if run.left == []:
        return
    what = ", ".join(run.left) if run.left else f"what is tagged ec2-backup:run-id={report.run_id}"
    reason = next((failure for failure in outcome.failures if failure.startswith("cleaning up: ")), "")
    report.remedy = by_hand(str(report.run_id), outcome.region, outcome.profile)
    report.error(f"may be left behind: {what}; remove it with: {report.remedy}")
    if reason:
        report.error("cleaning up: " + reworded(reason.removeprefix("cleaning up: ")))
    if outcome.complete and not complete:
        report.warn(
            f"{outcome.complete} holds the whole backup, but it is not known whether it has left its "
            "instance; that command keeps it"
        )


def end_failed(run: Supervised, report: Report) -> int:
    """Report how a run failed that has no result; return the exit status."""
    tell_failure(run, report)
    return report.end(failure_status(run))
