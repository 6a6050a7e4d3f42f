"""What --json prints, for every command and every way to end: held to the schema, and that to the documentation."""

from __future__ import annotations

import base64
import dataclasses
import errno
import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.estimate import backup_plan
from ec2_backup import cli
from ec2_backup.commands import backup, cleanup, listing, restore, verify
from ec2_backup.run import supervise
from ec2_backup.run.outcome import Outcome
from ec2_backup.run.playbook import Observer
from ec2_backup.run.supervise import Supervised
from ec2_backup.show import report
from ec2_backup.show.display import watch
from ec2_backup.status import UserError, json_line, say, speak_json
from tests.unit.entries import entry
from tests.unit.test_estimate import FACTS

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "ec2_backup/show/schema.json").read_text())
COMMANDS = {"backup": backup, "restore": restore, "verify": verify, "list": listing, "cleanup": cleanup}
RUN = "20261122t184500z-1f2e3d4c"
VOLUME = "vol-0123456789abcdef0"
SUM = "49bcd9f05fc0c143ef5f740229e4a38c5d3c65fdb5773ac983a8ad2f2276e16c"
ODD = "/srv/\udcff"  # as Python makes it of a name that is not UTF-8
ODD_NAME = {"base64": base64.b64encode(b"/srv/\xff").decode()}


@dataclasses.dataclass
class Said:
    """What a command printed, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def result(self) -> Any:
        """The object on stdout; fails if there is more than that, or if it is not as the schema says."""
        if not self.out:
            return None
        assert self.out.count("\n") == 1, self.out
        assert self.out.isascii()
        told = json.loads(self.out)
        check(told)
        assert told["type"] == "result"
        assert told["status"] == self.status
        return told

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The objects on stderr; fails if one is not as the schema says."""
        found = [json.loads(line) for line in self.err.splitlines()]
        for told in found:
            check(told)
        return found

    @property
    def error(self) -> Any:
        """The error; fails if there is one too many, or one too few."""
        errors = [told for told in self.lines if told["type"] == "error"]
        assert len(errors) == (0 if self.status in (0, 3) else 1), self
        if not errors:
            return None
        assert self.lines[-1] == errors[0]
        assert errors[0]["status"] == self.status
        return errors[0]


def definition(told: dict[str, Any]) -> str:
    """Which definition of the schema an object has to be held to: the schema itself would only say that none fits."""
    if told["type"] != "result":
        return str(told["type"])
    return "dry_run" if told["command"] == "backup" and told["dry_run"] else str(told["command"])


def check(told: dict[str, Any]) -> None:
    """Hold an object to the schema."""
    jsonschema.Draft202012Validator({**SCHEMA, "anyOf": [{"$ref": f"#/$defs/{definition(told)}"}]}).validate(told)
    jsonschema.Draft202012Validator(SCHEMA).validate(told)


# ---- how the commands can end ---------------------------------------------------------------------------------------

RESULT = {
    "volume_id": VOLUME,
    "source": {"host": "web1", "path": "/srv/data"},
    "bytes": 1048576,
    "stored_bytes": 1048576,
    "sha256": SUM,
    "size_gib": 1,
    "zone": "us-east-1a",
    "region": "us-east-1",
    "warnings": [],
}
MANIFEST = {
    "state": "complete",
    "run_id": RUN,
    "source": {"host": "web1", "path": ODD},
    "stream": {"bytes": 1048576, "sha256": SUM},
    "stored": {"bytes": 1048576},
    "filters": {"local": None, "remote": None},
    "started": "2026-11-22T18:45:00Z",
    "finished": "2026-11-22T18:45:02Z",
    "warnings": 2,
    "volume": {"bytes": 1073741824},
    "tool": {"name": "ec2-backup", "version": "0.1.0"},
    "later": "a field that this release does not know",
}
RESTORED = {
    "volume_id": VOLUME,
    "target": "/srv/restored",
    "bytes": 1048576,
    "sha256": SUM,
    "members": 12,
    "denied": "",
    "plain": False,
    "manifest": MANIFEST,
    "seconds": 0.2,
}
GOOD = {
    "volume_id": VOLUME,
    "good": True,
    "checked": True,
    "bytes": 1048576,
    "sha256": SUM,
    "members": 12,
    "manifest": MANIFEST,
    "differences": [],
    "differences_count": 0,
    "message": f"Volume {VOLUME}: good, 1048576 bytes, 12 members.",
}
ENCRYPTED = {**GOOD, "members": -1}  # encrypted: not counted
DIFFERS = {
    **GOOD,
    "good": False,
    "differences": ["./a: Mod time differs"],
    "differences_count": 1,
    "message": f"Volume {VOLUME}: its data is what was backed up, but /srv/data differs in 1 places.",
}
BAD = {
    "volume_id": "vol-0123456789abcdef1",
    "good": False,
    "checked": True,
    "message": "Volume vol-0123456789abcdef1: it is damaged",
}
UNCHECKED = {"volume_id": "vol-0123456789abcdef2", "good": False, "checked": False, "message": "no SSH login"}
PLAN = {**backup_plan(FACTS), "source": {"host": "web1", "path": ODD}}
ENTRY = entry(volume_id=VOLUME, name="the Name", run_id=RUN)
UNKNOWN = dict.fromkeys(ENTRY) | {"volume_id": "vol-0123456789abcdef1", "state": "unknown"}
INSTANCE = {"kind": "instance", "id": "i-0123456789abcdef0", "action": "terminated", "run_id": RUN}
GROUP = {"kind": "security-group", "id": "sg-0123456789abcdef0", "action": "deleted", "run_id": RUN}
CLEANED = {"run_id": RUN, "complete": [VOLUME], "removed": [INSTANCE], "would": [], "left": [], "kept": []}

LOG = Path("/var/log/\udcff.log")


def outcome(rc: int = 0, **more: Any) -> Outcome:
    """An outcome."""
    return Outcome(rc=rc, **more)


def backed_up(
    caught: signal.Signals | None = None, left: list[str] | None = None, rc: int = 0, **more: Any
) -> Supervised:
    """A backup that is complete."""
    results = {"ec2_backup_results": {"localhost": {**RESULT, **more}}}
    return Supervised(outcome(rc, results=results), caught, [] if left is None else left)


def returned(key: str, value: Any, rc: int = 0, caught: signal.Signals | None = None, **more: Any) -> Supervised:
    """A run that returned something."""
    return Supervised(outcome(rc, results={key: value}, **more), caught, [])


def failed(caught: signal.Signals | None = None, left: list[str] | None = None, **more: Any) -> Supervised:
    """A run that returned nothing."""
    failures = ["the cause", "cleaning up: no answer"]
    return Supervised(outcome(2, failures=failures, log=LOG, **more), caught, [] if left is None else left)


NOT_KNOWN = Supervised(outcome(2, region="eu-west-1"), None, None)

Ways = dict[str, tuple[list[str], Supervised, int]]
TARGET = [VOLUME, "/srv/restored"]
BACKUP: Ways = {
    "done": (["/srv"], backed_up(), 0),
    "done, told by the account": (
        ["/srv"],
        Supervised(outcome(-9, prepared={**RESULT, "warnings": ["./a: changed"]}), None, [], (VOLUME,)),
        3,
    ),
    "done, late": (["/srv"], backed_up(rc=2), 0),
    "incomplete": (["/srv"], backed_up(warnings=["./log\udcff: file changed as we read it"]), 3),
    "failed": (["/srv"], failed(), 1),
    "left behind": (["/srv"], failed(left=["i-0123456789abcdef0"], complete=VOLUME, volume_id=VOLUME), 4),
    "left behind, not known what": (["/srv"], NOT_KNOWN, 4),
    "left behind, complete": (["/srv"], backed_up(left=["sg-0123456789abcdef0"]), 4),
    "signal": (["/srv"], failed(signal.SIGINT), 130),
    "signal, complete": (["/srv"], backed_up(signal.SIGTERM), 143),
    "usage": (["-v", "vol-1", "/srv"], backed_up(), 2),
    "dry": (["--dry-run", "/srv"], returned("ec2_backup_plans", {"localhost": PLAN}), 0),
    "dry, failed": (["--dry-run", "/srv"], failed(), 1),
    "dry, signal": (["--dry-run", "/srv"], failed(signal.SIGINT), 130),
}
RESTORE: Ways = {
    "done": (TARGET, returned("ec2_backup_restored", {"localhost": RESTORED}), 0),
    "older tool": (TARGET, returned("ec2_backup_restored", {"localhost": {**RESTORED, "manifest": {}}}), 0),
    "denied": (TARGET, returned("ec2_backup_restored", {"localhost": {**RESTORED, "denied": "12 owners"}}), 0),
    "odd target": (TARGET, returned("ec2_backup_restored", {"localhost": {**RESTORED, "target": ODD}}), 0),
    "listed": (
        ["--list-files", VOLUME],
        returned("ec2_backup_restored", {"localhost": {**RESTORED, "target": ""}}),
        0,
    ),
    "failed": (TARGET, failed(), 1),
    "left behind": (TARGET, failed(left=["i-0123456789abcdef0"]), 4),
    "signal": (TARGET, failed(signal.SIGINT), 130),
    "usage": ([VOLUME], failed(), 2),
}
VERIFY: Ways = {
    "good": ([VOLUME], returned("ec2_backup_verified", {"localhost": [GOOD, ENCRYPTED]}), 0),
    "bad": ([VOLUME], returned("ec2_backup_verified", {"localhost": [GOOD, DIFFERS, BAD, UNCHECKED]}, 2), 1),
    "warned": ([VOLUME], returned("ec2_backup_verified", {"localhost": [GOOD]}, warnings=["not pinned"]), 0),
    "failed": ([VOLUME], failed(), 1),
    "left behind": ([VOLUME], failed(left=["i-0123456789abcdef0"]), 4),
    "signal": ([VOLUME], returned("ec2_backup_verified", {"localhost": [GOOD]}, 254, signal.SIGINT), 130),
    "usage": ([], failed(), 2),
}
LIST: Ways = {
    "done": ([], returned("ec2_backup_catalog", [ENTRY, UNKNOWN]), 0),
    "none": ([], returned("ec2_backup_catalog", []), 0),
    "failed": ([], failed(), 1),
    "signal": ([], failed(signal.SIGINT), 130),
    "usage": (["--source", ""], failed(), 2),
}
STUCK = {**CLEANED, "left": [{**GROUP, "why": "denied"}], "kept": [{**GROUP, "why": "i-1 uses it"}]}
CLEANUP: Ways = {
    "done": (["--run-id", RUN], returned("ec2_backup_cleanup", CLEANED), 0),
    "dry": (["--dry-run"], returned("ec2_backup_cleanup", {**CLEANED, "removed": [], "would": [GROUP]}), 0),
    "failed": ([], failed(), 1),
    "left behind": (["--run-id", RUN], returned("ec2_backup_cleanup", STUCK, 2, failures=["it is left"]), 4),
    "left behind of all": ([], returned("ec2_backup_cleanup", STUCK, 2), 4),
    "signal": ([], failed(signal.SIGINT), 130),
    "usage": (["--frobnicate"], failed(), 2),
}
WAYS = {"backup": BACKUP, "restore": RESTORE, "verify": VERIFY, "list": LIST, "cleanup": CLEANUP}
CASES = [pytest.param(command, way, id=f"{command}: {way}") for command, ways in WAYS.items() for way in ways]
LISTED = "./\n./a\\\\b\n./new\\nline\n./ä\n./\\377\n./\\033[2J\n"  # as stream_receive writes names

Run = Callable[..., Said]


@pytest.fixture
def run(monkeypatch, capsys) -> Run:
    """Run a command as one of those ways; further words may be put before its arguments."""
    for module in COMMANDS.values():
        monkeypatch.setattr(module, "new_run_id", lambda: RUN)
    for name in ("EC2_BACKUP_FLAGS_AWS", "EC2_BACKUP_FLAGS_SSH", "EC2_BACKUP_VERBOSE"):
        monkeypatch.delenv(name, raising=False)

    def run(command: str, way: str, *words: str) -> Said:
        arguments, ended, _ = WAYS[command][way]

        def supervised(variables: dict[str, Any], observer: Observer) -> Supervised:
            listed = variables.get("ec2_backup_restore_listing")
            if listed:
                Path(listed).write_text(LISTED)
            observer.begin(command, Path(os.devnull))
            return dataclasses.replace(ended, outcome=dataclasses.replace(ended.outcome))

        for made in (backup, restore, verify):
            monkeypatch.setattr(made, "supervise", lambda name, variables, run_id, seen: supervised(variables, seen))
        for made in (backup, listing, cleanup):
            monkeypatch.setattr(made, "attend", lambda name, run_id, variables, seen: supervised(variables, seen))
        status = cli.main([command, "--json", *words, *arguments])
        return Said(status, *capsys.readouterr())

    return run


@pytest.mark.parametrize(("command", "way"), CASES)
def test_every_end_is_one_object_on_stdout_or_none_and_one_error_on_stderr_or_none(run, command, way):
    said = run(command, way)
    assert said.status == WAYS[command][way][2]
    for told in filter(None, (said.result, said.error)):
        assert told["command"] == command
    assert said.result or said.error
    assert said.lines == ([said.error] if said.error else [])


# ---- what stands in them --------------------------------------------------------------------------------------------


def test_the_result_of_a_backup_has_all_fields(run):
    said = run("backup", "done")
    assert said.result == {
        **said.result,
        "version": 1,
        "run_id": RUN,
        "warnings": [],
        "dry_run": False,
        **{key: value for key, value in RESULT.items() if key != "warnings"},
    }
    assert list(said.result["phases"]) == ["starting"]
    assert said.result["started"] <= said.result["finished"]


def test_a_backup_of_a_play_that_was_killed_tells_what_was_seen_of_it(run, monkeypatch):
    outcome = Outcome(rc=-9, settled=False, complete=VOLUME, committed=VOLUME, prepared=dict(RESULT))
    monkeypatch.setitem(BACKUP, "killed", (["/srv"], Supervised(outcome, None, []), 0))
    told = run("backup", "killed").result
    assert {key: told[key] for key in RESULT if key != "warnings"} == {
        key: value for key, value in RESULT.items() if key != "warnings"
    }
    assert told["warnings"] == ["ansible-playbook ended with status -9 when the backup was complete already"]


def test_warnings_stand_in_the_result_and_not_on_stderr(run):
    said = run("backup", "incomplete")
    assert (said.result["warnings"], said.err) == ([r"./log\xff: file changed as we read it"], "")
    assert run("restore", "denied").result["warnings"] == ["12 owners"]


def test_warnings_stand_in_the_error_where_there_is_no_result(run):
    said = run("backup", "left behind")
    assert said.result is None
    assert len(said.error["warnings"]) == 1
    assert f"{VOLUME} holds the whole backup" in said.error["warnings"][0]


def test_what_is_left_is_listed_with_the_command_that_removes_it(run):
    error = run("backup", "left behind").error
    assert error == {
        **error,
        "status": 4,
        "run_id": RUN,
        "message": "the cause",
        "log": {"base64": base64.b64encode(os.fsencode(LOG)).decode()},
        "signal": None,
        "left": ["i-0123456789abcdef0"],
        "cleanup_command": f"ec2-backup cleanup --run-id {RUN}",
    }
    assert error["details"][1] == "cleaning up: no answer"
    unknown = run("backup", "left behind, not known what").error
    assert unknown["left"] is None
    assert unknown["cleanup_command"] == f"ec2-backup cleanup --run-id {RUN} --region eu-west-1"


@pytest.mark.parametrize(
    ("way", "command"),
    [
        ("left behind", f"ec2-backup cleanup --run-id {RUN}"),
        ("left behind of all", "ec2-backup cleanup"),
    ],
)
def test_a_cleanup_that_left_something_tells_both_what_it_did_and_what_is_left(run, way, command):
    said = run("cleanup", way)
    assert (said.result["removed"], said.result["left"][0]["why"]) == ([INSTANCE], "denied")
    assert (said.error["left"], said.error["cleanup_command"]) == ([GROUP["id"]], command)


def test_a_cleanup_that_did_not_come_to_its_end_does_not_claim_that_nothing_is_left(run):
    for way in ("failed", "signal"):
        assert run("cleanup", way).error["left"] is None


def test_nothing_is_left_of_a_failure_that_was_cleaned_up_or_that_began_nothing(run):
    for way in ("failed", "signal", "usage"):
        error = run("backup", way).error
        assert (error["left"], error["cleanup_command"]) == ([], None)
    assert run("backup", "usage").error["run_id"] is None


def test_a_signal_is_named_and_a_backup_that_was_complete_is_told_beside_it(run):
    assert run("backup", "signal").error["signal"] == "SIGINT"
    said = run("backup", "signal, complete")
    assert said.result["volume_id"] == VOLUME
    assert said.error["message"] == "SIGTERM: came when the backup was complete already"


def test_what_a_manifest_says_is_told_but_for_what_this_release_does_not_know(run):
    expected = {
        "run_id": RUN,
        "source": {"host": "web1", "path": ODD_NAME},
        "bytes": 1048576,
        "sha256": SUM,
        "stored_bytes": 1048576,
        "started": "2026-11-22T18:45:00Z",
        "finished": "2026-11-22T18:45:02Z",
        "warnings_count": 2,
    }
    assert run("restore", "done").result["backup"] == expected
    assert run("verify", "good").result["volumes"][0]["backup"] == expected
    assert run("restore", "older tool").result["backup"] is None


def test_the_files_of_a_volume_are_a_list_of_names_that_loses_none_of_their_bytes(run):
    told = run("restore", "listed").result
    assert told["files"] == ["./", "./a\\b", "./new\nline", "./ä", {"base64": "Li//"}, "./\x1b[2J"]
    assert list(told)[-1] == "files"
    assert told["target"] is None
    assert "files" not in run("restore", "done").result


def test_a_long_list_of_files_is_not_held_in_memory(monkeypatch):
    class Counting(io.StringIO):
        longest = 0

        def write(self, text):
            self.longest = max(self.longest, len(text))
            return len(text)

    speak_json(True)
    out = Counting()
    monkeypatch.setattr(sys, "stdout", out)
    many = (f"./{number}" for number in range(100_000))
    assert report.Report("restore", RUN, {}).result(0, {}, [], "the list", ("files", many))
    assert 0 < out.longest < 500


def test_each_volume_is_told_and_the_error_names_those_that_are_not_good(run):
    said = run("verify", "bad")
    good, differs, bad, unchecked = said.result["volumes"]
    assert (bad["checked"], unchecked["checked"], unchecked["message"]) == (True, False, "no SSH login")
    assert (good["good"], good["message"], good["members"]) == (True, "1048576 bytes, 12 members.", 12)
    assert (differs["good"], differs["differences"]) == (False, ["./a: Mod time differs"])
    assert (bad["good"], bad["message"], bad["backup"], bad["members"]) == (False, "it is damaged", None, None)
    assert said.error["message"] == (
        f"3 of 4 are not good: {VOLUME} (differs), vol-0123456789abcdef1 (BAD), vol-0123456789abcdef2 (unchecked)"
    )
    assert run("verify", "good").result["volumes"][1]["members"] is None


def test_a_list_keeps_the_fields_that_the_role_gives_it(run):
    assert run("list", "done").result["volumes"] == [ENTRY, UNKNOWN]


def test_a_full_standard_output_is_an_error_that_names_the_volume(run, monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys, "stdout", Full())
    said = run("backup", "done")
    assert said.status == 1
    assert said.error["message"] == f"{VOLUME} could not be written to standard output: No space left on device"
    assert run("restore", "listed").status == 1


def test_a_closed_standard_output_is_an_error_as_a_full_one_is(run, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    said = run("backup", "done")
    assert (said.status, said.error["message"]) == (
        1,
        f"{VOLUME} could not be written to standard output: Bad file descriptor",
    )


# ---- lines on stderr ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--progress=json"], ["--verbose"], ["--progress=always"]])
def test_progress_is_told_apart_from_the_error_by_its_type(run, words):
    types = [told["type"] for told in run("backup", "failed", *words).lines]
    assert types == ["progress", *["progress"] * (len(types) - 3), "summary", "error"]


@pytest.mark.parametrize("words", [["--progress=auto"], ["--progress=never"]])
def test_there_is_no_progress_that_was_not_asked_for(run, words):
    assert [told["type"] for told in run("backup", "failed", *words).lines] == ["error"]


def test_no_line_is_drawn_on_a_terminal_either(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with watch(backup.parser().parse_args(["--json", "/srv"])) as observer:
        observer.tell("asked")  # as SIGUSR1 does
        observer.finish()
    (line,) = screen.getvalue().splitlines()
    check(json.loads(line))
    assert json.loads(line)["type"] == "progress"


def test_what_is_said_of_a_signal_is_an_object_too(monkeypatch, capsys):
    class Interrupted:
        outcome = Outcome()

        def __init__(self, name, variables, run_id):
            pass

        def run(self, observer):
            os.kill(os.getpid(), signal.SIGINT)
            return Outcome(rc=254)

        def interrupt(self):
            pass

    monkeypatch.setattr(supervise, "Playbook", Interrupted)
    for command in (["list"], ["cleanup"], ["backup", "/srv"]):
        said = Said(cli.main([*command, "--json"]), *capsys.readouterr())
        assert (said.status, said.out) == (130, "")
        assert [told["type"] for told in said.lines] == ["message", "error"]
        assert said.lines[0]["text"].startswith("SIGINT: ending")


def test_a_playbook_that_cannot_be_run_is_an_error_and_no_traceback(monkeypatch, capsys):
    class Broken:
        outcome = Outcome()

        def __init__(self, name, variables, run_id):
            self.outcome = Outcome()

        def run(self, observer):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(supervise, "Playbook", Broken)
    for command in ("list", "cleanup"):
        said = Said(cli.main([command, "--json"]), *capsys.readouterr())
        assert (said.status, said.out) == (1, "")
        assert said.error["message"] == "the playbook could not be run: No space left on device"


def test_a_line_for_people_is_as_before_when_json_is_not_asked_for(capsys):
    speak_json(True)
    assert cli.main(["-v", "vol-1", "--", "--json"]) == 2
    assert capsys.readouterr().err.startswith("ec2-backup: error: ")


def test_an_error_of_a_user_has_its_status(capsys):
    speak_json(True)
    assert report.user_error("backup", UserError("that file cannot be read")) == 1
    assert Said(1, *capsys.readouterr()).error["message"] == "that file cannot be read"


def test_no_lone_surrogate_is_printed():
    check(json.loads(json_line("message", text="\udcff \ud800")))
    assert json.loads(json_line("message", text="\udcffé"))["text"] == r"\xffé"
    assert report.name("\ud800") == r"\ud800"
    assert report.name(b"\xff") == {"base64": "/w=="}
    assert report.name("é") == "é"
    assert report.name(None) is None


def test_what_is_said_is_a_line_of_its_own(capsys):
    speak_json(True)
    say("a\nb")
    (line,) = capsys.readouterr().err.splitlines()
    check(json.loads(line))


# ---- the schema and the documentation -------------------------------------------------------------------------------


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def fields(value: Any) -> set[str]:
    """The names of all fields of an object, at any depth."""
    if isinstance(value, dict):
        return {*value, *(name for item in value.values() for name in fields(item))}
    return {name for item in value for name in fields(item)} if isinstance(value, list) else set()


def every_field(schema: Any) -> set[str]:
    """The names of all fields that a schema knows, at any depth."""
    if isinstance(schema, list):
        return {name for item in schema for name in every_field(item)}
    if not isinstance(schema, dict):
        return set()
    own = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
    return own | {name for item in schema.values() for name in every_field(item)}


def test_the_documentation_has_every_field_of_the_schema_and_no_other():
    text = (ROOT / "docs" / "json.md").read_text()
    told = {name for words in re.findall(r"`([a-z0-9_.]+)`", text) for name in words.split(".")}
    known = every_field({**SCHEMA["$defs"], "progress": {}, "summary": {}})
    assert known - told == set()
    tables = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    listed = {name for cell in tables for words in re.findall(r"`([a-z0-9_.]+)`", cell) for name in words.split(".")}
    assert listed - known - {"message", "progress", "summary"} == set()


def test_every_field_of_the_schema_is_in_an_output(run):
    seen: set[str] = set()
    for command, ways in WAYS.items():
        for way in ways:
            said = run(command, way, "--progress=json")
            seen |= fields([said.result or {}, *said.lines])
    say_nothing = {"text"}  # of a message: test_what_is_said_is_a_line_of_its_own
    assert every_field(SCHEMA["$defs"]) - seen - say_nothing == set()


def test_a_field_that_the_schema_does_not_know_is_seen():
    told = {"version": 1, "type": "message", "time": "2026-11-22T18:45:00Z", "text": ""}
    check(told)
    with pytest.raises(jsonschema.ValidationError):
        check({**told, "more": 1})
