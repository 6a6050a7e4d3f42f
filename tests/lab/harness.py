"""Start a lab, and enter its network namespace during a test. The tests themselves run outside the lab."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

RUN = Path(__file__).resolve().parents[2] / "lab" / "run"
FAST = {
    "EC2_LAB_PENDING": "0.5",
    "EC2_LAB_BOOT": "0.3",
    "EC2_LAB_SHUTDOWN": "0.5",
    "EC2_LAB_VOLUME_CREATING": "0.5",
    "EC2_LAB_ATTACH": "0.5",
    "EC2_LAB_DEVICE": "0.2",
    "EC2_LAB_DETACH": "0.2",
}
AL2023 = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{}"
CLONE_NEWNET = 0x40000000


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 15.0) -> Any:
    """Call `condition` until its value is true, and return that; fail with `what` in the message after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}; last seen: {value!r}"
        time.sleep(0.03)


def code_of(call: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
    """(code, message) of the error that a call raises; both are empty if it succeeds."""
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["Error"]["Message"] or ""
    return "", ""


class Lab:
    """A running lab: clients, files and helpers to use it from outside."""

    def __init__(self, process: subprocess.Popen[str], environment: Mapping[str, str], keys: Path) -> None:
        self.process = process
        self.environment = environment
        self.state = Path(environment["EC2_LAB_STATE"])
        self.keys = keys
        self.ec2: Any = self.client("ec2")
        self.key = keys / "key"
        if not self.key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)

    def client(self, service: str, region: str = "", retries: int = 1) -> Any:
        return boto3.client(
            service,  # type: ignore[call-overload]  # the stubs want a literal
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            region_name=region or self.environment["AWS_REGION"],
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"total_max_attempts": retries}, proxies={}),
        )

    @contextmanager
    def network(self) -> Iterator[None]:
        """Put this thread into the lab's network namespace until the block ends."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net") as ours, open(f"/proc/{self.process.pid}/ns/net") as theirs:
            assert libc.setns(theirs.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert libc.setns(ours.fileno(), CLONE_NEWNET) == 0

    def ami(self, architecture: str = "x86_64", region: str = "") -> str:
        answer = self.client("ssm", region).get_parameter(Name=AL2023.format(architecture))
        return str(answer["Parameter"]["Value"])

    @property
    def public_key(self) -> str:
        return self.key.with_suffix(".pub").read_text().strip()

    def key_pair(self) -> str:
        if not self.ec2.describe_key_pairs()["KeyPairs"]:
            self.ec2.import_key_pair(KeyName="lab", PublicKeyMaterial=self.public_key.encode())
        return "lab"

    def open_group(self, cidr: str = "127.0.0.1/32") -> str:
        name = f"ssh-{time.monotonic_ns()}"
        group = self.ec2.create_security_group(GroupName=name, Description="SSH")["GroupId"]
        self.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[ssh_rule(cidr)])
        return str(group)

    def launch(self, **arguments: Any) -> str:
        """Call RunInstances with defaults for what `arguments` lacks; None leaves a parameter out. Returns the ID."""
        wanted = {
            "InstanceType": "t3.nano",
            "MinCount": 1,
            "MaxCount": 1,
            "InstanceInitiatedShutdownBehavior": "terminate",
            **arguments,
        }
        wanted.setdefault("ImageId", self.ami())
        wanted.setdefault("KeyName", self.key_pair())
        if "SecurityGroupIds" not in wanted:
            wanted["SecurityGroupIds"] = [self.open_group()]
        wanted = {name: value for name, value in wanted.items() if value is not None}
        return str(self.ec2.run_instances(**wanted)["Instances"][0]["InstanceId"])

    def instance(self, instance_id: str) -> dict[str, Any]:
        found = self.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
        return dict(found)

    def state_of(self, instance_id: str) -> str:
        return str(self.instance(instance_id)["State"]["Name"])

    def wait_state(self, instance_id: str, state: str) -> dict[str, Any]:
        wait_for(lambda: self.state_of(instance_id) == state, f"{instance_id} to be {state}")
        return self.instance(instance_id)

    def ssh_argv(self, address: str, user: str = "ec2-user", *options: str, key: Path | None = None) -> list[str]:
        fixed = ["-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=3", "-o", "IdentitiesOnly=yes"]
        trust = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        return ["ssh", *options, *fixed, *trust, "-i", str(key or self.key), f"{user}@{address}"]

    def ssh(
        self, address: str, command: str, user: str = "ec2-user", *options: str
    ) -> subprocess.CompletedProcess[str]:
        argv = [*self.ssh_argv(address, user, *options), command]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)

    def login(self, instance_id: str, user: str = "ec2-user") -> str:
        """Wait until a command runs over SSH. Returns the instance's address."""
        address = str(self.wait_state(instance_id, "running")["PublicIpAddress"])
        wait_for(lambda: self.ssh(address, "true", user).returncode == 0, f"an SSH login as {user}@{address}")
        return address

    def volume(self, volume_id: str) -> dict[str, Any]:
        return dict(self.ec2.describe_volumes(VolumeIds=[volume_id])["Volumes"][0])

    def create_volume(self, size: int = 1, zone: str = "us-east-1a", **arguments: Any) -> str:
        volume = self.ec2.create_volume(Size=size, AvailabilityZone=zone, VolumeType="gp3", **arguments)["VolumeId"]
        wait_for(lambda: self.volume(volume)["State"] == "available", f"{volume} to be available")
        return str(volume)

    def image(self, volume_id: str) -> Path:
        return self.state / "volumes" / f"{volume_id}.img"

    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.state / "calls.jsonl").read_text().splitlines()]

    def set_faults(self, faults: Mapping[str, Any]) -> None:
        path = self.state / "faults.json"
        path.with_suffix(".new").write_text(json.dumps(faults))
        path.with_suffix(".new").rename(path)


def ssh_rule(cidr: str) -> dict[str, Any]:
    return {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": cidr}]}


@contextmanager
def running_lab(directory: Path, **variables: str) -> Iterator[Lab]:
    """Start a lab with the settings `variables`; it ends with the block."""
    environment = {**os.environ, **FAST, "EC2_LAB_STATE": str(directory / "state"), **variables}
    # prints its environment, then waits until its stdin is closed
    report = "import json, os, sys; print(json.dumps(dict(os.environ)), flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [RUN, "python", "-c", report], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line, f"lab/run ended with status {process.wait()}"
        yield Lab(process, json.loads(line), directory)
    finally:
        process.communicate()
    assert process.returncode == 0
