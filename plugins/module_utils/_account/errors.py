# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""EC2's errors: their codes, and how long a call is repeated."""

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
# Timeouts in seconds for a client whose caller repeats its calls: a dead network is noticed sooner than with botocore's
# minute for each try.
NETWORK = {"connect_timeout": 10, "read_timeout": 30}
INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")


def error_code(error: BaseException) -> str:
    """Return EC2's code of a botocore error, such as ``InvalidVolume.NotFound``; empty for other exceptions."""
    return str((getattr(error, "response", None) or {}).get("Error", {}).get("Code", ""))


def rehearse(call: Callable[..., Any], **wanted: Any) -> None:
    """Have EC2 check a call without carrying it out.

    For a call that it would carry out EC2 then returns the error code ``DryRunOperation``
    (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/CommonParameters.html).

    :raises ClientError: EC2 would refuse the call, for example with ``UnauthorizedOperation``.
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
    """Repeat a call until it succeeds, and return its result.

    The pauses grow, and are random so that the hosts of a fleet do not call at the same moment.

    :param passing: EC2's codes of errors that may go away. They are raised only after the timeout, all others at once.
    :param timeout: in seconds.
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
