"""Restoring in whole runs: round trips, parts of a backup, damaged volumes, those of older tools, and hostile ones."""

import hashlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.measure import data_regions
from ec2_backup.commands import restore as command
from tests.integration import hard, images
from tests.integration.conftest import Done, Lab


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small directory."""
    return images.small(tmp_path / "source")


def digest(path: Path) -> str:
    """The SHA-256 of an image: of its data and its offsets, without its holes."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        for offset, length in data_regions(file.fileno(), path.stat().st_size):
            total.update(b"%d %d " % (offset, length))
            file.seek(offset)
            total.update(file.read(length))
    return total.hexdigest()


def restore(lab: Lab, *argv: str | Path, **environment: str) -> Done:
    """Run the wrapper's restore in a lab."""
    return lab.backup("restore", *argv, **environment)


def error(done: Done) -> str:
    """The one line that a failed restore says; it fails with status 1 and prints nothing."""
    assert (done.rc, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert done.stderr.startswith("ec2-backup: error: ")
    return done.stderr


def test_a_volume_and_its_snapshot_give_back_all_of_a_directory_and_stay_as_they_are(quick, tmp_path):
    lab = quick
    source = hard.make(tmp_path / "source")
    volume = lab.backup(source).volume_id
    before, tags = digest(lab.image(volume)), lab.volumes()[volume]["Tags"]

    done = restore(lab, volume, tmp_path / "copy")
    assert (done.rc, done.stdout, done.stderr) == (0, "", "")
    assert hard.differences(source, tmp_path / "copy") == []
    lab.assert_nothing_left(volume)
    assert digest(lab.image(volume)) == before
    assert lab.volumes()[volume]["Tags"] == tags

    snapshot = lab.api("create_snapshot", VolumeId=volume)["SnapshotId"]
    lab.api("delete_tags", Resources=[volume, snapshot])
    asked = {"ec2_backup_volume_id": snapshot, "ec2_backup_target": str(tmp_path / "second")}
    done = lab.run("ansible-playbook", "ec2_backup.ebs.restore", "-e", json.dumps(asked))
    assert done.rc == 0, done
    assert hard.differences(source, tmp_path / "second") == []
    lab.assert_nothing_left(volume)  # the volume that was made of the snapshot is deleted


@pytest.mark.heavy
def test_chosen_members_are_restored_or_listed_and_what_is_there_survives(quick, source, tmp_path):
    lab = quick
    volume = images.good(source)["unfiltered"].write(lab)
    before = digest(lab.image(volume))

    listed = restore(lab, "--list-files", volume)
    assert (listed.rc, listed.stderr) == (0, "")
    names = ["./", "./a file", "./link", "./sub/", "./sub/big", "./sub/deeper/", "./sub/deeper/file"]
    assert listed.stdout.splitlines() == names

    target = tmp_path / "target"
    (target / "sub").mkdir(parents=True)
    (target / "mine").write_text("mine")
    (target / "sub" / "mine").write_text("mine, too")
    (target / "a file").write_text("an older one")
    done = restore(lab, "--force", "--path", "a file", "--path", "/sub/deeper/", volume, target)
    assert (done.rc, done.stdout, done.stderr) == (0, "", "")
    found = {str(path.relative_to(target)): path.read_text() for path in target.rglob("*") if path.is_file()}
    assert found == {"mine": "mine", "sub/mine": "mine, too", "a file": "a", "sub/deeper/file": "deep"}

    told = error(restore(lab, "--path", "a file", "--path", "absent", volume, tmp_path / "other"))
    assert "not in the backup: absent (the names in it can be listed)" in told
    assert (tmp_path / "other" / "a file").read_text() == "a"

    assert digest(lab.image(volume)) == before
    lab.assert_nothing_left(volume)


def test_what_cannot_be_restored_is_refused_before_anything_is_launched(quick, tmp_path):
    lab = quick
    volume = lab.make_volume()
    full = tmp_path / "full"
    full.mkdir()
    (full / "precious").write_text("p")
    absent, target = "vol-0123456789abcdef0", tmp_path / "target"

    words = f"{full} is not empty (it holds precious): use --force (ec2_backup_restore_force)"
    assert words in error(restore(lab, volume, full))
    assert f"there is no {tmp_path}/no: make that first" in error(restore(lab, volume, tmp_path / "no" / "target"))
    assert f"Volume {absent} was not found in us-east-1, nor in" in error(restore(lab, absent, target))
    absent = "snap-0123456789abcdef0"
    assert f"Snapshot {absent} was not found in us-east-1: name one of" in error(restore(lab, absent, target))
    assert lab.calls("RunInstances") == lab.calls("CreateSecurityGroup") == []

    image = lab.api("describe_images", Filters=[{"Name": "name", "Values": ["al2023*x86_64*"]}])["Images"][0]["ImageId"]
    mapping = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "DeleteOnTermination": False}}
    wanted = {"ImageId": image, "InstanceType": "t3.nano", "BlockDeviceMappings": [mapping]}
    owner = lab.api("run_instances", MinCount=1, MaxCount=1, **wanted)["Instances"][0]["InstanceId"]
    (used,) = [
        name for name, found in lab.volumes().items() if (found["Attachments"] or [{}])[0].get("Device") == "/dev/sdf"
    ]
    told = error(restore(lab, used, target))
    assert f"Volume {used} cannot be read: it is in-use, attached to {owner}. Detach it first" in told
    assert len(lab.calls("RunInstances")) == 1
    assert lab.volumes()[used]["State"] == "in-use"
    assert not target.exists()


# What rsync says of an entry whose owner and group alone differ, by kind; setuid goes with the owner.
OWNERS = {f"{kind}{mode}" for kind in (".f", ".d", ".L", "hf", "cL", "cS", ".S") for mode in ("....og...", "...pog...")}


@pytest.mark.heavy
def test_an_ordinary_user_gets_all_but_what_only_root_may_set_and_one_warning_says_so(quick, tmp_path):
    """With the capability to read the files of others, since the interpreter may be in root's home."""
    lab = quick
    source = hard.make(tmp_path / "source")
    stream = images.tar(source)
    volume = images.Image(stream, images.block(stream)).write(lab)
    for name in ("home", "place"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, 65534, 65534)
    reads = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    plain = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *reads, "--")
    target = tmp_path / "place" / "copy"
    done = lab.run(*plain, "./ec2_backup_runner.py", "restore", volume, target, HOME=str(tmp_path / "home"))
    assert (done.rc, done.stdout) == (0, ""), done
    said = r"ec2-backup: warning: restored as uid 65534: \d+ owners could not be restored \(run as root\)\n"
    assert re.fullmatch(said, done.stderr), done.stderr
    found = hard.differences(source, target)
    assert {line.split(" ")[0] for line in found} <= OWNERS, found
    assert (target / "file").stat().st_uid == 65534
    assert (target / "file").read_bytes() == (source / "file").read_bytes()
    assert os.getxattr(target / "file", "user.colour") == b"blue\0green"
    lab.assert_nothing_left(volume)


def test_a_hostile_archive_changes_nothing_outside_of_the_target_and_is_not_trusted(quick, tmp_path):
    lab = quick
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    volume = images.hostile(outside).write(lab)
    target = tmp_path / "place" / "target"
    target.parent.mkdir()
    told = error(restore(lab, volume, target))
    assert re.search(r"the archive tried to leave the target \d+ times, which was refused; do not trust it", told)
    assert f"what was restored to {target} is suspect" in told
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "secret"
    assert (outside / "secret").stat().st_nlink == 1
    assert [path.name for path in target.parent.iterdir()] == ["target"]
    assert (target / "honest").read_text() == "good"
    lab.assert_nothing_left(volume)


def test_the_wrappers_options_are_the_variables_that_the_fleet_below_is_given():
    argv = ["-l", "tr a b", "-r", "cat", "--force", "--path", "a", "vol-0123456789abcdef0", "/t"]
    assert command.role_variables(command.parser().parse_args(argv), "r", None) == {
        "ec2_backup_volume_id": "vol-0123456789abcdef0",
        "ec2_backup_run_id": "r",
        "ec2_backup_target": "/t",
        "ec2_backup_members": ["a"],
        "ec2_backup_restore_force": True,
        "ec2_backup_restore_local_filter": "tr a b",
        "ec2_backup_restore_remote_filter": "cat",
    }


# ---- a fleet: each host restores its own volume, in one play ---------------------------------------------------------

SITE = """\
- hosts: all
  gather_facts: false
  environment: "{{ surroundings | default({}) }}"
  tasks:
    - name: Restore, and keep what came of it
      block:
        - ansible.builtin.include_role:
            name: ec2_backup.ebs.restore
        - ansible.builtin.copy:
            content: "{{ ec2_backup_restored | to_json }}"
            dest: "{{ report }}.restored"
            mode: "0644"
      rescue:
        - ansible.builtin.copy:
            content: "{{ ansible_failed_result.msg }}"
            dest: "{{ report }}.failed"
            mode: "0644"
        - ansible.builtin.fail:
"""


class Fleet:
    """Hosts that restore a volume each, in one play of their own."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab, self.directory = lab, directory
        self.hosts: dict[str, dict[str, Any]] = {}
        self.volumes: dict[str, str] = {}
        (directory / "targets").mkdir()
        (directory / "reports").mkdir()

    def add(self, name: str, image: images.Image, **variables: Any) -> None:
        """Make a volume, and a host that is to restore it."""
        self.volumes[name] = image.write(self.lab)
        self.hosts[name] = {
            "ansible_connection": "local",
            # A Python without boto3: what needs AWS runs on the controller.
            "ansible_python_interpreter": os.path.realpath(sys.executable),
            "ec2_backup_volume_id": self.volumes[name],
            "ec2_backup_target": str(self.target(name)),
            "report": str(self.directory / "reports" / name),
            **variables,
        }

    def target(self, name: str) -> Path:
        """Where a host restores to."""
        return self.directory / "targets" / name

    def run(self) -> Done:
        """Have them all restore; fail if that changes a volume, or leaves anything behind."""
        before = {name: digest(self.lab.image(volume)) for name, volume in self.volumes.items()}
        (self.directory / "site.yml").write_text(SITE)
        (self.directory / "hosts.json").write_text(json.dumps({"all": {"hosts": self.hosts}}))
        inventory, site = self.directory / "hosts.json", self.directory / "site.yml"
        group = json.dumps({"ec2_backup_security_group_ids": [self.lab.make_group()]})
        done = self.lab.run("ansible-playbook", "--forks", "8", "-e", group, "-i", inventory, site)
        assert {name: digest(self.lab.image(volume)) for name, volume in self.volumes.items()} == before
        self.lab.assert_nothing_left(*self.volumes.values())
        return done

    def told(self, end: str) -> dict[str, str]:
        """What each host printed at its end, for those that ``restored`` or ``failed``."""
        return {path.stem: path.read_text() for path in (self.directory / "reports").glob(f"*.{end}")}


def path_without(program: str, directory: Path) -> str:
    """A PATH with all but one of this machine's programs."""
    directory.mkdir()
    for place in os.get_exec_path():
        for found in Path(place).glob("*"):
            if found.name != program and not (directory / found.name).is_symlink():
                (directory / found.name).symlink_to(found)
    return str(directory)


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_a_fleet_restores_whatever_was_filtered_enlarged_or_written_by_an_older_tool(quick, source, tmp_path):
    fleet = Fleet(quick, tmp_path)
    good = images.good(source)
    unknown = images.rot13(source)
    fleet.add("enlarged", good["enlarged"])
    fleet.add("filtered-twice", good["filtered-twice"])
    fleet.add("older-tool", images.plain(source))
    fleet.add("filter-told", unknown, ec2_backup_restore_local_filter=images.ROT13)
    fleet.add("filter-unknown", unknown)
    fleet.add("program-missing", good["enlarged"], surroundings={"PATH": path_without("gzip", tmp_path / "bin")})
    done = fleet.run()
    assert done.rc == 2, done

    restored = {name: json.loads(text) for name, text in fleet.told("restored").items()}
    assert sorted(restored) == ["enlarged", "filter-told", "filtered-twice", "older-tool"]
    assert [line for name in restored for line in hard.differences(source, fleet.target(name))] == []
    assert {name for name, result in restored.items() if result["plain"]} == {"older-tool"}
    warning = f"warning: {fleet.volumes['older-tool']} has no manifest: it was written by an older tool."
    assert warning in " ".join(done.stdout.split())

    failed = fleet.told("failed")
    assert sorted(failed) == ["filter-unknown", "program-missing"]
    assert unknown.words in failed["filter-unknown"]
    assert failed["filter-unknown"].endswith("it is said to be undone by: rm -rf /")  # and was not run
    assert "gzip, which undoes the filter of its archive, is not installed on this host" in failed["program-missing"]
    assert {path.name for path in (tmp_path / "targets").iterdir()} == set(restored)


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_the_restore_of_a_damaged_backup_fails_with_the_right_message_and_leaves_nothing(quick, source, tmp_path):
    fleet = Fleet(quick, tmp_path)
    # The messages of the others come from the task that reads the manifest, which verify has too.
    bad = {name: images.bad(source)[name] for name in ("data", "json", "manifest-zeroed-or-cut-off", "newer")}
    for name, image in bad.items():
        fleet.add(name, image)
    done = fleet.run()
    assert done.rc == 2, done
    failed = fleet.told("failed")
    wrong = {name: failed.get(name) for name, image in bad.items() if image.words not in failed.get(name, "")}
    assert wrong == {}
    assert fleet.told("restored") == {}
    suspect = {name for name, text in failed.items() if f"{fleet.target(name)} is suspect" in text}
    assert {path.name for path in (tmp_path / "targets").iterdir()} == suspect
