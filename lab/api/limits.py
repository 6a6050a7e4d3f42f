# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""EBS limits, checked as EC2 does: https://docs.aws.amazon.com/ebs/latest/userguide/ebs-volume-types.html

The limits of gp3 are those since September 2025: 64 TiB, 80,000 IOPS, 2,000 MiB/s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from moto.ec2.exceptions import EC2ClientError


@dataclass(frozen=True)
class Limit:
    """The limits of a volume type. Sizes are in GiB.

    :ivar iops: None if they cannot be set.
    :ivar throughput: in MiB/s; None if it cannot be set.
    """

    smallest: int
    largest: int
    iops: tuple[int, int] | None = None
    iops_per_gib: int = 0
    throughput: tuple[int, int] | None = None


LIMITS = {
    "gp3": Limit(1, 65536, (3000, 80000), 500, (125, 2000)),
    "gp2": Limit(1, 16384),
    "io1": Limit(4, 16384, (100, 64000), 50),
    "io2": Limit(4, 65536, (100, 256000), 1000),
    "st1": Limit(125, 16384),
    "sc1": Limit(125, 16384),
    "standard": Limit(1, 1024),
}
_BASE_IOPS = 3000  # a gp3 volume has as many at any size
_DEVICE = re.compile(r"(/dev/)?(sd[a-z](1[0-5]|[1-9])?|xvd[a-z]{1,2}[0-9]{0,2}|hd[a-z])")


def invalid(message: str) -> EC2ClientError:
    """Return the error InvalidParameterValue."""
    return EC2ClientError("InvalidParameterValue", message)


def check_volume(kind: str, size: int, iops: int | None, throughput: int | None) -> None:
    """Check a volume's size, IOPS and throughput as CreateVolume and RunInstances do.

    :param size: in GiB.
    :param throughput: in MiB/s.
    :raises EC2ClientError: with the code with which EC2 refuses a volume that is not possible.
    """
    limit = LIMITS.get(kind)
    if limit is None:
        raise EC2ClientError("UnknownVolumeType", f"Unknown volume type: {kind}")
    if size < limit.smallest:
        raise invalid(f"Volume of {size}GiB is too small for volume type {kind}; minimum is {limit.smallest}GiB")
    if size > limit.largest:
        raise invalid(f"Volume of {size}GiB is too large for volume type {kind}; maximum is {limit.largest}GiB")
    if iops is not None:
        if limit.iops is None:
            raise EC2ClientError(
                "InvalidParameterCombination", f"The parameter iops is not supported for {kind} volumes."
            )
        low, high = limit.iops
        if iops < low:
            raise invalid(f"Volume iops of {iops} is too low; minimum is {low}.")
        if iops > high:
            raise invalid(f"Volume iops of {iops} is too high; maximum is {high}.")
        if iops / size > limit.iops_per_gib and not (kind == "gp3" and iops <= _BASE_IOPS):
            raise invalid(
                f"Iops to volume size ratio of {iops / size:.6f} is too high; maximum is {limit.iops_per_gib}"
            )
    if throughput is not None:
        if limit.throughput is None:
            raise EC2ClientError("InvalidParameterCombination", "throughput can only be specified for volumeType gp3.")
        low, high = limit.throughput
        if throughput < low:
            raise invalid(f"Throughput (MiBps) of {throughput} is too low; minimum is {low}.")
        if throughput > high:
            raise invalid(f"Throughput (MiBps) of {throughput} is too high; maximum is {high}.")
        ratio = throughput / (iops or _BASE_IOPS)
        if ratio > 0.25:
            raise invalid(
                f"Throughput (MiBps) to iops ratio of {ratio:.6f} is too high; maximum is 0.250000 MiBps per iops"
            )


def check_device(name: str) -> None:
    """Check a device name such as /dev/sdf.

    :raises EC2ClientError: EC2 would refuse it.
    """
    if not _DEVICE.fullmatch(name):
        raise invalid(f"Value ({name}) for parameter device is invalid. {name} is not a valid EBS device name.")
