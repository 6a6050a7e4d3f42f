"""Terminate an instance while a backup streams onto its volume, as an operator's mistake or EC2 itself would.

    terminate_in_midstream.py NAME GATE RECORD

Waits until the instance with the tag Name=NAME runs and the first bytes are on its data volume; terminates it by the
API; writes its ID to the file RECORD; and opens the FIFO GATE, at which the stream waits. Runs inside the lab.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3

SECTOR = 512


def wait_for(condition: Callable[[], Any]) -> Any:
    """Return the first value that is true. The caller of this program limits the time."""
    while not (value := condition()):
        time.sleep(0.2)  # the interval of a poll
    return value


def data_volumes(instance: dict[str, Any]) -> list[str]:
    """Return the IDs of what is attached beside the root volume."""
    mappings = instance["BlockDeviceMappings"]
    return [each["Ebs"]["VolumeId"] for each in mappings if each["DeviceName"] != instance["RootDeviceName"]]


def main(name: str, gate: Path, record: Path) -> None:
    """Terminate the instance while the backup streams."""
    ec2: Any = boto3.client("ec2")
    filters = [{"Name": "tag:Name", "Values": [name]}, {"Name": "instance-state-name", "Values": ["running"]}]

    def found() -> list[tuple[str, str]]:
        """Instances that run and their data volumes."""
        answer = ec2.describe_instances(Filters=filters)["Reservations"]
        instances = [instance for reservation in answer for instance in reservation["Instances"]]
        return [(each["InstanceId"], volume) for each in instances for volume in data_volumes(each)]

    try:
        [(instance, volume)] = wait_for(found)
        image = Path(os.environ["EC2_LAB_STATE"], "volumes", f"{volume}.img")
        with image.open("rb", buffering=0) as disk:
            wait_for(lambda: os.pread(disk.fileno(), SECTOR, 0).strip(b"\0"))
        ec2.terminate_instances(InstanceIds=[instance])
        record.write_text(instance)
    finally:  # also after an error: the stream must not wait for ever
        gate.open("w").close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
