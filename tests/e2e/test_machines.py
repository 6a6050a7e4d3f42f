"""The product on machines that boot: their own kernel, udev, cloud-init and sshd."""

import re
import time
from pathlib import Path

import pytest

from tests.integration import hard
from tests.integration.conftest import CHECKOUT, Lab
from tests.integration.endless import Run
from tests.lab.harness import wait_for

# Seconds. A machine boots a minute or more where it is emulated, and that is when nobody can log in.
IDLE = 150
BOOT = 900
PATIENT = f"ec2_backup_ready_timeout={BOOT}"
pytestmark = pytest.mark.timeout(1800)


def far(run: Run, command: str) -> str:
    """What a command on the run's instance says, run as the run itself does."""
    done = run.lab.run(*run.ssh(), command)
    assert done.rc == 0, done
    return done.stdout


def test_a_directory_goes_to_a_volume_and_comes_back_and_is_verified(make_vm_lab, tmp_path):
    lab = make_vm_lab()
    source = hard.make(tmp_path / "source")
    done = lab.backup("-e", PATIENT, source)
    assert done.stderr.replace("warning: ", "").count("\n") <= 1, done  # of the socket at most
    volume = done.volume_id
    assert hard.differences(source, hard.recover(lab.image(volume), tmp_path / "by hand")) == []
    lab.assert_nothing_left(volume)

    restored = lab.backup("restore", "-e", PATIENT, volume, tmp_path / "restored")
    assert (restored.rc, restored.stdout) == (0, ""), restored
    assert hard.differences(source, tmp_path / "restored") == []

    verified = lab.backup("verify", "-e", PATIENT, volume)
    assert verified.rc == 0, verified
    assert verified.stdout.startswith(f"{volume} good: ")
    lab.assert_nothing_left(volume)


def test_only_the_run_gets_in_and_the_watchdog_spares_its_stream_and_nothing_else(make_vm_lab, data):
    lab = make_vm_lab()
    run = Run(lab, data, PATIENT, f"ec2_backup_idle_timeout={IDLE}")
    assert run.reaches_stream(BOOT), run.read("stderr")
    began = time.monotonic()
    (instance,) = lab.instances()
    ssh = run.ssh()
    login, _, address = ssh[-1].partition("@")

    # Its host key is the pinned one, and there is no other.
    pinned = next(word for word in ssh if word.startswith("UserKnownHostsFile=")).partition("=")[2].strip('"')
    scanned = lab.run("ssh-keyscan", address).stdout
    keys = {tuple(line.split()[1:3]) for line in scanned.splitlines() if not line.startswith("#")}
    known = lab.run("cat", pinned).stdout.split()
    assert keys == {(known[-2], known[-1])}
    assert known[-2] == "ssh-ed25519"

    # The run's key opens the run's login, which may become root; it does not open root's, and no password does.
    assert far(run, "id -un; sudo id -un").split() == [login, "root"]
    refused = lab.run(*ssh[:-1], f"root@{address}", "true")
    assert (refused.rc, "Permission denied (publickey)" in refused.stderr) == (255, True), refused
    options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "PubkeyAuthentication=no")
    asked = [word for option in options for word in ("-o", option)]
    without = lab.run("ssh", "-F", "none", *asked, f"{login}@{address}", "true")
    assert "Permission denied (publickey)" in without.stderr, without
    assert re.search(r"^passwordauthentication no$", far(run, "sudo sshd -T"), re.MULTILINE)
    assert far(run, "sudo cloud-init query ds.meta_data.instance-id").strip() == instance["InstanceId"]

    # Nobody else is logged in for longer than the limit: it is the stream that keeps the machine.
    wait_for(lambda: time.monotonic() > began + 1.3 * IDLE, "the limit to pass", 2 * IDLE)
    assert [each["State"]["Name"] for each in lab.instances()] == ["running"]
    assert run.read("status") == ""

    assert run.signal(9) > 6  # the shell, the wrapper, Ansible, the module, tar, the filter, ssh
    run.wait_for_power_off(f"no SSH session was in use for {IDLE} s", 3 * IDLE)
    assert lab.calls("TerminateInstances") == []


def beside_another_disk(lab: Lab, data: Path) -> tuple[Run, str]:
    """Start a backup onto a given volume, and attach another to its instance; return them when the stream has begun."""
    other = lab.make_volume()
    run = Run(lab, data, PATIENT, f"ec2_backup_idle_timeout={IDLE}", given=True)
    wait_for(lambda: "running" in [each["State"]["Name"] for each in lab.instances()], "the instance to run", 120)
    (instance,) = lab.instances()
    lab.api("attach_volume", VolumeId=other, InstanceId=instance["InstanceId"], Device="/dev/sdp")
    assert run.reaches_stream(BOOT), run.read("stderr")
    return run, other


def test_a_given_volume_outlives_all_and_another_disk_is_not_taken_for_it(make_vm_lab, data):
    """The kernel names disks as they come: the first one after the root disk is somebody else's here."""
    for _ in range(3):
        lab = make_vm_lab()
        run, other = beside_another_disk(lab, data)
        disks = {serial: name for name, serial in map(str.split, far(run, "lsblk -dno NAME,SERIAL").splitlines())}
        if disks[other.replace("-", "")] == "nvme1n1":
            break
        run.signal(9)  # it was quicker than we
    assert disks[run.given[0].replace("-", "")] == "nvme2n1"
    root = far(run, "findmnt -no SOURCE /").strip()
    assert root.startswith("/dev/nvme0n1")

    run.given.append(other)
    assert run.signal(9) > 6
    run.wait_for_power_off(f"no SSH session was in use for {IDLE} s", 3 * IDLE)
    assert lab.image(other).stat().st_blocks == 0  # not a byte was written
    assert lab.image(run.given[0]).stat().st_blocks > 2048


def test_a_machine_whose_disks_have_names_only_and_that_boots_slowly_is_served(make_vm_lab, tmp_path):
    lab = make_vm_lab(EC2_LAB_DEVICES="xen", EC2_LAB_BOOT="30")
    source = hard.make(tmp_path / "source")
    volume = lab.backup("-e", PATIENT, source).volume_id
    assert hard.differences(source, hard.recover(lab.image(volume), tmp_path / "copy")) == []
    lab.assert_nothing_left(volume)


def test_a_strangers_playbook_runs_unchanged(make_vm_lab, tmp_path):
    """It knows amazon.aws, ssh and nothing else."""
    lab = make_vm_lab(EC2_LAB_POLICY="")
    playbook = CHECKOUT / "tests" / "e2e" / "stranger.yml"
    done = lab.run("ansible-playbook", playbook, "-e", f"key_file={tmp_path / 'key'}", cwd=tmp_path)
    assert done.rc == 0, done.stdout
    assert {instance["State"]["Name"] for instance in lab.instances()} == {"terminated"}
    assert [volume["State"] for volume in lab.volumes().values()] == ["available"]
    (volume,) = lab.volumes()
    with lab.image(volume).open("rb") as image:
        image.seek(1024 + 56)
        assert image.read(2) == b"\x53\xef"  # ext4's magic number, where mkfs put it
