# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""EC2's errors, and how long to put up with them."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Collection
from typing import Any

try:
    from botocore.exceptions import ClientError
except ImportError:  # AnsibleAWSModule reports it.
    ClientError = Exception  # type: ignore[misc, assignment]

# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
BUSY = ("InternalError", "RequestLimitExceeded", "ServiceUnavailable", "Unavailable")
LONGEST_PAUSE = 5.0  # seconds
POLL_SECONDS = 1.0
# For a client whose caller looks again: a network that swallows all is noticed sooner than botocore's minute for each
# of its tries.
NETWORK = {"connect_timeout": 10, "read_timeout": 30}
INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")


def error_code(error: BaseException) -> str:
    """EC2's own code of a botocore error, such as C(InvalidVolume.NotFound); empty for other exceptions."""
    return str((getattr(error, "response", None) or {}).get("Error", {}).get("Code", ""))


def rehearse(call: Callable[..., Any], **wanted: Any) -> None:
    """Have EC2 check a call, and carry nothing out.

    EC2 then refuses with the code C(DryRunOperation) what it would have done
    (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/CommonParameters.html).

    :raises ClientError: what EC2 would refuse the call for, such as C(UnauthorizedOperation).
    """
    try:
        call(**wanted, DryRun=True)
    except ClientError as error:
        if error_code(error) != "DryRunOperation":
            raise


def patiently(
    call: Callable[[], Any],
    passing: Collection[str],
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Any:
    """Call until it works, pausing a little longer each time, at random so that a fleet's hosts do not march in step.

    :param passing: EC2's codes for what may pass; other errors are raised at once, these after C(timeout) seconds.
    :returns: what the call returned.
    """
    deadline, pause = clock() + timeout, 1.0
    while True:
        try:
            return call()
        except ClientError as error:
            if error_code(error) not in passing or clock() >= deadline:
                raise
        sleep(min(random.uniform(0.5, 1) * pause, max(0.0, deadline - clock())))
        pause = min(2 * pause, LONGEST_PAUSE)
