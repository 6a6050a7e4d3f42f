"""The main job in a local EC2, by the wrapper, by the playbook and by the role."""

import hashlib
import os
import re
import sys
from pathlib import Path

import pytest

from tests.integration import hard
from tests.integration.conftest import Lab


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory that is hard to save."""
    return hard.make(tmp_path / "source")


def assert_holds(lab: Lab, volume_id: str, source: Path, target: Path) -> None:
    """Fail unless the volume's bytes, recovered by hand, equal the source."""
    assert hard.differences(source, hard.recover(lab.image(volume_id), target)) == []


def tags(lab: Lab, volume_id: str, region: str = "us-east-1") -> dict[str, str]:
    """A volume's tags."""
    return {tag["Key"]: tag["Value"] for tag in lab.volumes(region)[volume_id].get("Tags", [])}


def test_the_runner_prints_a_volume_that_holds_the_directory_and_leaves_nothing_else(lab, source, tmp_path):
    done = lab.backup(source)
    assert (done.rc, done.stderr) == (0, "")
    assert re.fullmatch(r"vol-[0-9a-f]{17}\n", done.stdout)
    assert_holds(lab, done.volume_id, source, tmp_path / "copy")
    lab.assert_nothing_left(done.volume_id)
    volume = lab.volumes()[done.volume_id]
    assert (volume["VolumeType"], volume["Encrypted"], volume["Size"]) == ("gp3", True, 1)
    found = tags(lab, done.volume_id)
    assert found["ec2-backup:status"] == "complete"
    assert "ec2-backup:expires" not in found
    assert found["ec2-backup:source"].endswith(f":{source}")
    with lab.image(done.volume_id).open("rb") as image:
        sent = image.read(int(found["ec2-backup:bytes"]))
    assert hashlib.sha256(sent).hexdigest() == found["ec2-backup:sha256"]
    # One RunInstances made the instance and the volume, which is deleted with the instance unless it is committed.
    (launch,) = lab.calls("RunInstances")
    assert launch["error"] is None
    assert lab.calls("CreateVolume") == []


@pytest.mark.heavy
def test_the_playbook_saves_the_directory(lab, source, tmp_path):
    done = lab.run("ansible-playbook", "playbooks/backup.yml", "-e", f"ec2_backup_source={source}")
    assert done.rc == 0, done
    (volume_id,) = lab.volumes()
    assert volume_id in done.stdout
    assert_holds(lab, volume_id, source, tmp_path / "copy")
    lab.assert_nothing_left(volume_id)


@pytest.mark.heavy
def test_the_collections_playbook_saves_a_directory_that_is_named_relative_to_the_current_one(lab, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("x")
    done = lab.run("ansible-playbook", "ec2_backup.ebs.backup", "-e", "ec2_backup_source=data", cwd=tmp_path)
    assert done.rc == 0, done
    (volume_id,) = lab.volumes()
    assert_holds(lab, volume_id, tmp_path / "data", tmp_path / "copy")


def test_a_fleets_own_playbook_saves_a_directory_of_each_host_onto_a_volume_of_its_own(lab, tmp_path):
    for name in ("web1", "web2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "who").write_text(name)
    (tmp_path / "site.yml").write_text("- hosts: all\n  gather_facts: false\n  roles: [ec2_backup.ebs.backup]\n")
    # A Python without boto3: what needs AWS runs on the controller.
    common = f"ansible_connection=local ansible_python_interpreter={os.path.realpath(sys.executable)}"
    (tmp_path / "hosts").write_text(
        "".join(f"{name} {common} ec2_backup_source={tmp_path / name}\n" for name in ("web1", "web2"))
    )
    done = lab.run("ansible-playbook", "-i", tmp_path / "hosts", tmp_path / "site.yml")
    assert done.rc == 0, done
    saved = {tags(lab, volume_id)["ec2-backup:source"].rpartition("/")[2]: volume_id for volume_id in lab.volumes()}
    assert set(saved) == {"web1", "web2"}
    for name, volume_id in saved.items():
        assert_holds(lab, volume_id, tmp_path / name, tmp_path / f"copy-{name}")
    lab.assert_nothing_left(*saved.values())


@pytest.mark.heavy
def test_a_given_volume_is_written_and_kept_and_can_be_written_again(lab, source, tmp_path):
    volume_id = lab.make_volume(zone="us-east-1c")
    (tmp_path / "other").mkdir()
    assert lab.backup("-v", volume_id, tmp_path / "other").volume_id == volume_id
    done = lab.backup("-v", volume_id, source)
    assert done.volume_id == volume_id
    assert_holds(lab, volume_id, source, tmp_path / "copy")
    lab.assert_nothing_left(volume_id)
    assert tags(lab, volume_id)["ec2-backup:status"] == "complete"
    assert {instance["Placement"]["AvailabilityZone"] for instance in lab.instances()} == {"us-east-1c"}


@pytest.mark.heavy
def test_a_given_volume_in_another_region_is_found_and_used_there(lab, source, tmp_path):
    volume_id = lab.make_volume(zone="eu-central-1b")
    done = lab.backup("-v", volume_id, source)
    assert done.volume_id == volume_id
    assert_holds(lab, volume_id, source, tmp_path / "copy")
    lab.assert_nothing_left(volume_id, region="eu-central-1")
    assert lab.instances("us-east-1") == []


@pytest.mark.heavy
@pytest.mark.parametrize("settings", [{"EC2_LAB_DEVICES": "xen"}, {"EC2_LAB_DEVICE": "3"}])
def test_the_device_is_found_whatever_it_is_called_and_whenever_it_appears(make_lab, tmp_path, settings):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("x")
    lab = make_lab(**settings)
    volume_id = lab.make_volume()
    done = lab.backup("-v", volume_id, tmp_path / "data")
    assert done.volume_id == volume_id
    assert_holds(lab, volume_id, tmp_path / "data", tmp_path / "copy")


@pytest.mark.heavy
def test_sshd_that_comes_up_late_is_waited_for(make_lab, tmp_path):
    (tmp_path / "data").mkdir()
    lab = make_lab(EC2_LAB_BOOT="20")
    done = lab.backup(tmp_path / "data")
    assert done.rc == 0, done
    lab.assert_nothing_left(done.volume_id)


@pytest.mark.heavy
def test_sshd_that_never_comes_up_is_given_up_at_the_deadline(make_lab, tmp_path):
    (tmp_path / "data").mkdir()
    lab = make_lab(EC2_LAB_BOOT="never")
    done = lab.backup("-e", "ec2_backup_ready_timeout=5", tmp_path / "data")
    assert (done.rc, done.stdout) == (1, "")
    assert re.fullmatch(r"ec2-backup: error: .* within 5 s .*Connection refused.*\n", done.stderr), done
    lab.assert_nothing_left()


@pytest.mark.heavy
def test_the_environments_options_reach_the_launch_by_the_wrapper_and_by_ansible(lab, tmp_path):
    (tmp_path / "data").mkdir()
    flags = {"EC2_BACKUP_FLAGS_AWS": "--instance-type t4g.nano --placement AvailabilityZone=us-east-1b"}
    assert lab.backup(tmp_path / "data", **flags).rc == 0
    by_ansible = ("ansible-playbook", "ec2_backup.ebs.backup", "-e", f"ec2_backup_source={tmp_path / 'data'}")
    assert lab.run(*by_ansible, **flags).rc == 0
    launched = [(i["InstanceType"], i["Placement"]["AvailabilityZone"]) for i in lab.instances()]
    assert launched == [("t4g.nano", "us-east-1b")] * 2


@pytest.mark.heavy
def test_the_volumes_settings_reach_the_launch(lab, tmp_path):
    (tmp_path / "data").mkdir()
    settings = {
        "ec2_backup_volume_type": "gp3",
        "ec2_backup_volume_iops": "4000",
        "ec2_backup_volume_throughput": "250",
        "ec2_backup_volume_size_factor": "9000",
        "ec2_backup_name": "nightly",
    }
    words = [word for name, value in settings.items() for word in ("-e", f"{name}={value}")]
    done = lab.backup(*words, tmp_path / "data")
    volume = lab.volumes()[done.volume_id]
    assert (volume["Iops"], volume["Throughput"], volume["Size"]) == (4000, 250, 9)
    assert tags(lab, done.volume_id)["Name"] == "nightly"


@pytest.mark.heavy
def test_a_security_group_of_the_users_is_used_and_kept(lab, tmp_path):
    (tmp_path / "data").mkdir()
    vpc = lab.api("describe_vpcs")["Vpcs"][0]["VpcId"]
    group = lab.api("create_security_group", GroupName="mine", Description="mine", VpcId=vpc)["GroupId"]
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "127.0.0.0/8"}]}
    lab.api("authorize_security_group_ingress", GroupId=group, IpPermissions=[rule])
    before = len(lab.calls("CreateSecurityGroup"))
    done = lab.backup(tmp_path / "data", EC2_BACKUP_FLAGS_AWS=f"--security-group-ids {group}")
    assert done.rc == 0, done
    assert len(lab.calls("CreateSecurityGroup")) == before
    assert group in {found["GroupId"] for found in lab.api("describe_security_groups")["SecurityGroups"]}


def test_a_source_that_cannot_be_read_in_part_gives_status_3_and_the_rest(lab, tmp_path):
    """Root reads everything, so the file vanishes instead: between the directory's listing and its reading."""
    source = tmp_path / "data"
    source.mkdir()
    (source / "a").write_bytes(b"\0" * (64 << 20))
    (source / "kept").write_text("k")
    grow = tmp_path / "grow"
    grow.write_text(f"#!/bin/sh\nwhile kill -0 $PPID; do echo more >>{source}/a; done 2>/dev/null\n")
    grow.chmod(0o755)
    done = lab.run("sh", "-c", f"{grow} & ./ec2_backup_runner.py {source}; status=$?; kill $!; exit $status")
    assert done.rc == 3, done
    assert "./a: file changed as we read it" in done.stderr
    assert hard.recover(lab.image(done.volume_id), tmp_path / "copy").joinpath("kept").read_text() == "k"
    assert tags(lab, done.volume_id)["ec2-backup:status"] == "complete"


@pytest.mark.heavy
def test_filters_on_either_side_shape_what_is_on_the_volume(lab, tmp_path):
    source = tmp_path / "data"
    source.mkdir()
    (source / "file").write_text("x" * 5000)
    done = lab.backup("-l", "gzip -c", "-r", "tr 'A-Za-z' 'N-ZA-Mn-za-m' | cat", source)
    assert done.rc == 0, done
    (tmp_path / "copy").mkdir()
    undo = f"tr 'A-Za-z' 'N-ZA-Mn-za-m' <{lab.image(done.volume_id)} | gzip -dcq 2>/dev/null | tar x -C {tmp_path}/copy"
    assert lab.run("sh", "-c", undo).rc == 0
    assert hard.differences(source, tmp_path / "copy") == []


def test_an_image_without_cloud_init_is_logged_into_with_the_users_key_pair(lab, tmp_path):
    source = tmp_path / "data"
    source.mkdir()
    (source / "file").write_text("x")
    key = tmp_path / "key"
    key.write_text(lab.api("create_key_pair", KeyName="mine", KeyType="ed25519")["KeyMaterial"])
    key.chmod(0o600)
    images = lab.api("describe_images", Filters=[{"Name": "name", "Values": ["NetBSD*"]}])["Images"]
    words = ["-e", "ec2_backup_cloud_init=false", "-e", "ec2_backup_device=/dev/xbd1"]
    done = lab.backup(
        *words,
        source,
        EC2_BACKUP_FLAGS_AWS=f"--image-id {images[0]['ImageId']} --key-name mine",
        EC2_BACKUP_FLAGS_SSH=f"-i {key}",
    )
    assert done.rc == 0, done
    assert "not pinned" in done.stderr
    assert_holds(lab, done.volume_id, source, tmp_path / "copy")
    lab.assert_nothing_left(done.volume_id)


def test_check_mode_checks_everything_and_makes_nothing(lab, tmp_path):
    (tmp_path / "data").mkdir()
    source = f"ec2_backup_source={tmp_path / 'data'}"
    done = lab.run("ansible-playbook", "--check", "playbooks/backup.yml", "-e", source)
    assert done.rc == 0, done
    asked = [*lab.calls("RunInstances"), *lab.calls("CreateSecurityGroup")]
    assert [call["parameters"]["DryRun"] for call in asked] == ["true", "true"]
    assert lab.instances() == []
    lab.assert_nothing_left()


@pytest.mark.heavy
def test_verbose_names_the_steps_on_stderr_only(lab, tmp_path):
    (tmp_path / "data").mkdir()
    done = lab.backup(tmp_path / "data", EC2_BACKUP_VERBOSE="1")
    assert len(done.stdout.splitlines()) == 1
    assert re.search(r"^ec2-backup: \S+Z launching$", done.stderr, re.M)
    assert re.search(r"^ec2-backup: \S+Z   Launch the instance$", done.stderr, re.M)
