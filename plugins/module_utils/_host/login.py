# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Waiting until a command can be run on an instance.

Runs on the host whose directory is saved or restored to: Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Sequence

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.ssh import (
    classify_complaint,
    is_final,
    wrong_host_key,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils.text import last_words

MARKER = "ec2-backup-login"
PROBE = f"echo {MARKER} `id -un` `uname -srm`"  # backquotes: csh knows them too
# The kernel sends SYNs after 0, 1, 3 and 7 s: a new attempt after 5 s finds an instance that has just come up sooner.
# The value also limits the handshake, for which an instance that boots slowly needs more: hence MOST_PATIENCE.
ATTEMPT_CONNECT_SECONDS = 5
ATTEMPT_SECONDS = 20
MOST_PATIENCE = 8  # times these seconds


class WaitError(Exception):
    """No login was possible; the text is one line for the user.

    :ivar elapsed: seconds.
    :ivar attempts: how many there were.
    :ivar stderr: that of the last attempt.
    """

    def __init__(self, message: str, elapsed: float, attempts: int, stderr: str) -> None:
        super().__init__(message)
        self.elapsed, self.attempts, self.stderr = elapsed, attempts, stderr


def parse_probe(stdout: str) -> dict[str, str] | None:
    """Return login and kernel from the probe's output, or None if the marker is not in it."""
    for line in stdout.splitlines():
        words = line.split()
        if words[:1] == [MARKER]:
            return {"login": words[1] if len(words) > 1 else "", "kernel": " ".join(words[2:])}
    return None


def was_slow(stderr: str) -> bool:
    """Return whether an attempt reached the instance, but took too long."""
    return "connect to host" not in stderr and re.search("timed out|no answer within", stderr) is not None


def attempt_login(ssh: Sequence[str], connect_seconds: int, seconds: float) -> tuple[dict[str, str] | None, str]:
    """Try once to log in; return what the probe found (or None), and ssh's stderr.

    :param connect_seconds: seconds that ssh waits for the connection.
    :param seconds: seconds in all.
    :raises OSError: ssh could not be run.
    """
    argv = [ssh[0], "-o", f"ConnectTimeout={connect_seconds}", *ssh[1:], PROBE]
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    with process:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            out, err = b"", f"no answer within {seconds:.0f} s".encode()
        finally:
            if process.returncode is None:  # and a ProxyCommand that it started
                os.killpg(process.pid, signal.SIGKILL)
    stderr = err.decode("utf-8", "replace")
    found = parse_probe(out.decode("utf-8", "replace")) if process.returncode == 0 else None
    if found is None and not stderr.strip():
        stderr = f"the login was made, but the command ended with status {process.returncode}"
    return found, stderr


def wait_for_login(ssh: Sequence[str], timeout: float, interval: float, total: float | None = None) -> dict[str, Any]:
    """Try until a command has run on the instance; return login, kernel, elapsed (seconds) and attempts.

    :param ssh: its argv.
    :param timeout: seconds in all.
    :param interval: seconds between the starts of two attempts.
    :param total: seconds that the message of a failure names, if the caller has waited before; by default ``timeout``.
    :raises WaitError: at the deadline, or at once for a failure that does not go away.
    """
    target, start, attempts, patience = ssh[-1], time.monotonic(), 0, 1
    while True:
        began = time.monotonic()
        attempts += 1
        try:
            left = max(1.0, start + timeout - began)
            found, stderr = attempt_login(
                ssh, ATTEMPT_CONNECT_SECONDS * patience, min(ATTEMPT_SECONDS * patience, left)
            )
        except OSError as error:
            raise WaitError(f"{ssh[0]} could not be run: {error.strerror}", 0.0, attempts, "") from None
        elapsed = round(time.monotonic() - start, 2)
        if found is not None:
            return dict(found, elapsed=elapsed, attempts=attempts)
        kind = classify_complaint(stderr)
        if kind == "host key":
            raise WaitError(wrong_host_key(target), elapsed, attempts, stderr)
        if is_final(kind):
            raise WaitError(f"ssh does not take its options: {last_words(stderr)}", elapsed, attempts, stderr)
        if was_slow(stderr):
            patience = min(2 * patience, MOST_PATIENCE)
        pause = began + interval - time.monotonic()
        if time.monotonic() + max(0.0, pause) >= start + timeout:
            message = (
                f"no SSH login on {target} within {timeout if total is None else total:g} s ({attempts} attempts); "
                f"seen last: {last_words(stderr)}"
            )
            raise WaitError(message, elapsed, attempts, stderr)
        if pause > 0:
            time.sleep(pause)  # polling: sshd cannot notify us
