"""The instance's watchdog: what nobody can end any more ends by itself, and what is in use does not."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Lab
from tests.lab.harness import FAST, wait_for

# Seconds. On a busy machine the shortest may be over before the play has come to its stream; then the next is taken.
TIMES = (8, 16, 32)
# A stream that goes on until somebody ends it, a megabyte each half second.
ENDLESS = "cat; while yes | head -c 1000000; do sleep 0.5; done"

# Run inside the lab: send a signal to a process and all that descend from it, or to those of them with that name.
SIGNAL_TREE = r"""
import os, signal, sys
root, number, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

def stat(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            text = file.read()
    except OSError:
        return None
    return text[text.index("(") + 1 : text.rindex(")")], int(text[text.rindex(")") :].split()[2])

def tree():
    parents = {int(pid): found for pid in os.listdir("/proc") if pid.isdigit() and (found := stat(pid))}
    found, new = {}, {root}
    while new:
        found.update({pid: parents[pid][0] for pid in new if pid in parents})
        new = {pid for pid, (_, parent) in parents.items() if parent in new}
    return found

def send(pids, what):
    for pid in pids:
        try:
            os.kill(pid, what)
        except ProcessLookupError:
            pass

if name:
    victims = {pid for pid, comm in tree().items() if comm == name}
else:  # stop them first, or they would make others, and see each other die
    victims = set()
    while not victims.issuperset(now := set(tree())):
        send(now - victims, signal.SIGSTOP)
        victims |= now
send(victims, number)
print(len(victims))
"""


class Run:
    """A backup in the background of a lab, onto a new volume or one of the user's, that goes on until it is ended."""

    def __init__(self, lab: Lab, data: Path, *settings: str, given: bool = False) -> None:
        self.lab, self.top = lab, lab.state.with_suffix(".run")
        self.top.mkdir()
        self.given = [lab.make_volume()] if given else []
        options = [word for each in settings for word in ("-e", each)] + [
            word for each in self.given for word in ("-v", each)
        ]
        # In a session of its own, with files for a terminal: nothing keeps the agent waiting.
        script = 'exec >"$0/stdout" 2>"$0/stderr" </dev/null; "$@"; echo $? >"$0/new"; mv "$0/new" "$0/status"'
        argv: list[str | Path] = ["sh", "-c", script, self.top, "./ec2_backup_runner.py", *options, "-l", ENDLESS, data]
        self.pid = lab.run("sh", "-c", 'setsid "$@" >/dev/null 2>&1 & echo $!', "sh", *argv).stdout.strip()

    def read(self, name: str) -> str:
        """Its stdout, stderr or status; empty before there is one."""
        return (self.top / name).read_text() if (self.top / name).exists() else ""

    def console(self) -> str:
        """What the instance has told so far; looking at a file costs the lab nothing."""
        return "".join(log.read_text() for log in self.lab.state.glob("instances/*/console.log"))

    def signal(self, number: int, name: str = "") -> int:
        """Send a signal to all of its processes, or to those called ``name``; return how many."""
        return int(self.lab.run(sys.executable, "-c", SIGNAL_TREE, self.pid, str(number), name).stdout)

    def reaches_stream(self) -> bool:
        """Wait until the volume has been written to, or the instance or the backup has ended; return whether it was."""
        images = self.lab.state / "volumes"
        written = False

        def settled() -> bool:
            nonlocal written
            written = any(image.stat().st_blocks > 2048 for image in images.glob("vol-*"))
            return written or bool(self.read("status")) or "powering off" in self.console()

        wait_for(settled, "a volume to be written to", 90)
        return written

    def wait_for_power_off(self, why: str, seconds: int) -> None:
        """Wait until the instance is gone; fail unless it ended by itself, for that reason, with its volume."""
        wait_for(lambda: "Power down" in self.console(), "the instance to power off", seconds)
        wait_for(lambda: {i["State"]["Name"] for i in self.lab.instances()} == {"terminated"}, "it to be terminated")
        (instance,) = self.lab.instances()
        assert instance["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
        output = self.lab.api("get_console_output", InstanceId=instance["InstanceId"])["Output"]
        assert f"ec2-backup: watchdog: {why}: powering off" in output
        left = {name: volume["State"] for name, volume in self.lab.volumes().items()}
        assert left == dict.fromkeys(self.given, "available")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small directory."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("x")
    return tmp_path / "data"


def streaming(make_lab: Callable[..., Lab], data: Path, setting: str, given: bool = False) -> tuple[Run, int]:
    """Start a backup with the shortest time for ``setting`` that lets it come to its stream; return it and the time."""
    for seconds in TIMES:
        run = Run(make_lab(**FAST), data, f"{setting}={seconds}", given=given)
        if run.reaches_stream():
            return run, seconds
        run.signal(9)
    pytest.fail(f"no backup came to its stream within {seconds} s")


@pytest.mark.heavy
@pytest.mark.parametrize("given", [False, True])
def test_when_everything_local_is_killed_in_mid_stream_the_instance_ends_by_itself(make_lab, data, given):
    run, idle = streaming(make_lab, data, "ec2_backup_idle_timeout", given)
    assert run.signal(9) > 6  # the shell, the wrapper, Ansible, the module, tar, the filter, ssh
    run.wait_for_power_off(f"no SSH session was in use for {idle} s", idle + 20)
    assert run.lab.calls("TerminateInstances") == []


@pytest.mark.heavy
def test_when_ssh_is_frozen_the_instance_ends_by_itself(make_lab, data):
    run, idle = streaming(make_lab, data, "ec2_backup_idle_timeout")
    try:
        assert run.signal(19, "ssh") == 1
        run.wait_for_power_off(f"no SSH session was in use for {idle} s", idle + 20)
    finally:
        run.signal(9)


def test_an_instance_that_nobody_can_log_in_to_ends_by_itself(make_lab, data):
    run = Run(make_lab(**{**FAST, "EC2_LAB_BOOT": "never"}), data, "ec2_backup_idle_timeout=3", given=True)
    try:
        run.wait_for_power_off("no SSH session was in use for 3 s", 40)
    finally:
        run.signal(9)


@pytest.mark.heavy
def test_the_lifetime_ends_an_instance_in_mid_stream(make_lab, data):
    run, lifetime = streaming(make_lab, data, "ec2_backup_max_lifetime", given=True)
    run.wait_for_power_off(f"the lifetime of {lifetime} s is over", lifetime + 20)
    wait_for(lambda: run.read("status"), "the backup to fail", 30)
    assert (run.read("status"), run.read("stdout")) == ("1\n", "")
    assert run.read("stderr").startswith("ec2-backup: error: ")
    run.lab.assert_nothing_left(*run.given)


@pytest.mark.heavy
def test_a_slow_stream_and_one_that_stalls_are_left_alone(make_lab, data, tmp_path):
    """A few bytes a second for longer than the idle time, then none at all: ssh's own signs of life are enough."""
    for idle in TIMES:
        lab = make_lab(**FAST)
        slow = f"for n in $(seq {idle + 2}); do dd bs=100 count=1; sleep 1; done 2>/dev/null; cat"
        argv = ("-e", f"ec2_backup_idle_timeout={idle}", "-l", f"{slow}; sleep {idle + 2}", data)
        done = lab.backup(*argv, EC2_BACKUP_FLAGS_SSH="-o ServerAliveInterval=2")
        if done.rc == 0:
            break
    assert (done.rc, done.stderr) == (0, "")
    lab.assert_nothing_left(done.volume_id)
    (console,) = lab.state.glob("instances/*/console.log")
    assert f"ec2-backup: watchdog: armed: idle limit {idle} s, lifetime 86400 s\n" in console.read_text()
    (tmp_path / "copy").mkdir()
    with lab.image(done.volume_id).open("rb") as image:
        subprocess.run(["tar", "-xC", tmp_path / "copy"], stdin=image, check=True)
    assert (tmp_path / "copy" / "file").read_text() == "x"


def test_times_that_make_no_sense_are_refused_before_anything_is_launched(lab, data):
    done = lab.backup("-e", "ec2_backup_max_lifetime=0", data)
    assert (done.rc, done.stdout) == (1, "")
    assert "ec2_backup_max_lifetime is 0: set" in done.stderr
    assert lab.calls("RunInstances") == []
