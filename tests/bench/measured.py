# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run a command, and write what it took to a file: ``python measured.py REPORT COMMAND [ARGUMENT...]``.

Runs inside a lab. The CPU time is that of the command and of all its descendants: Linux adds the time of a process to
that of the parent that waits for it, and this process has made itself the one that inherits orphans and waits for them.
The lab's own processes (the API's server, the instances with their sshd and dd) are no descendants of the command.
"""

import ctypes
import json
import os
import resource
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def main(report: str, *command: str) -> int:
    """Run it; return its exit status."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    begun = time.monotonic()
    status = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    wall = time.monotonic() - begun
    while True:  # what the command left running, or nobody waited for, belongs to it too
        try:
            os.wait()
        except ChildProcessError:
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(report, "w") as file:
        json.dump({"status": status, "wall": wall, "cpu": used.ru_utime + used.ru_stime}, file)
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
