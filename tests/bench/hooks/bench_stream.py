# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A callback plugin of Ansible's that notes how long the stream of a measured run took: ``{"stream": SECONDS}``."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: bench_stream
type: notification
short_description: Note how long the stream took
description: Adds a line of JSON to the file that the environment variable EC2_BACKUP_BENCH_RECORDS names.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible carries no types
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "bench_stream"
    CALLBACK_NEEDS_ENABLED = True

    def v2_runner_on_ok(self, result: Any) -> None:
        returned = result._result
        if result._task.action.endswith(".stream_send") and "seconds" in returned:
            with open(os.environ["EC2_BACKUP_BENCH_RECORDS"], "a") as file:
                file.write(json.dumps({"stream": float(returned["seconds"])}) + "\n")
