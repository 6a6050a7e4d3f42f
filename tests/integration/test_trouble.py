"""What happens to a backup when AWS fails, or when a signal comes."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.agent import ROOT


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small directory."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("x")
    return tmp_path / "data"


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Poll until the condition holds; fail, naming ``what``, if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"


# With this code EC2 says that a zone does not have the type. amazon.aws.ec2_instance tries such a launch only once,
# so the next place follows at once.
NOT_HERE = "Unsupported"
# For a lack of capacity it retries for some minutes, in the same zone (docs/amazon-aws.md has the figure).
FULL = "InsufficientInstanceCapacity"
LONG = 1500  # seconds


def test_a_zone_that_does_not_have_the_type_is_passed_over_for_the_next(lab, data):
    lab.break_api({"action": "RunInstances", "times": 1, "code": NOT_HERE})
    done = lab.backup("--verbose", data)
    assert done.rc == 0, done
    lab.assert_nothing_left(done.volume_id)
    assert {instance["Placement"]["AvailabilityZone"] for instance in lab.instances()} == {"us-east-1b"}
    assert "EC2 has no room for t3.small in us-east-1a (Unsupported); next: t3.small in us-east-1b" in done.stderr


@pytest.mark.heavy
def test_a_type_that_no_zone_has_leads_to_the_alternative_type(lab, data):
    volume = lab.make_volume()
    lab.break_api({"action": "RunInstances", "times": 1, "code": NOT_HERE})
    alternatives = 'ec2_backup_instance_type_alternatives=["t3a.small"]'
    done = lab.backup("-v", volume, "-e", alternatives, data)
    assert done.rc == 0, done
    assert {instance["InstanceType"] for instance in lab.instances()} == {"t3a.small"}


def test_that_no_place_has_the_type_is_told_with_ec2s_code(lab, data):
    volume = lab.make_volume()
    lab.break_api({"action": "RunInstances", "always": True, "code": NOT_HERE})
    done = lab.backup("-v", volume, data)
    assert (done.rc, done.stdout) == (1, ""), done
    assert "EC2 does not offer t3.small in us-east-1a (Unsupported)" in done.stderr
    lab.assert_nothing_left(volume)


@pytest.mark.heavy
@pytest.mark.timeout(LONG)
def test_a_zone_without_capacity_is_passed_over_once_amazon_aws_has_given_it_up(lab, data):
    lab.break_api({"action": "RunInstances", "times": 10, "code": FULL})
    done = lab.backup(data, AWS_MAX_ATTEMPTS="1")
    assert done.rc == 0, done
    lab.assert_nothing_left(done.volume_id)
    assert {instance["Placement"]["AvailabilityZone"] for instance in lab.instances()} == {"us-east-1b"}


def test_an_instance_whose_launch_was_reported_as_failed_is_used(lab, data):
    """amazon.aws.ec2_instance looks at the instance once more after the launch; it fails where it may not."""
    lab.break_api({"action": "DescribeInstanceStatus", "always": True, "code": "UnauthorizedOperation"})
    done = lab.backup(data)
    assert done.rc == 0, done
    assert len(lab.instances()) == 1
    lab.assert_nothing_left(done.volume_id)


def test_a_launch_that_never_gets_a_reply_leaves_no_instance(lab, data):
    lab.break_api({"action": "RunInstances", "always": True, "after": True, "drop": True})
    done = lab.backup(data, AWS_MAX_ATTEMPTS="2")
    assert done.rc in (0, 1), done
    assert len(lab.instances()) == 1
    lab.assert_nothing_left(*done.stdout.split())


def test_a_group_that_ec2_does_not_know_yet_is_waited_for(lab, data):
    lab.break_api({"action": "RunInstances", "times": 1, "code": "InvalidGroup.NotFound"})
    done = lab.backup(data)
    assert done.rc == 0, done
    assert {instance["Placement"]["AvailabilityZone"] for instance in lab.instances()} == {"us-east-1a"}


def test_a_fleets_host_that_vanishes_in_mid_backup_has_its_instance_terminated_by_the_play(lab, tmp_path):
    """A task that becomes unreachable skips `always` and marks the host, unless it is told otherwise."""
    key = tmp_path / "key"
    key.write_text(lab.api("create_key_pair", KeyName="fleet", KeyType="ed25519")["KeyMaterial"])
    key.chmod(0o600)
    vpc = lab.api("describe_vpcs")["Vpcs"][0]["VpcId"]
    group = lab.api("create_security_group", GroupName="fleet", Description="fleet", VpcId=vpc)["GroupId"]
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "127.0.0.0/8"}]}
    lab.api("authorize_security_group_ingress", GroupId=group, IpPermissions=[rule])
    image = lab.api("describe_images", Filters=[{"Name": "name", "Values": ["al2023*x86_64*"]}])["Images"][0]["ImageId"]
    wanted = {"ImageId": image, "InstanceType": "t3.nano", "KeyName": "fleet", "SecurityGroupIds": [group]}
    host = lab.api("run_instances", MinCount=1, MaxCount=1, **wanted)["Instances"][0]["InstanceId"]
    wait_for(lambda: lab.instances()[0].get("PublicIpAddress"), "the fleet's host to have an address")
    address = lab.instances()[0]["PublicIpAddress"]
    login = ["ssh", "-i", str(key), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", f"ec2-user@{address}"]
    wait_for(lambda: lab.run(*login, "true").rc == 0, "the fleet's host to let us in")

    variables = {
        "ansible_host": address,
        "ansible_user": "ec2-user",
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o ServerAliveInterval=1",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ec2_backup_source": "/usr/share",
        "ec2_backup_local_filter": "while dd bs=64k count=1 status=none | grep -q .; do sleep 0.2; done",
        "ec2_backup_client_address": "127.0.0.1",
    }
    inventory = {"all": {"hosts": {"web1": variables}}}
    (tmp_path / "hosts.json").write_text(json.dumps(inventory))
    (tmp_path / "site.yml").write_text("- hosts: all\n  gather_facts: false\n  roles: [ec2_backup.ebs.backup]\n")
    terminate = f"import boto3; boto3.client('ec2').terminate_instances(InstanceIds=['{host}'])"
    (tmp_path / "vanish.sh").write_text(
        f"ansible-playbook -i {tmp_path}/hosts.json {tmp_path}/site.yml >{tmp_path}/log 2>&1 &\n"
        f"until grep -q 'Stream the directory' {tmp_path}/log; do sleep 0.1; done\n"
        f'AWS_ACCESS_KEY_ID={ROOT} python3 -c "{terminate}" && wait $!\n'
    )
    done = lab.run("sh", tmp_path / "vanish.sh")
    log = (tmp_path / "log").read_text()
    assert done.rc != 0, log
    assert "became unreachable" in log
    assert len(lab.instances()) == 2
    lab.assert_nothing_left()
