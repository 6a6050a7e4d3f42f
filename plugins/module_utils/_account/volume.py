# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the modules ask EC2 about volumes, and how they wait for the answer to change.

Not the waiters of amazon.aws: those poll every 15 s and look at the volume, whose C(in-use) says nothing about the
attachment. Not its M(amazon.aws.ec2_vol) either: for a device name that is taken it reports the other volume.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

try:
    from botocore.exceptions import ClientError
except ImportError:  # AnsibleAWSModule reports it.
    ClientError = Exception  # type: ignore[misc, assignment]

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.errors import POLL_SECONDS, error_code

Volume = Any  # a volume as DescribeVolumes returns it


class WaitTimeout(Exception):
    """A condition did not come true in time; the text says which, and what was seen last."""


def describe_volume(client: Any, volume_id: str) -> Volume | None:
    """One volume as EC2 describes it, or None where this region has no such volume."""
    try:
        return client.describe_volumes(VolumeIds=[volume_id])["Volumes"][0]
    except ClientError as error:
        if error_code(error) == "InvalidVolume.NotFound":
            return None
        raise


def live_attachments(volume: Volume) -> list[dict[str, Any]]:
    """The volume's attachments that still bind it (EC2 keeps showing C(detached) ones for a moment)."""
    return [item for item in volume.get("Attachments", []) if item.get("State") != "detached"]


def describe_state(volume: Volume | None) -> str:
    """A volume's state in words, for messages: C(in-use, attached to i-… as /dev/sdf)."""
    if volume is None:
        return "gone"
    attachments = [
        "{} to {} as {}".format(item["State"], item["InstanceId"], item["Device"]) for item in live_attachments(volume)
    ]
    return ", ".join([volume["State"], *attachments])


def wait_for(
    condition: Callable[[Volume | None], bool],
    what: str,
    timeout: float,
    describe: Callable[[], Volume | None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Volume | None:
    """Poll each second until a condition holds.

    :param condition: takes what C(describe()) returned; true ends the wait.
    :param what: the condition in words, for the message.
    :param timeout: seconds.
    :param describe: called without arguments for a fresh look; returns a volume or None.
    :returns: the last look.
    :raises WaitTimeout: with C(what), the seconds, and what was seen last.
    """
    deadline = clock() + timeout
    while True:
        volume = describe()
        if condition(volume):
            return volume
        if clock() >= deadline:
            raise WaitTimeout(f"{what}: not so after {timeout:.0f} s; last seen: {describe_state(volume)}.")
        sleep(POLL_SECONDS)
