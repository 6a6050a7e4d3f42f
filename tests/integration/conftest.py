"""A lab for each test, and what the tests ask of it."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[2]
POLICY = CHECKOUT / "docs" / "iam-policy.json"
"""Applies to all that a test runs in a lab, so each test shows that it suffices."""

# For a lab in which EC2 takes little time, for tests that do not depend on it.
QUICK = {
    "EC2_LAB_PENDING": "0.2",
    "EC2_LAB_BOOT": "0.2",
    "EC2_LAB_SHUTDOWN": "0.2",
    "EC2_LAB_VOLUME_CREATING": "0",
    "EC2_LAB_ATTACH": "0.2",
    "EC2_LAB_DEVICE": "0.2",
    "EC2_LAB_DETACH": "0.2",
}


@dataclasses.dataclass
class Done:
    """How a command ended."""

    rc: int
    stdout: str
    stderr: str

    @property
    def volume_id(self) -> str:
        """The one line on stdout of a backup that worked."""
        assert self.rc in (0, 3), self
        lines = self.stdout.splitlines()
        assert len(lines) == 1, self
        assert lines[0].startswith("vol-"), self
        return lines[0]


class Lab:
    """A lab that runs, seen from outside."""

    def __init__(self, state: Path, settings: dict[str, str]) -> None:
        self.state = state
        self.process = subprocess.Popen(
            [CHECKOUT / "lab" / "run", sys.executable, Path(__file__).with_name("agent.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
            env={
                **os.environ,
                "EC2_LAB_STATE": str(state),
                "EC2_LAB_POLICY": str(POLICY),
                "XDG_CONFIG_HOME": str(state / "no-settings"),  # so that a developer's own settings are not used
                **settings,
            },
        )

    def ask(self, **request: Any) -> Any:
        """Send one request to the agent inside."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the lab ended"
        return json.loads(line)

    def run(self, *argv: str | Path, cwd: Path = CHECKOUT, **environment: str) -> Done:
        """Run a command inside, and wait for it."""
        return Done(**self.ask(run=[str(word) for word in argv], env=environment, cwd=str(cwd)))

    def backup(self, *argv: str | Path, **environment: str) -> Done:
        """Run the wrapper inside."""
        return self.run("./ec2_backup_runner.py", *argv, cwd=CHECKOUT, **environment)

    def api(self, call: str, region: str = "us-east-1", service: str = "ec2", **arguments: Any) -> Any:
        """Call EC2 (or another service) as boto3 does; an error of EC2's comes back as ``{"error": CODE, …}``."""
        reply = self.ask(api=call, region=region, service=service, arguments=arguments)
        return reply.get("answer", reply)

    def image(self, volume_id: str) -> Path:
        """The raw bytes of a volume."""
        return self.state / "volumes" / f"{volume_id}.img"

    def calls(self, action: str) -> list[dict[str, Any]]:
        """The calls of one API action so far, oldest first."""
        lines = (self.state / "calls.jsonl").read_text().splitlines()
        return [call for call in map(json.loads, lines) if call["action"] == action]

    def instances(self, region: str = "us-east-1") -> list[dict[str, Any]]:
        """All instances that the region knows of."""
        return [
            instance
            for reservation in self.api("describe_instances", region)["Reservations"]
            for instance in reservation["Instances"]
        ]

    def volumes(self, region: str = "us-east-1") -> dict[str, dict[str, Any]]:
        """All volumes of the region, by ID."""
        return {volume["VolumeId"]: volume for volume in self.api("describe_volumes", region)["Volumes"]}

    def break_api(self, *faults: dict[str, Any]) -> None:
        """Make API calls fail from now on, as docs/lab.md says; without arguments, no more."""
        self.api("describe_regions")  # the state directory exists once the lab answers
        new = self.state / "faults.new"
        new.write_text(json.dumps({"api": list(faults)}))
        new.rename(self.state / "faults.json")

    def make_volume(self, size: int = 1, zone: str = "us-east-1a") -> str:
        """Make a volume of a user's, and wait until it is available."""
        region = zone[:-1]
        volume: str = self.api("create_volume", region, Size=size, AvailabilityZone=zone, VolumeType="gp3")["VolumeId"]
        while self.volumes(region)[volume]["State"] == "creating":
            pass
        return volume

    def make_group(self) -> str:
        """Make a security group of a user's that lets this machine in. With one a run is quicker: it makes none."""
        vpc = self.api("describe_vpcs")["Vpcs"][0]["VpcId"]
        group: str = self.api("create_security_group", GroupName="ours", Description="SSH", VpcId=vpc)["GroupId"]
        rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "127.0.0.0/8"}]}
        self.api("authorize_security_group_ingress", GroupId=group, IpPermissions=[rule])
        return group

    def assert_nothing_left(self, *kept: str, region: str = "us-east-1") -> None:
        """Fail unless every instance is terminated, just the volumes ``kept`` are there, and no group of ours is."""
        assert {instance["State"]["Name"] for instance in self.instances(region)} <= {"terminated"}
        assert {name: volume["State"] for name, volume in self.volumes(region).items()} == dict.fromkeys(
            kept, "available"
        )
        groups = self.api("describe_security_groups", region)["SecurityGroups"]
        assert [group["GroupName"] for group in groups if group["GroupName"].startswith("ec2-backup")] == []

    def close(self) -> None:
        """End the lab."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:  # a process inside hangs: it must be ended with the test
            self.process.kill()
            raise


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[Callable[..., Lab]]:
    """Return a function that starts a lab with the settings it is given."""
    labs: list[Lab] = []

    def make(**settings: str) -> Lab:
        labs.append(Lab(tmp_path / f"lab{len(labs)}", settings))
        return labs[-1]

    yield make
    for lab in labs:
        lab.close()


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """Return a lab with default settings."""
    return make_lab()


@pytest.fixture
def quick(make_lab: Callable[..., Lab]) -> Lab:
    """Return a lab in which EC2 takes little time."""
    return make_lab(**QUICK)
