# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The instance's watchdog under several shells, with a /proc of the tests' and a `sleep` that moves its clock."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab.process import cloudinit
from tests.unit.devices import write_program

CHECKOUT = Path(__file__).parents[2]
SCRIPT = (CHECKOUT / "roles/session/files/watchdog.sh").read_text()
SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
BOOT = 100  # /proc/uptime when the watchdog starts
OURS = "sshd: ec2-backup@notty"
MOVES = 'echo "rchar: $up" >$top/proc/70/io'  # a session that reads something between any two looks


@dataclasses.dataclass
class Ended:
    """What the watchdog did."""

    calls: list[tuple[str, int]]
    """Each command that it powered the machine off with, and how many seconds after the start."""
    console: str
    seconds: int


class Machine:
    """A machine whose time passes only while the watchdog sleeps; it is switched off by a power-off that works."""

    def __init__(self, top: Path, shell: list[str]) -> None:
        self.top, self.shell = top, shell
        for name in ("proc/net", "proc/self", "dev", "sys/fs/cgroup", "run", "bin"):
            (top / name).mkdir(parents=True)
        (top / "proc/uptime").write_text(f"{BOOT}.37 55.10\n")
        (top / "dev/console").touch()
        (top / "calls").touch()
        self.lock = top / "run/ec2-backup-watchdog.pid"
        self.off = f"kill $(cat {self.lock})"
        self.program("logger", "")
        self.program("poweroff", self.off)
        self.program("shutdown", self.off)

    def program(self, name: str, body: str) -> None:
        """Make a command that writes down that it was called, and when, and then runs ``body``."""
        note = f'read -r up <{self.top}/now\necho "$up {name}${{*:+ $*}}" >>{self.top}/calls\n'
        write_program(self.top / "bin" / name, (note if name != "logger" else "") + body + "\n")

    def process(self, pid: int, title: str, rchar: int | None = None) -> None:
        """Make a process; the rest of an overwritten argument vector is NULs."""
        directory = self.top / f"proc/{pid}"
        directory.mkdir()
        (directory / "cmdline").write_bytes(title.encode() + b"\0\0\0\0")
        if rchar is not None:
            (directory / "io").write_text(f"rchar: {rchar}\nwchar: 7\n")

    def connections(self, *lines: tuple[str, str]) -> None:
        """Write /proc/net/tcp: local address, state."""
        rows = ["  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt"]
        rows += [f"   {n}: {local} 0100007F:C001 {state} 00000000:00000000" for n, (local, state) in enumerate(lines)]
        (self.top / "proc/net/tcp").write_text("\n".join(rows) + "\n")

    def run(self, *arguments: object, step: str = "", until: int = 10_000) -> Ended:
        """Run the watchdog until it ends or is ``until`` seconds old; ``step`` is sh, run at each look with $up."""
        sleep = f"""top={self.top}
read -r up _ <$top/now
up=$((up + $1))
echo $up >$top/now
[ ! -e $top/proc/uptime ] || echo "$up.5 9" >$top/proc/uptime
{step}
[ $up -lt {BOOT + until} ] || {self.off}"""
        write_program(self.top / "bin/sleep", sleep + "\n")
        (self.top / "now").write_text(f"{BOOT}\n")
        script = SCRIPT
        for name in ("proc", "dev", "sys", "run"):
            assert f"{name}=/{name}" in script
            script = script.replace(f"{name}=/{name}", f"{name}={self.top}/{name}")
        path = f"{self.top}/bin:{os.environ['PATH']}"
        argv = [*self.shell, "-c", script, "ec2-backup-watchdog", *map(str, arguments)]
        # The console is written to in the background, by a process that has the same stdout: its end is waited for.
        subprocess.run(argv, check=False, env={"PATH": path}, timeout=60, stdout=subprocess.PIPE)
        console = self.top / "dev/console"
        calls = [line.split(" ", 1) for line in (self.top / "calls").read_text().splitlines()]
        return Ended(
            [(command, int(when) - BOOT) for when, command in calls],
            console.read_text() if console.is_file() else "",
            int((self.top / "now").read_text()) - BOOT,
        )


@pytest.fixture(params=SHELLS)
def machine(request, tmp_path):
    if shutil.which(SHELLS[request.param][0]) is None:
        pytest.skip(f"{request.param} is not installed")
    return Machine(tmp_path, SHELLS[request.param])


def assert_off(ended: Ended, earliest: int, latest: int, why: str) -> None:
    """Fail unless the machine was powered off in time, once, and the console tells why."""
    assert [command for command, _ in ended.calls] == ["shutdown -P now"]
    assert earliest <= ended.calls[0][1] <= latest
    assert f"ec2-backup: watchdog: {why}: powering off\n" in ended.console


def test_a_machine_that_nobody_logs_in_to_is_powered_off_after_the_idle_time(machine):
    machine.process(1, "/sbin/init")
    machine.process(60, "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups")
    ended = machine.run(600, 86400)
    assert_off(ended, 600, 606, "no SSH session was in use for 600 s")
    assert ended.console.startswith("ec2-backup: watchdog: armed: idle limit 600 s, lifetime 86400 s\n")


@pytest.mark.parametrize("title", [OURS, "sshd: root@notty", "sshd: a@b@pts/0,pts/1", "sshd-session: ec2-user@notty"])
def test_a_session_that_reads_keeps_the_machine_up_until_its_lifetime_is_over(machine, title):
    machine.process(70, title, 1)
    assert_off(machine.run(40, 300, step=MOVES), 300, 306, "the lifetime of 300 s is over")


def test_keepalives_alone_keep_the_machine_up(machine):
    """A source that stalls, or a long fsync: the client's ssh sends something each 15 seconds."""
    machine.process(70, OURS, 1)
    assert machine.run(60, 86400, step=f"[ $((up / 15)) = $(((up - $1) / 15)) ] || {MOVES}", until=600).calls == []


def test_a_session_of_a_dead_peer_does_not_count(machine):
    machine.process(70, OURS, 1)
    ended = machine.run(40, 86400, step=f"[ $up -gt {BOOT + 100} ] || {MOVES}")
    assert_off(ended, 135, 146, "no SSH session was in use for 40 s")


def test_of_two_sessions_one_that_reads_is_enough(machine):
    machine.process(70, OURS, 1)
    machine.process(71, OURS, 5)
    assert machine.run(40, 86400, step=MOVES, until=300).calls == []


def test_the_idle_time_begins_anew_with_each_session(machine):
    machine.process(70, OURS, 1)
    machine.process(71, OURS, 1)
    (machine.top / "proc/71").rename(machine.top / "71")
    step = f"[ $up -lt {BOOT + 20} ] || rm -rf $top/proc/70; [ $up -lt {BOOT + 35} ] || mv $top/71 $top/proc/"
    assert_off(machine.run(40, 86400, step=step), 75, 85, "no SSH session was in use for 40 s")


def test_scanners_that_never_log_in_do_not_count(machine):
    machine.connections(("00000000:0016", "0A"), ("0100000A:0016", "01"))
    titles = ("sshd: [accepted]", "sshd: unknown [priv]", "sshd: root [net]", "sshd-session: [net]", "sshd-auth: x@y")
    for pid, title in enumerate(titles, 80):
        machine.process(pid, title, 1)
    step = "for n in 80 81 82 83 84; do echo rchar: $up >$top/proc/$n/io; done"
    assert_off(machine.run(40, 300, step=step), 40, 46, "no SSH session was in use for 40 s")


def test_a_session_that_cannot_be_told_to_be_dead_counts(machine):
    machine.process(70, OURS)
    assert_off(machine.run(40, 300), 300, 306, "the lifetime of 300 s is over")


def test_where_sshd_does_not_title_its_processes_a_connection_counts(machine):
    machine.process(60, "/usr/sbin/dropbear\0-F")
    machine.connections(("00000000:08AE", "0A"), ("0100000A:08AE", "01"))
    assert_off(machine.run(40, 300), 300, 306, "the lifetime of 300 s is over")


def test_connections_to_elsewhere_and_old_ones_do_not_count(machine):
    machine.connections(("00000000:0016", "0A"), ("0100000A:0016", "06"), ("0100000A:D001", "01"))
    assert_off(machine.run(40, 300), 40, 46, "no SSH session was in use for 40 s")


def test_without_an_idle_limit_there_is_the_lifetime_alone(machine):
    assert_off(machine.run(0, 300), 300, 306, "the lifetime of 300 s is over")


def test_without_proc_there_is_the_lifetime_alone(machine):
    shutil.rmtree(machine.top / "proc")
    ended = machine.run(40, 300)
    assert "only the lifetime is watched" in ended.console
    assert "the lifetime of 300 s is over" in ended.console
    assert 300 <= ended.seconds <= 310


def test_limits_that_are_no_numbers_are_the_usual_ones(machine):
    ended = machine.run("ten", "")
    assert "armed: idle limit 600 s, lifetime 86400 s" in ended.console
    assert_off(ended, 600, 606, "no SSH session was in use for 600 s")


def test_a_second_one_leaves_it_to_the_first(machine):
    machine.process(500, "sh\0-c\0script\0ec2-backup-watchdog\x00600\x0086400")
    machine.lock.write_text("500\n")
    ended = machine.run(40, 300)
    assert (ended.calls, ended.console, ended.seconds) == ([], "", 0)
    assert machine.lock.read_text() == "500\n"


@pytest.mark.parametrize("found", ["500", "501", "", "x y"])
def test_what_an_earlier_boot_left_keeps_nobody_away(machine, found):
    machine.process(500, "/usr/sbin/cron")
    machine.lock.write_text(found)
    assert_off(machine.run(40, 300), 40, 46, "no SSH session was in use for 40 s")


def test_a_machine_without_a_shutdown_is_powered_off_all_the_same(machine):
    machine.program("shutdown", "exit 1")
    assert [command for command, _ in machine.run(40, 300).calls] == ["shutdown -P now", "poweroff"]


def test_a_power_off_that_does_not_happen_is_tried_again_by_force(machine):
    machine.program("shutdown", "exit 0")
    machine.program("poweroff", f"[ $up -lt {BOOT + 200} ] || {machine.off}")
    ended = machine.run(40, 300)
    assert [command for command, _ in ended.calls] == ["shutdown -P now", "poweroff -f"] * 2
    assert "still running after 60 s: powering off by force" in ended.console


def test_a_console_that_blocks_does_not_keep_it_from_its_work(machine):
    console = machine.top / "dev/console"
    console.unlink()
    os.mkfifo(console)
    assert [command for command, _ in machine.run(40, 300).calls] == ["shutdown -P now"]
    os.close(os.open(console, os.O_RDONLY | os.O_NONBLOCK))  # lets go those that wait for a reader


def test_it_leaves_the_control_group_of_cloud_init(machine):
    """systemd kills all of a unit that fails: https://github.com/canonical/cloud-init/issues/2542"""
    group = machine.top / "sys/fs/cgroup/cgroup.procs"
    group.touch()
    machine.run(40, 300)
    assert group.read_text() == machine.lock.read_text() != ""


@pytest.fixture(scope="module")
def user_data(tmp_path_factory):
    """The user-data that the role makes, with keys of its own."""
    directory = tmp_path_factory.mktemp("user-data")
    (directory / "play.yml").write_text("""
- hosts: localhost
  gather_facts: false
  vars:
    __ec2_backup_job: {host: here, title: a test, tags: {}, dry_run: false}
    # What the other roles decide, which the user-data does not depend on.
    __ec2_backup_stream: {}
    __ec2_backup_volume: {}
    __ec2_backup_instance: {tags: {}}
    ec2_backup_idle_timeout: "123"
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  tasks:
    - ansible.builtin.include_role: {name: ec2_backup.ebs.session, tasks_from: "{{ item }}"}
      loop: [start, plan, open, close]
    - ansible.builtin.copy: {content: "{{ __ec2_backup_user_data }}", dest: "{{ playbook_dir }}/user-data", mode: "600"}
""")
    argv = [
        Path(sys.executable).with_name("ansible-playbook"),
        "-i",
        "localhost,",
        "-c",
        "local",
        directory / "play.yml",
    ]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=directory)
    assert done.returncode == 0, done.stdout + done.stderr
    return (directory / "user-data").read_text()


def test_the_user_data_stays_well_below_the_limit_of_ec2(user_data):
    """16 KiB before base64: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html"""
    assert len(user_data.encode()) < 10 * 1024


def test_the_user_data_arms_the_watchdog_with_the_limits_that_were_asked_for(user_data):
    (command,) = json.loads(user_data.partition("\n")[2])["bootcmd"]
    assert all(isinstance(word, str) for word in command)  # what cloud-init's schema asks of the list form
    assert command[-4:] == ["ec2-backup-watchdog", SCRIPT.rstrip("\n"), "123", "86400"]


@pytest.mark.parametrize("setsid", [True, False])
def test_bootcmd_leaves_the_watchdog_running_on_its_own(user_data, machine, setsid):
    """As cloud-init runs it: the list quoted into a file, for /bin/sh; done when that is, whatever it leaves behind."""
    told = machine.top / "told"
    os.mkfifo(told)
    bootcmd = json.loads(user_data.partition("\n")[2])["bootcmd"]
    bootcmd[0][4] = f'echo "$0 $1 $2 $(ps -o sid= -p $$) $$" >{told}'
    shell = write_program(
        machine.top / "bin/sh", f'exec {shutil.which(machine.shell[0])} {" ".join(machine.shell[1:])} "$@"\n'
    )
    for tool in ("ps", *(["setsid"] if setsid else [])):
        (machine.top / "bin" / tool).symlink_to(str(shutil.which(tool)))
    script = machine.top / "bootcmd"
    script.write_text(cloudinit.plan(f"#cloud-config\n{json.dumps({'bootcmd': bootcmd})}".encode(), "", "u").bootcmd)
    done = subprocess.run(
        [shell, script], check=False, env={"PATH": f"{machine.top}/bin"}, capture_output=True, timeout=9
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    name, idle, lifetime, session, pid = told.read_text().split()  # its writer waited for this reader
    assert (name, idle, lifetime) == ("ec2-backup-watchdog", "123", "86400")
    assert (session == pid) is setsid
