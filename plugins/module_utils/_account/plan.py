# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decisions without I/O: the size of a volume, an instance type's architecture, the text of a tag, where to launch."""

from __future__ import annotations

import re

from ansible_collections.ec2_backup.ebs.plugins.module_utils.text import printable

GIB = 1 << 30
RESERVED = 1 << 20  # the volume's last MiB, which holds the manifest

# EC2: "Tag value: maximum 256 Unicode characters" (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html).
TAG_VALUE_LENGTH = 256


def volume_gib(archive_bytes: int, factor: float = 2) -> int:
    """Return the size of a new volume in GiB: the archive's bytes times ``factor``, or more if the manifest needs it.

    1 GiB is the smallest gp3 volume (https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html).

    :raises ValueError: the length is negative, or the factor is below 1 (the archive would not fit).
    """
    if archive_bytes < 0:
        raise ValueError(f"an archive cannot have {archive_bytes} bytes")
    if factor < 1:
        raise ValueError(f"ec2_backup_volume_size_factor is {factor}, but must be at least 1 for the archive to fit.")
    # In thousandths the arithmetic is exact: a float of 2^53 and more would lose single bytes.
    scaled = archive_bytes * round(factor * 1000)
    return -(-max(scaled, 1000 * (archive_bytes + RESERVED)) // (1000 * GIB))


def architecture(instance_type: str) -> str:
    """Return ``arm64`` or ``x86_64``, from an instance type's name.

    The letters behind the generation number are the processor family and options; ``g`` is AWS Graviton
    (https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-type-names.html). ``a1`` is older than that rule.
    """
    family = instance_type.split(".", 1)[0].split("-", 1)[0]
    options = re.match(r"^[a-z]+\d+([a-z]*)$", family)
    return "arm64" if family == "a1" or (options and "g" in options.group(1)) else "x86_64"


def volume_bytes(gib: int) -> int:
    """Return the size in bytes of a volume of so many GiB."""
    return int(gib) * GIB


def usable_bytes(gib: int) -> int:
    """Return how many bytes of stream a volume of so many GiB can hold, beside the manifest."""
    return volume_bytes(gib) - RESERVED


def tag_value(text: object) -> str:
    """Return ``text`` as a tag can hold it: one line, printable, cut after 256 characters."""
    readable = printable(text)
    return readable if len(readable) <= TAG_VALUE_LENGTH else readable[: TAG_VALUE_LENGTH - 1] + "…"


def launch_candidates(instance_types: list[str], subnets: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return where to try a launch, best first: the first type in every zone, then the next type.

    :param subnets: as ``amazon.aws.ec2_vpc_subnet_info`` returns them; zones are in the order of their names.
    :returns: dictionaries with ``instance_type``, ``subnet_id`` and ``zone``.
    """
    in_order = sorted(subnets, key=lambda subnet: subnet["availability_zone"])
    return [
        {"instance_type": instance_type, "subnet_id": subnet["subnet_id"], "zone": subnet["availability_zone"]}
        for instance_type in instance_types
        for subnet in in_order
    ]
