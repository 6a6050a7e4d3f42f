# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the modules ask EC2 about volumes, and how they wait for a volume to change.

The waiters of amazon.aws poll every 15 s and examine the volume's state, but ``in-use`` does not mean that it is
attached. Its module ``ec2_vol`` reports the other volume if the device name is taken.
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
    """A condition was not met in time; the text says which, and the last state."""


def describe_volume(client: Any, volume_id: str) -> Volume | None:
    """Return a volume as EC2 describes it, or None if there is no such volume in this region."""
    try:
        return client.describe_volumes(VolumeIds=[volume_id])["Volumes"][0]
    except ClientError as error:
        if error_code(error) == "InvalidVolume.NotFound":
            return None
        raise


def live_attachments(volume: Volume) -> list[dict[str, Any]]:
    """Return the volume's attachments without those that EC2 still shows as ``detached`` for a moment."""
    return [item for item in volume.get("Attachments", []) if item.get("State") != "detached"]


def describe_state(volume: Volume | None) -> str:
    """Return a volume's state in words, for messages: ``in-use, attached to i-… as /dev/sdf``."""
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
    """Poll each second until a condition is met; return the volume as it is then.

    :param condition: is given what ``describe`` returned.
    :param what: the condition in words, for the message.
    :param timeout: in seconds.
    :param describe: returns the volume as EC2 describes it now, or None.
    :raises WaitTimeout: the condition was not met in time.
    """
    deadline = clock() + timeout
    while True:
        volume = describe()
        if condition(volume):
            return volume
        if clock() >= deadline:
            raise WaitTimeout(f"{what}: not so after {timeout:.0f} s; last seen: {describe_state(volume)}.")
        sleep(POLL_SECONDS)
