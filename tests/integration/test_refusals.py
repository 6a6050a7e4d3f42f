"""What is refused, with which status and words, and that nothing was launched for it."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.integration.conftest import Lab

ABSENT = "vol-0123456789abcdef0"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small directory."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("x")
    return tmp_path / "data"


def refused(lab: Lab, status: int, words: str, *argv: str | Path, **environment: str) -> None:
    """Fail unless the command leaves with this status, one line with these words, and nothing launched."""
    done = lab.backup(*argv, **environment)
    assert (done.rc, done.stdout) == (status, ""), done
    assert done.stderr.count("\n") == 1, done
    assert done.stderr.startswith("ec2-backup: error: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert lab.calls("RunInstances") == []
    assert lab.calls("CreateSecurityGroup") == []


def test_bad_input_is_refused_in_one_line_before_anything_is_launched(lab, data, tmp_path):
    (tmp_path / "file").write_text("x")
    refused(lab, 1, "there is no such directory", tmp_path / "nowhere", LC_ALL="C")
    refused(lab, 1, "is not a directory", tmp_path / "file", LC_ALL="xx_YY.UTF-8", HOME="/proc", TERM="")
    refused(lab, 2, "is not a volume ID", "-v", "vol-1", data)
    refused(lab, 2, "--user-data is not an option", data, EC2_BACKUP_FLAGS_AWS="--user-data x")
    refused(lab, 2, "it knows --associate-public-ip-address, --image-id", data, EC2_BACKUP_FLAGS_AWS="--frob")
    refused(lab, 2, "'host' is not an option of ssh", data, EC2_BACKUP_FLAGS_SSH="host")
    refused(lab, 1, f"Volume {ABSENT} was not found in us-east-1, nor in the", "-v", ABSENT, data)


def test_a_directory_that_may_not_be_read_is_refused(lab, tmp_path):
    """Root without the capabilities to read everything is like any other user."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    os.chown(closed, 1234, 1234)
    weak = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--")
    done = lab.run(*weak, "./ec2_backup_runner.py", closed)
    assert (done.rc, done.stdout) == (1, ""), done
    assert f"{closed}: permission denied" in done.stderr
    assert lab.calls("RunInstances") == []


def test_a_given_volume_that_cannot_be_used_is_refused_before_anything_is_launched(lab, data, tmp_path):
    small = lab.make_volume(size=1)
    with (tmp_path / "data" / "large").open("wb") as large:
        large.truncate(1 << 30)
        subprocess.run(["fallocate", "-l", str(1 << 30), large.name], check=True)
    refused(lab, 1, f"Volume {small} is too small: it has 1 GiB", "-v", small, data)
    (tmp_path / "data" / "large").unlink()

    subnets = {subnet["AvailabilityZone"]: subnet["SubnetId"] for subnet in lab.api("describe_subnets")["Subnets"]}
    words = f"Subnet {subnets['us-east-1b']} is in us-east-1b, but volume {small} is in us-east-1a"
    refused(lab, 1, words, "-v", small, data, EC2_BACKUP_FLAGS_AWS=f"--subnet-id {subnets['us-east-1b']}")
    words = "the zone us-east-1b was asked for"
    refused(lab, 1, words, "-v", small, data, EC2_BACKUP_FLAGS_AWS="--placement AvailabilityZone=us-east-1b")
    words = "Subnet subnet-0123456789abcdef0 was not found"
    refused(lab, 1, words, data, EC2_BACKUP_FLAGS_AWS="--subnet-id subnet-0123456789abcdef0")
    words = "There is no default subnet in us-east-1z"
    refused(lab, 1, words, data, EC2_BACKUP_FLAGS_AWS="--placement AvailabilityZone=us-east-1z")
    refused(lab, 1, "takes no key from here", "-e", "ec2_backup_cloud_init=false", data)
    refused(lab, 1, "must be at least 1", "-e", "ec2_backup_volume_size_factor=0.5", data)
    assert set(lab.volumes()) == {small}


def test_a_volume_that_is_in_use_is_refused_and_stays_where_it_is(lab, data):
    images = lab.api("describe_images", Filters=[{"Name": "name", "Values": ["al2023*x86_64*"]}])["Images"]
    launched = lab.api(
        "run_instances",
        ImageId=images[0]["ImageId"],
        InstanceType="t3.nano",
        MinCount=1,
        MaxCount=1,
        BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "DeleteOnTermination": False}}],
    )["Instances"][0]
    (volume,) = [name for name, found in lab.volumes().items() if found["Attachments"][0]["Device"] == "/dev/sdf"]
    done = lab.backup("-v", volume, data)
    assert (done.rc, done.stdout) == (1, "")
    assert f"it is in-use, attached to {launched['InstanceId']}" in done.stderr
    assert len(lab.calls("RunInstances")) == 1
    assert lab.volumes()[volume]["State"] == "in-use"


def test_a_foreign_filesystem_is_refused_and_untouched_unless_forced(lab, data):
    volume = lab.make_volume()
    subprocess.run(["mkfs.ext4", "-q", "-L", "precious", lab.image(volume)], check=True)
    before = lab.image(volume).read_bytes()[: 64 << 20]
    done = lab.backup("-v", volume, data)
    assert (done.rc, done.stdout) == (1, ""), done
    assert "ext4" in done.stderr
    assert "precious" in done.stderr
    assert "--force" in done.stderr
    assert lab.image(volume).read_bytes()[: 64 << 20] == before
    lab.assert_nothing_left(volume)
    assert lab.backup("--force", "-v", volume, data).volume_id == volume


@pytest.mark.heavy
def test_what_ec2_refuses_to_launch_is_told_in_its_own_words_and_leaves_nothing(lab, data):
    for flags, words in (
        ("--instance-type t3.frob", "t3.frob"),
        ("--image-id ami-0123456789abcdef0", "InvalidAMIID.NotFound"),
        ("--key-name absent", "InvalidKeyPair.NotFound"),
        ("--security-group-ids sg-0123456789abcdef0", "sg-0123456789abcdef0"),
    ):
        done = lab.backup(data, EC2_BACKUP_FLAGS_AWS=flags)
        assert (done.rc, done.stdout) == (1, ""), done
        assert words in done.stderr
        assert done.stderr.count("\n") == 1, done
        assert "PRIVATE KEY" not in done.stderr
    lab.assert_nothing_left()


def test_a_wrong_host_key_is_an_error_and_never_a_question(lab, data):
    """Another host answers on the instance's address: an entry for it in the user's known_hosts must not count."""
    done = lab.backup(data, EC2_BACKUP_FLAGS_SSH="-o HostKeyAlias=somebody-else")
    assert (done.rc, done.stdout) == (1, ""), done
    assert "host key" in done.stderr
    lab.assert_nothing_left()


def test_a_closed_security_group_means_no_connection_and_a_clear_error(lab, data):
    vpc = lab.api("describe_vpcs")["Vpcs"][0]["VpcId"]
    group = lab.api("create_security_group", GroupName="shut", Description="shut", VpcId=vpc)["GroupId"]
    flags = {"EC2_BACKUP_FLAGS_AWS": f"--security-group-ids {group}"}
    done = lab.backup("-e", "ec2_backup_ready_timeout=5", data, **flags)
    assert (done.rc, done.stdout) == (1, ""), done
    assert "within 5 s" in done.stderr
    assert "no answer" in done.stderr
    lab.assert_nothing_left()


def test_a_volume_that_fills_up_fails_the_backup_and_leaves_nothing(lab, data):
    """The filter makes the archive longer than was measured, which cannot be known before the stream."""
    volume = lab.make_volume()
    done = lab.backup("-v", volume, "-l", "cat; head -c 1100000000 /dev/zero", data)
    assert (done.rc, done.stdout) == (1, ""), done
    assert f"volume {volume} is full" in done.stderr
    lab.assert_nothing_left(volume)


def test_a_filter_that_fails_in_mid_stream_fails_the_backup(lab, data):
    done = lab.backup("-l", "head -c 1000; exit 7", data)
    assert (done.rc, done.stdout) == (1, ""), done
    assert "the local filter ended with status 7" in done.stderr
    lab.assert_nothing_left()


@pytest.mark.heavy
def test_the_private_host_key_is_in_no_log(lab, data, tmp_path):
    done = lab.backup("-e", "ec2_backup_ready_timeout=1", data, XDG_STATE_HOME=str(tmp_path / "state"))
    assert done.rc in (0, 1)
    assert lab.backup("-v", ABSENT, data, XDG_STATE_HOME=str(tmp_path / "state")).rc == 1
    logs = list((tmp_path / "state").rglob("*.log"))
    assert logs
    assert all("PRIVATE KEY" not in log.read_text() for log in logs)
