# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The AMIs of the lab: Amazon Linux with its public SSM parameters, and one that is like NetBSD."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Any

from moto.utilities.utils import load_resource

_MODEL_REGION = "us-east-1"
NETBSD_ID = "ami-0000000000000eb5d"
NETBSD_NAME = "NetBSD-10.1-amd64-ec2-lab"


@dataclass(frozen=True)
class Image:
    """An AMI.

    :ivar size: that of the root volume, in GiB.
    :ivar kind: al2023 (has cloud-init) or netbsd (has none).
    """

    id: str
    name: str
    description: str
    architecture: str
    owner: str
    root_device: str
    kind: str
    user: str
    size: int = 8

    @property
    def metadata_defaults(self) -> tuple[str, int]:
        """The defaults of HttpTokens and HttpPutResponseHopLimit for an instance of this AMI.

        AL2023's AMIs have ImdsSupport v2.0:
        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-IMDS-new-instances.html
        """
        return ("required", 2) if self.name.startswith("al2023-") else ("optional", 1)


NETBSD = Image(
    NETBSD_ID,
    NETBSD_NAME,
    "NetBSD-like: login root, no cloud-init, no sudo, disks are xbd1, xbd2, ...",
    "x86_64",
    "807492473263",
    "/dev/sda1",
    "netbsd",
    "root",
    2,
)


@functools.lru_cache
def parameters(region: str) -> dict[str, str]:
    """Return the public SSM parameters of a region: AMI IDs by the parameters' paths."""
    own = _resource("ssm/resources/ami-amazon-linux-latest", region)
    if own is not None:
        return {entry["Name"]: entry["Value"] for entry in own}
    model = _resource("ssm/resources/ami-amazon-linux-latest", _MODEL_REGION) or []
    return {entry["Name"]: _regional(entry["Value"], region) for entry in model}


@functools.lru_cache
def images(region: str) -> list[Image]:
    """Return the AMIs of a region. As on EC2, Amazon's AMIs have different IDs in each region."""
    own = _resource("ec2/resources/latest_amis", region)
    listed = own if own is not None else _resource("ec2/resources/latest_amis", _MODEL_REGION) or []
    found = [
        Image(
            entry["ami_id"] if own is not None else _regional(entry["ami_id"], region),
            entry["name"],
            entry["description"] or "",
            entry["architecture"],
            entry["owner_id"],
            entry["root_device_name"],
            "al2023",
            "ec2-user",
        )
        for entry in listed
    ]
    return [*found, NETBSD]


def image(region: str, image_id: str) -> Image | None:
    """Return the AMI with an ID, or None."""
    return next((entry for entry in images(region) if entry.id == image_id), None)


def _resource(directory: str, region: str) -> list[dict[str, Any]] | None:
    try:
        value: list[dict[str, Any]] = load_resource(f"{directory}/{region}.json")
    except FileNotFoundError:
        return None
    return value


def _regional(image_id: str, region: str) -> str:
    return "ami-0" + hashlib.sha256(f"{image_id} {region}".encode()).hexdigest()[:16]
