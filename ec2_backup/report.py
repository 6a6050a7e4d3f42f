# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a command's end is told: the result on stdout, all else on stderr, and the exit status.

A command tells its end to a ``Report``, which knows whether it is for people or, with ``--json``, for programs
(docs/json.md; ``schema.json`` beside this file)::

    report = Report("backup", run_id, observer.phases)     # when the display has finished
    report.warn("…")                                       # a line; with --json kept for the object
    printed = report.result(status, {"dry_run": True, …}, ["a line for people", …], "the plan")
    report.error("…")                                      # a line; with --json kept for the one object on stderr
    return report.end(status if printed else Status.FAILED)

``emit_result(report, status, fields, lines, what)`` is that for a command that has nothing but a result to tell. The
fields of the objects that all commands have are ``Report``'s own; a command adds its own ones. A name that may not be
UTF-8 goes through ``name``. Whatever a command adds, ``schema.json`` has to tell, or a test fails.
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

from ec2_backup.playbook import Outcome
from ec2_backup.status import JSON_VERSION, Status, UserError, json_line, put, say, sound, speaks_json, stamp
from ec2_backup.supervise import Supervised, by_hand
from ec2_backup.words import reworded

Phases = Mapping[str, float]


def name(text: str | bytes | None) -> str | dict[str, str] | None:
    """A file's or host's name for an object: a string, or where it is not UTF-8 ``{"base64": …}``, its bytes.

    :param text: bytes, or a string as Python makes it of a name (PEP 383).
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


def printable(value: Any) -> str:
    """What somebody else named (a file, a tag), for a terminal: nothing in it must get there as a command."""
    return "".join(character if character.isprintable() else "?" for character in str(value))


def about_backup(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a volume's manifest says of the backup, named as a backup's result is; None without one."""
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
    """Why a playbook failed."""
    return reworded(outcome.failures[0] if outcome.failures else f"ansible-playbook ended with status {outcome.rc}")


class Report:
    """What one command has to tell in the end."""

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
        """What may be left in the account, by ID; None if that is not known."""
        self.remedy: str | None = None
        """The command that removes it."""

    def warn(self, text: str) -> None:
        """Tell of something that does not keep the command from being done."""
        if self.as_json:
            self.warnings.append(text)
        else:
            say(f"warning: {text}")

    def error(self, text: str, shown: str | None = None) -> None:
        """Tell what keeps the command from being done; what is told first is the cause.

        :param shown: the line for people, if it is not ``error: `` and the text.
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
        """Print the result; return whether it got out (a closed pipe or a full disk keep it in).

        :param status: what the command will leave with.
        :param lines: what people get in place of the object.
        :param what: what the result is called if it does not get out.
        :param items: the object's last field: a list that need not fit into memory.
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
        """Say that the result did not get out, and let the interpreter not try it again, and complain, at its exit."""
        self.error(f"{what} could not be written to standard output: {error.strerror}")
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def end(self, status: int) -> int:
        """Tell programs the error, if it is one; return the status to leave with."""
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
    """Print a result, and return the status to leave with: the one given, or 1 if the result did not get out."""
    return report.end(status if report.result(status, fields, lines, what) else Status.FAILED)


def user_error(command: str, error: UserError) -> int:
    """Tell what was wrong with what was asked for; return the status to leave with."""
    report = Report(command, None, {})
    report.error(reworded(str(error)))
    return report.end(error.status)


def interrupted(command: str) -> int:
    """Tell that Ctrl-C ended a command that had begun nothing; return the status to leave with."""
    report = Report(command, None, {})
    report.signal = signal.SIGINT
    report.error(f"ended by {report.signal.name}")
    return report.end(128 + report.signal)


def say_cause(outcome: Outcome, report: Report) -> None:
    """Say why a playbook failed, and where its log is."""
    say_error(outcome, cause_of(outcome), report)


def say_error(outcome: Outcome, cause: str, report: Report) -> None:
    """Say an error, and where the playbook's log is."""
    report.log = outcome.log
    report.error(cause, f"error: {cause}" + (f" (log: {outcome.log})" if outcome.log else ""))


def failure_status(run: Supervised) -> int:
    """What a run leaves with that is not simply done."""
    if run.left != []:
        return Status.LEFT_BEHIND
    return Status.FAILED if run.signal is None else 128 + run.signal


def tell_failure(run: Supervised, report: Report, complete: bool = False) -> None:
    """Say how a run failed that is not simply done, and what is left of it.

    :param complete: its job was done nevertheless, before a signal or while cleaning up.
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
    if outcome.tagged and not complete:
        report.warn(
            f"{outcome.volume_id} holds the whole backup, but it is not known whether it has left its "
            "instance; that command keeps it"
        )


def end_failed(run: Supervised, report: Report) -> int:
    """Say how a run failed that has no result; return the status to leave with."""
    tell_failure(run, report)
    return report.end(failure_status(run))
