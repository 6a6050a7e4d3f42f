"""Instances: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html"""

from __future__ import annotations

import base64
import json
import subprocess
import time

import pytest

from tests.lab.harness import Lab, running_lab, wait_for

USER_DATA = """#cloud-config
users:
  - name: backup
    sudo: ALL=(ALL) NOPASSWD:ALL
    lock_passwd: true
    groups: [adm]
    shell: /bin/sh
    ssh_authorized_keys: [{client!r}]
ssh_deletekeys: true
ssh_keys:
  ed25519_private: |
{private}
  ed25519_public: {public!r}
bootcmd:
  - [sh, -c, 'echo boot >/run/order']
write_files:
  - path: /etc/lab/hello
    permissions: '0640'
    owner: root:adm
    encoding: b64
    content: {hello}
runcmd:
  - 'pgrep -x sshd >/dev/null && echo run-after-sshd >>/run/order'
  - [touch, '/run/a b']
packages: [jq]
"""


def user_data(lab: Lab) -> tuple[str, str]:
    """(user-data, the public host key in it)."""
    host = lab.keys / f"host-{time.monotonic_ns()}"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host], check=True)
    public = " ".join(host.with_suffix(".pub").read_text().split()[:2])
    private = "".join(f"    {line}\n" for line in host.read_text().splitlines())
    hello = base64.b64encode(b"hello\n").decode()
    return USER_DATA.format(client=lab.public_key, private=private.rstrip(), public=public, hello=hello), public


def test_an_instance_goes_through_its_states_in_order(lab: Lab) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html"""
    instance = lab.launch()
    assert lab.state_of(instance) == "pending"
    running = lab.wait_state(instance, "running")
    assert running["PublicIpAddress"] == running["PrivateIpAddress"]
    assert running["PublicIpAddress"].startswith("127.0.")
    answer = lab.ec2.terminate_instances(InstanceIds=[instance])["TerminatingInstances"][0]
    assert (answer["PreviousState"]["Name"], answer["CurrentState"]["Name"]) == ("running", "shutting-down")
    assert lab.state_of(instance) == "shutting-down"
    ended = lab.wait_state(instance, "terminated")
    assert "PublicIpAddress" not in ended
    assert ended["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    lab.ec2.terminate_instances(InstanceIds=[instance])  # may be called again without an error


def test_a_pending_instance_can_be_terminated(lab: Lab) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_TerminateInstances.html"""
    instance = lab.launch()
    lab.ec2.terminate_instances(InstanceIds=[instance])
    assert lab.state_of(instance) == "shutting-down"
    lab.wait_state(instance, "terminated")


def test_running_does_not_mean_that_sshd_answers(lab: Lab) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/TroubleshootingInstancesConnecting.html"""
    lab.set_faults({"sshd_boot": 3})
    instance = lab.launch()
    address = lab.wait_state(instance, "running")["PublicIpAddress"]
    early = lab.ssh(address, "true")
    assert early.returncode == 255
    assert "refused" in early.stderr
    lab.login(instance)


def test_user_data_sets_the_login_the_host_key_and_the_order_of_the_boot(lab: Lab) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html"""
    text, host_key = user_data(lab)
    instance = lab.launch(UserData=text, KeyName=None)
    address = lab.login(instance, "backup")
    scan = subprocess.run(["ssh-keyscan", "-T", "3", address], capture_output=True, text=True, check=False)
    keys = [" ".join(line.split()[1:]) for line in scan.stdout.splitlines() if not line.startswith("#")]
    assert keys == [host_key], "sshd has only the host key of the user-data"
    assert lab.ssh(address, "true", "ec2-user").returncode == 255, "`users` without `default`: no default user"
    assert lab.ssh(address, "true", "root").returncode == 255
    wait_for(lambda: lab.ssh(address, "test -e '/run/a b'", "backup").returncode == 0, "runcmd to end")
    assert lab.ssh(address, "cat /run/order", "backup").stdout.split() == ["boot", "run-after-sshd"]
    assert lab.ssh(
        address, "sudo -n id -u; stat -c '%a %U:%G' /etc/lab/hello; cat /etc/lab/hello", "backup"
    ).stdout == ("0\n640 root:adm\nhello\n")
    console = lab.ec2.get_console_output(InstanceId=instance)["Output"]
    assert host_key in console
    assert "packages are not installed here: jq" in console
    call = next(call for call in reversed(lab.calls()) if call["action"] == "RunInstances")
    assert "PRIVATE KEY" not in json.dumps(call)
    assert call["parameters"]["UserData"].endswith("characters of base64)")


def test_the_key_pair_is_for_the_default_user_and_root_is_told_so(lab: Lab) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-key-pairs.html"""
    address = lab.login(lab.launch())
    assert lab.ssh(address, "id -un; sudo -n id -u; hostname").stdout.split()[:2] == ["ec2-user", "0"]
    refused = lab.ssh(address, "true", "root")
    assert refused.returncode != 0
    assert 'Please login as the user "ec2-user"' in refused.stdout


def test_without_a_key_pair_nobody_can_log_in(lab: Lab) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-key-pairs.html"""
    instance = lab.launch(KeyName=None)
    address = lab.wait_state(instance, "running")["PublicIpAddress"]
    wait_for(lambda: "Permission denied" in lab.ssh(address, "true").stderr, "sshd to answer")


def test_an_instance_sees_only_its_own_disks_processes_and_keys(lab: Lab) -> None:
    """https://docs.aws.amazon.com/ebs/latest/userguide/nvme-ebs-volumes.html"""
    first, second = lab.launch(), lab.launch()
    address = lab.login(first)
    seen = lab.ssh(address, "ls /dev | grep -E 'nvme|loop|vd|sd'; ls /tmp /home; ls /etc/ssh").stdout
    assert seen.split()[0] == "nvme0n1"
    assert "loop" not in seen
    assert "ssh_host_rsa_key" not in seen
    assert str(lab.instance(second)["PublicIpAddress"]) not in lab.ssh(address, "ps axww").stdout
    assert lab.ssh(address, "sudo blkid -p -o value -s PTTYPE /dev/nvme0n1").stdout.strip() == "dos", (
        "the root disk has a partition table"
    )


def test_poweroff_in_the_instance_terminates_or_stops_it_as_its_shutdown_behaviour_says(lab: Lab) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_ChangingInstanceInitiatedShutdownBehavior.html"""
    dying, stopping = lab.launch(), lab.launch(InstanceInitiatedShutdownBehavior="stop")
    lab.ssh(lab.login(dying), "sudo poweroff")
    lab.ssh(lab.login(stopping), "sudo shutdown -h now")
    ended = lab.wait_state(dying, "terminated")
    assert ended["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    lab.wait_state(stopping, "stopped")
    lab.ec2.start_instances(InstanceIds=[stopping])
    lab.login(stopping)


def test_halt_in_the_instance_leaves_it_in_the_state_running(lab: Lab) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_ChangingInstanceInitiatedShutdownBehavior.html"""
    instance = lab.launch()
    address = lab.login(instance)
    lab.ssh(address, "sudo halt")
    wait_for(lambda: lab.ssh(address, "true").returncode == 255, "sshd to be gone")
    assert lab.state_of(instance) == "running"
    lab.ec2.terminate_instances(InstanceIds=[instance])
    lab.wait_state(instance, "terminated")


def test_a_delayed_shutdown_can_be_cancelled(lab: Lab) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_ChangingInstanceInitiatedShutdownBehavior.html"""
    instance = lab.launch()
    address = lab.login(instance)
    assert (
        lab.ssh(address, "sudo shutdown -P +5; sleep 0.2; sudo shutdown -c; sleep 0.2; pgrep -f 'sleep 300'").stdout
        == ""
    )
    assert lab.state_of(instance) == "running"


def test_an_instance_keeps_its_files_over_a_reboot(lab: Lab) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-reboot.html"""
    instance = lab.launch()
    address = lab.login(instance)
    lab.ssh(address, "touch marker")
    lab.ec2.reboot_instances(InstanceIds=[instance])
    wait_for(lambda: lab.ssh(address, "true").returncode == 255, "sshd to go")
    assert lab.ssh(lab.login(instance), "ls").stdout == "marker\n"


def test_ssh_sessions_end_with_their_instance(lab: Lab) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/terminating-instances.html"""
    instance = lab.launch()
    argv = [*lab.ssh_argv(lab.login(instance)), "echo in; sleep 60"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as session:
        assert session.stdout
        assert session.stdout.readline() == "in\n"
        lab.ec2.terminate_instances(InstanceIds=[instance])
        assert session.wait(5) == 255


def test_an_image_without_cloud_init_has_the_login_root_with_the_key_pair_only(lab: Lab) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/AMIs.html"""
    found = lab.ec2.describe_images(Filters=[{"Name": "name", "Values": ["NetBSD-*"]}])["Images"]
    assert [image["ImageId"] for image in found] == ["ami-0000000000000eb5d"]
    disk = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "VolumeType": "gp3", "DeleteOnTermination": True}}
    instance = lab.launch(ImageId=found[0]["ImageId"], UserData=user_data(lab)[0], BlockDeviceMappings=[disk])
    address = lab.login(instance, "root")
    answer = lab.ssh(address, "ls /dev/xbd* /dev/disk/by-id /etc/lab; command -v sudo blkid lsblk", "root")
    assert answer.stdout.split() == ["/dev/xbd0", "/dev/xbd0d", "/dev/xbd1", "/dev/xbd1d", "/dev/disk/by-id:"]
    assert lab.ssh(address, "true", "backup").returncode == 255


def test_sshd_never_starts_if_the_settings_say_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    """EC2_LAB_BOOT=never stands for an operating system that hangs, whose instance EC2 shows as running."""
    with running_lab(tmp_path_factory.mktemp("never"), EC2_LAB_BOOT="never") as lab, lab.network():
        instance = lab.launch()
        address = lab.wait_state(instance, "running")["PublicIpAddress"]
        console = lab.state / "instances" / instance / "console.log"
        wait_for(lambda: console.exists() and "sshd: not started" in console.read_text(), "the boot to get there")
        assert "refused" in lab.ssh(address, "true").stderr


def test_bootcmd_runs_at_each_boot_and_its_background_processes_go_on(lab: Lab) -> None:
    """https://docs.cloud-init.io/en/latest/reference/modules.html#bootcmd (frequency: always)"""
    loop = "echo armed >/dev/console; exec setsid -f sleep 4321 </dev/null >/dev/null 2>&1"
    text = "#cloud-config\n" + json.dumps({"bootcmd": [["sh", "-c", loop]]})
    instance = lab.launch(UserData=text)
    address = lab.login(instance)
    first = lab.ssh(address, "pgrep -x sleep; ps -o ppid= -p $(pgrep -x sleep)").stdout.split()
    assert first[1:] == ["1"]
    lab.ssh(address, "sudo reboot")
    wait_for(lambda: lab.ssh(address, "pgrep -x sleep").stdout.split() not in ([], first[:1]), "another one")
    assert lab.ec2.get_console_output(InstanceId=instance)["Output"].count("armed\n") == 2


def test_all_that_is_written_to_the_console_is_in_its_output(lab: Lab) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-console.html"""
    instance = lab.launch()
    address = lab.login(instance)
    lab.ssh(address, "echo first | sudo tee /dev/console")
    ticks = lab.ssh(address, "cut -d' ' -f15 /proc/1/stat; sleep 1; cut -d' ' -f15 /proc/1/stat").stdout.split()
    assert int(ticks[1]) - int(ticks[0]) < 5, (
        "PID 1 uses no processor time while nothing happens (hundredths of a second)"
    )
    lab.ssh(address, "sudo sh -c 'echo last words >/dev/console; poweroff'")
    lab.wait_state(instance, "terminated")
    output = lab.ec2.get_console_output(InstanceId=instance)["Output"]
    assert output.index("first\n") < output.index("last words\n") < output.index("reboot: Power down")
