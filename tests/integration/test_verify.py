"""Verifying in whole runs: good and bad volumes, comparison with the source, and the read-back of a backup."""

import os
from pathlib import Path

import pytest

from tests.integration import images
from tests.integration.conftest import QUICK
from tests.integration.test_restore import error, restore


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small directory."""
    return images.small(tmp_path / "source")


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_all_volumes_are_tried_and_each_has_a_line_and_one_bad_one_makes_the_status_1(quick, source):
    lab = quick
    good = images.good(source)
    bad = {**images.bad(source), "stale": images.stale(source)}
    found = {"unfiltered": good["unfiltered"], **bad, "enlarged": good["enlarged"], "older-tool": images.plain(source)}
    volumes = {name: image.write(lab) for name, image in found.items()}
    group = f'ec2_backup_security_group_ids=["{lab.make_group()}"]'
    done = lab.backup("verify", "-e", group, *volumes.values())
    assert done.rc == 1, done
    lines = dict(zip(volumes, done.stdout.splitlines(), strict=True))
    assert all(lines[name].startswith(f"{volume} ") for name, volume in volumes.items())
    said = {name: line.split(" ", 1)[1] for name, line in lines.items()}
    assert said["unfiltered"] == "good: 3145728 bytes, 7 members."
    assert said["enlarged"] == f"good: {len(good['enlarged'].first)} bytes, 7 members."
    assert said["older-tool"].startswith(
        "unchecked: it has no manifest, since an older tool wrote it: there is nothing to"
    )
    assert [said[name] for name, image in bad.items() if image.words not in said[name]] == []
    words = {name: said[name].partition(":")[0] for name in bad}
    assert words == {**dict.fromkeys(bad, "BAD"), "newer": "unchecked"}
    lab.assert_nothing_left(*volumes.values())


def test_a_volume_that_could_not_be_looked_at_is_not_called_bad(make_lab, source):
    lab = make_lab(**{**QUICK, "EC2_LAB_BOOT": "never"})
    volume = images.good(source)["unfiltered"].write(lab)
    done = lab.backup("verify", "-e", "ec2_backup_ready_timeout=1", volume)
    assert done.rc == 1, done
    assert done.stdout.startswith(f"{volume} unchecked: no SSH login on ")
    lab.assert_nothing_left(volume)


@pytest.mark.heavy
def test_a_backup_that_was_read_back_is_compared_with_its_source_and_the_differences_are_named(quick, source):
    lab = quick
    volume = lab.backup("--verify", "-r", "gzip -1", source).volume_id
    (source / "a file").write_text("another")
    (source / "sub" / "deeper" / "file").unlink()
    (source / "sub" / "new").write_text("n")
    done = lab.backup("verify", "--against", source, volume)
    assert done.rc == 1, done
    assert done.stdout.startswith(f"{volume} differs: its data is what was backed up, but {source} differs in ")
    said = done.stderr.splitlines()
    assert "ec2-backup: ./a file: Size differs" in said
    assert "ec2-backup: ./sub/deeper/file: is not there any more" in said
    assert "ec2-backup: ./sub/new: is not in the backup" in said
    lab.assert_nothing_left(volume)


@pytest.mark.heavy
def test_a_backup_that_cannot_be_read_back_as_it_was_sent_fails(quick, source):
    """What undoes the remote filter is wrong: as with a device that returns other bytes than were written to it."""
    wrong = ("-r", "tr a-z n-za-m", "-e", "ec2_backup_remote_filter_inverse=cat")
    told = error(quick.backup("--verify", *wrong, source))
    assert "the data on it is not what was sent: its SHA-256 is" in told
    quick.assert_nothing_left()


# As if the power failed: no process of the run is left to end it. (Ansible would go on without the wrapper.)
KILLED = """\
setsid ./ec2_backup_runner.py -l 'head -c 2000000; sleep 100' -v "$1" "$2" >/dev/null 2>&1 &
until ! cmp -s -n 1048576 "$3" "$4"; do sleep 0.1; done
kill -KILL -$!
for process in $(grep -lz '^EC2_BACKUP_RUN_ID=' /proc/[0-9]*/environ 2>/dev/null); do
  process=${process%/environ}
  kill -KILL "${process#/proc/}" 2>/dev/null
done
true
"""


def test_after_an_overwrite_that_was_killed_neither_the_old_nor_the_new_backup_is_valid(quick, source, tmp_path):
    lab = quick
    image = images.good(source)["unfiltered"]
    volume = image.write(lab)
    (tmp_path / "before").write_bytes(image.first)
    os.utime(source / "a file", (0, 0))  # in the archive's first MiB
    lab.run("sh", "-c", KILLED, "sh", volume, source, tmp_path / "before", lab.image(volume))
    running = [i["InstanceId"] for i in lab.instances() if i["State"]["Name"] == "running"]
    lab.api("terminate_instances", InstanceIds=running)  # as its watchdog would do later
    while lab.volumes()[volume]["State"] != "available":
        pass

    words = "it holds no complete backup: the one of"
    assert words in error(restore(lab, volume, tmp_path / "target"))
    assert not (tmp_path / "target").exists()
    verified = lab.backup("verify", volume)
    assert verified.rc == 1, verified
    assert verified.stdout.startswith(f"{volume} BAD: {words}")
    listed = lab.backup("list")
    (line,) = [line for line in listed.stdout.splitlines() if line.startswith(volume)]
    assert " interrupted " in line
