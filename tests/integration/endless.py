"""A backup that runs until it is ended, and how to kill all of its processes."""

import json
import sys
from pathlib import Path

from tests.integration.conftest import Lab
from tests.lab.harness import wait_for

# A stream without an end, a megabyte each half second.
ENDLESS = "cat; while yes | head -c 1000000; do sleep 0.5; done"

# Run inside the lab: a process and all that descend from it.
_TREE = r"""
import json, os, signal, sys
root = int(sys.argv[1])

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
"""
# Send a signal to all of them, or to those with that name.
SIGNAL_TREE = (
    _TREE
    + r"""
number, name = int(sys.argv[2]), sys.argv[3]

def send(pids, what):
    for pid in pids:
        try:
            os.kill(pid, what)
        except ProcessLookupError:
            pass

if name:
    victims = {pid for pid, comm in tree().items() if comm == name}
else:  # stop them first, so that they start no others and do not react to an end of another
    victims = set()
    while not victims.issuperset(now := set(tree())):
        send(now - victims, signal.SIGSTOP)
        victims |= now
send(victims, number)
print(len(victims))
"""
)
# The command line of the ssh among them.
SSH_OF_TREE = (
    _TREE
    + r"""
(pid,) = (pid for pid, comm in tree().items() if comm == "ssh")
with open(f"/proc/{pid}/cmdline") as file:
    print(json.dumps(file.read().split("\0")[:-1]))
"""
)


class Run:
    """A backup in the background of a lab, onto a new volume or one of the user's, that goes on until it is ended."""

    def __init__(self, lab: Lab, data: Path, *settings: str, given: bool = False) -> None:
        self.lab, self.top = lab, lab.state.with_suffix(".run")
        self.top.mkdir()
        self.given = [lab.make_volume()] if given else []
        options = [word for each in settings for word in ("-e", each)] + [
            word for each in self.given for word in ("-v", each)
        ]
        # In a session of its own, with its output in files, so that the agent does not wait for it.
        script = 'exec >"$0/stdout" 2>"$0/stderr" </dev/null; "$@"; echo $? >"$0/new"; mv "$0/new" "$0/status"'
        argv: list[str | Path] = ["sh", "-c", script, self.top, "./ec2_backup_runner.py", *options, "-l", ENDLESS, data]
        self.pid = lab.run("sh", "-c", 'setsid "$@" >/dev/null 2>&1 & echo $!', "sh", *argv).stdout.strip()

    def read(self, name: str) -> str:
        """Its stdout, stderr or status; empty before there is one."""
        return (self.top / name).read_text() if (self.top / name).exists() else ""

    def console(self) -> str:
        """What the instance has printed on its console so far."""
        return "".join(log.read_text(errors="replace") for log in self.lab.state.glob("instances/*/console.log"))

    def signal(self, number: int, name: str = "") -> int:
        """Send a signal to all of its processes, or to those called ``name``; return how many."""
        return int(self.lab.run(sys.executable, "-c", SIGNAL_TREE, self.pid, str(number), name).stdout)

    def ssh(self) -> list[str]:
        """The command line of the connection that the stream goes through, but for the remote command."""
        argv: list[str] = json.loads(self.lab.run(sys.executable, "-c", SSH_OF_TREE, self.pid).stdout)
        return argv[:-1]

    def reaches_stream(self, seconds: int = 90) -> bool:
        """Wait until the volume has been written to, or the instance or the backup has ended; return whether it was."""
        images = self.lab.state / "volumes"
        written = False

        def settled() -> bool:
            nonlocal written
            written = any(image.stat().st_blocks > 2048 for image in images.glob("vol-*"))
            return written or bool(self.read("status")) or "powering off" in self.console()

        wait_for(settled, "a volume to be written to", seconds)
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
