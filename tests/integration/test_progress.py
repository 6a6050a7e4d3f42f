"""What a person sees of a run, with a terminal and without."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

COMMAND = "./ec2_backup_runner.py"
# Passes the archive on at some 16 MiB/s for three seconds, so that progress is shown.
SLOW = "for i in 1 2 3 4 5 6; do head -c 8388608; sleep 0.5; done; cat"
STREAMING = r"streaming \d+% .*\d MiB of 61.0 MiB, .*MiB/s, \d+ s left"


@pytest.fixture
def source(tmp_path):
    """A directory of 60 MiB."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "blob").write_bytes(bytes(60 * 1024 * 1024))
    return tmp_path / "data"


def on_terminal(lab, *argv, term="xterm-256color", size=(80, 24), acts=()):
    """Run the wrapper on a terminal in the lab, and return what was seen."""
    asked = {"argv": [COMMAND, *map(str, argv)], "term": term, "columns": size[0], "rows": size[1], "acts": acts}
    done = lab.run(sys.executable, Path(__file__).with_name("terminal.py"), json.dumps(asked))
    assert done.rc == 0, done
    seen = json.loads(done.stdout)
    assert seen["left"] == []
    assert "\x1b[?25l" not in seen["raw"]  # the cursor is never hidden, so it need not be restored
    return seen


@pytest.mark.heavy
def test_a_terminal_shows_one_line_that_changes_and_leaves_a_summary(lab, source):
    acts = [["launching", [200, 50]], ["streaming 1", "usr1"], ["streaming 4", [180, 50]]]
    seen = on_terminal(lab, "-l", SLOW, source, acts=acts)
    assert seen["status"] == 0
    asked, summary, volume = seen["screens"][-1]
    assert re.fullmatch(r"ec2-backup: streaming \d+%, \d+\.\d MiB of 61\.0 MiB.*", asked)
    assert re.match(r"ec2-backup: 61\.0 MiB in .*: .*launching .*, waiting for SSH .*, streaming", summary)
    assert volume.startswith("vol-")
    last = [screen[-1] for screen in seen["screens"]]
    for phase in ("measuring", "launching, ", "waiting for SSH, ", "committing, ", "cleaning up, "):
        assert any(line.startswith(phase) for line in last), phase
    assert any(re.match(STREAMING, line) and "━" in line for line in last)
    assert max(len(screen) for screen in seen["screens"]) <= 4

    plain = on_terminal(lab, "list", term="dumb")
    assert plain["status"] == 0
    assert "\x1b" not in plain["raw"]
    assert re.match(r"ec2-backup: \S+Z starting\r\nec2-backup: \S+Z looking for volumes\r\n", plain["raw"])

    restored = lab.backup("--progress=json", "-l", "cat", source, LANG="C")
    assert restored.rc == 0
    told = [json.loads(line) for line in restored.stderr.splitlines()]
    assert told[-1]["type"] == "summary"
    assert {"launching", "streaming", "committing", "cleaning up"} <= set(told[-1]["phases"])


def test_an_interrupted_stream_leaves_the_terminal_and_the_account_clean(lab, source):
    seen = on_terminal(lab, "-l", SLOW, source, size=(200, 50), acts=[["streaming 2", "interrupt"]])
    assert seen["status"] == 130
    text = seen["screens"][-1]
    assert text[0].endswith("ec2-backup: SIGINT: ending run " + text[0].split()[-6] + " and cleaning up after it")
    assert re.match(r"ec2-backup: \d+\.\d MiB of 61\.0 MiB in .*: ", text[1])
    assert text[2].startswith("ec2-backup: error: ended by SIGINT")
    assert len(text) == 3
    lab.assert_nothing_left()


@pytest.mark.heavy
def test_a_restore_tells_its_progress_without_a_terminal(lab, source, tmp_path):
    volume = lab.backup(source).volume_id
    done = lab.backup("restore", "--progress=json", volume, tmp_path / "restored")
    assert done.rc == 0, done
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["total"] for line in told if line.get("phase") == "restoring"} == {61 * 1024 * 1024}
    assert told[-1]["bytes"] == 61 * 1024 * 1024
    verified = lab.backup("verify", "--verbose", volume, TERM="dumb")
    assert re.search(r"^ec2-backup: \S+Z verifying$", verified.stderr, re.M)
    assert re.search(r"^ec2-backup: \S+Z 61\.0 MiB in .*: .*verifying", verified.stderr, re.M)
    full = lab.run("sh", "-c", f"{COMMAND} list --verbose 2>/dev/full && {COMMAND} list --progress=always 2>&-")
    assert (full.rc, full.stdout.count(volume)) == (0, 2), full
