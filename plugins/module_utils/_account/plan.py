# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decisions that need no I/O: how large a volume is, which architecture a type has, how a tag reads."""

from __future__ import annotations

import re

from ansible_collections.ec2_backup.ebs.plugins.module_utils.text import printable

GIB = 1 << 30
RESERVED = 1 << 20  # the volume's last MiB, in which the manifest is

# EC2: "Tag value: maximum 256 Unicode characters" (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html).
TAG_VALUE_LENGTH = 256


def volume_gib(archive_bytes: int, factor: float = 2) -> int:
    """Size of a new volume in GiB: the archive's bytes times C(factor), and the manifest, rounded up, at least 1.

    1 GiB is the smallest gp3 volume (https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html).

    :raises ValueError: a negative length, or a factor below 1 (the archive would not fit).
    """
    if archive_bytes < 0:
        raise ValueError(f"an archive cannot have {archive_bytes} bytes")
    if factor < 1:
        raise ValueError(f"ec2_backup_volume_size_factor is {factor}, but must be at least 1 for the archive to fit.")
    # Thousandths keep the arithmetic exact: a float of 2^53 and more would round a byte away.
    scaled = archive_bytes * round(factor * 1000)
    return -(-max(scaled, 1000 * (archive_bytes + RESERVED)) // (1000 * GIB))


def architecture(instance_type: str) -> str:
    """C(arm64) or C(x86_64), from an instance type's name.

    The letters behind the generation number are the processor family and options; C(g) is AWS Graviton
    (https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-type-names.html). C(a1) came before that rule.
    """
    family = instance_type.split(".", 1)[0].split("-", 1)[0]
    options = re.match(r"^[a-z]+\d+([a-z]*)$", family)
    return "arm64" if family == "a1" or (options and "g" in options.group(1)) else "x86_64"


def tag_value(text: object) -> str:
    """C(text) as a tag can hold it: one line, printable, at most 256 characters (the end is what gets lost)."""
    readable = printable(text)
    return readable if len(readable) <= TAG_VALUE_LENGTH else readable[: TAG_VALUE_LENGTH - 1] + "…"


def launch_candidates(instance_types: list[str], subnets: list[dict[str, str]]) -> list[dict[str, str]]:
    """Where to try a launch, best first: the first type in every zone, then the next type.

    :param subnets: as M(amazon.aws.ec2_vpc_subnet_info) returns them; the order of zones is that of their names.
    :returns: dicts of C(instance_type), C(subnet_id) and C(zone).
    """
    in_order = sorted(subnets, key=lambda subnet: subnet["availability_zone"])
    return [
        {"instance_type": instance_type, "subnet_id": subnet["subnet_id"], "zone": subnet["availability_zone"]}
        for instance_type in instance_types
        for subnet in in_order
    ]
