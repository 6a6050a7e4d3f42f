# Copyright (c) 2026 the ec2-backup authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenSSH's client: the options of a session of ours, what its complaints mean, and waiting for a login.

Runs on the host whose directory is saved: Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Collection, Sequence

# AES-GCM first: with AES instructions it carries twice what chacha20 does (measured; field notes).
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes256-ctr",
)

CONNECT_SECONDS = 15
ALIVE_SECONDS = 15
ALIVE_MISSED = 4  # a peer that is silent for a minute is gone


def host_key_alias(run_id: str) -> str:
    """Return the name that stands for the instance in known_hosts: its address is not known when that is written."""
    return "ec2-backup-" + run_id


def known_hosts_line(alias: str, public_key: str) -> str:
    """Return the known_hosts line that pins ``public_key`` (``TYPE BASE64 [COMMENT]``) to ``alias``."""
    return " ".join([alias, *public_key.split()[:2]]) + "\n"


def ssh_options(
    known_hosts: str, alias: str, identity: str | None, pinned: bool, ciphers: Collection[str] | None = None
) -> list[str]:
    """Return ssh's ``-o`` arguments for a session of ours.

    ``pinned``: the host key must be the one in ``known_hosts``. Otherwise the first key seen is taken and written there
    (images that cannot be given a key), and the user's own keys and agent may serve as identities.
    ``ciphers``: those that the local ssh knows (``ssh -Q cipher``); None if that cannot be told.

    ssh takes the first value it meets of an option, so the user's own go in front of these.
    """
    usable = [cipher for cipher in CIPHERS if ciphers is None or cipher in ciphers]
    options = [
        "BatchMode=yes",
        "PasswordAuthentication=no",
        # ssh would split an unquoted path at blanks.
        f'UserKnownHostsFile="{known_hosts}"',
        "GlobalKnownHostsFile=/dev/null",
        "HostKeyAlias=" + alias,
        "StrictHostKeyChecking=" + ("yes" if pinned else "accept-new"),
        "CheckHostIP=no",
        "UpdateHostKeys=no",
        "IdentitiesOnly=" + ("yes" if pinned else "no"),
    ]
    if identity is not None:
        options.append(f'IdentityFile="{identity}"')
    if pinned:
        options.append("HostKeyAlgorithms=ssh-ed25519")
    options += [
        f"ConnectTimeout={CONNECT_SECONDS}",
        f"ServerAliveInterval={ALIVE_SECONDS}",
        f"ServerAliveCountMax={ALIVE_MISSED}",
        # A connection shared with others would carry the stream beside theirs, and outlive ours.
        "ControlMaster=no",
        "ControlPath=none",
        "ForwardAgent=no",
        "ClearAllForwardings=yes",
        "PermitLocalCommand=no",
        "RequestTTY=no",
        "Compression=no",
        "LogLevel=ERROR",
    ]
    if usable:
        options.append("Ciphers=" + ",".join(usable))
    return [argument for option in options for argument in ("-o", option)]


def expand_arguments(arguments: Sequence[str]) -> list[str]:
    """Return ssh's argv with a leading ``~/`` of each element expanded, as the shell that is not there would."""
    return [os.path.expanduser(argument) if argument.startswith("~/") else argument for argument in arguments]


# In the order in which they are looked for: (what ssh says, kind).
_COMPLAINTS = (
    (r"Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED|requested strict checking", "host key"),
    (
        (
            r"Bad configuration option|Bad owner or permissions|command-line(?: line \d+|: line \d+)?: |unknown option|"
            r"illegal option|option requires an argument|^usage: ssh|Bad SSH2 cipher spec|Bad .* specification|"
            r"terminating, \d+ bad configuration options|Unsupported option"
        ),
        "usage",
    ),
    (r"Permission denied|Too many authentication failures|Authentication failed", "refused login"),
    (r"Connection refused", "refused connection"),
    (
        (
            r"timed out|No route to host|Network is unreachable|Connection reset|Connection closed|"
            r"kex_exchange_identification|banner exchange|Broken pipe|not responding|Host is down"
        ),
        "no connection",
    ),
    (r"Could not resolve hostname", "no address"),
)


def classify_complaint(stderr: str) -> str:
    """Return the kind of trouble ssh's stderr tells of.

    ``host key`` (not the one expected), ``usage`` (the local ssh does not take its options), ``refused login``,
    ``refused connection``, ``no connection``, ``no address`` or ``other``.
    """
    for pattern, kind in _COMPLAINTS:
        if re.search(pattern, stderr, re.MULTILINE):
            return kind
    return "other"


def is_final(kind: str) -> bool:
    """Return whether trouble of this kind cannot pass while an instance boots."""
    return kind in ("host key", "usage")


def last_words(stderr: str) -> str:
    """Return the line of a program's stderr that says most: the last one that is not decoration, in printable form."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip().strip("@ ")]
    telling = [line for line in lines if not line.startswith(("Warning: Permanently added", "age: report "))]
    text = (telling or lines or [""])[-1]
    return "".join(character if character.isprintable() else "?" for character in text)[:300]


# ---- waiting for a login --------------------------------------------------------------------------------------------

MARKER = "ec2-backup-login"
PROBE = f"echo {MARKER} `id -un` `uname -srm`"  # backquotes: csh knows them too
# SYNs go out after 0, 1, 3, 7 s: an attempt that starts anew at 5 s meets an instance that has just come up sooner.
# ssh bounds by it the handshake too, which an instance that boots on little CPU cannot make in that time.
ATTEMPT_CONNECT_SECONDS = 5
ATTEMPT_SECONDS = 20
MOST_PATIENCE = 8  # times these seconds


class WaitError(Exception):
    """No login; the text is one line for the person who asked."""

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
    """Return whether an attempt met somebody, but took too long."""
    return "connect to host" not in stderr and re.search("timed out|no answer within", stderr) is not None


def attempt_login(ssh: Sequence[str], connect_seconds: int, seconds: float) -> tuple[dict[str, str] | None, str]:
    """Try once, for at most ``seconds``; return what the probe found (or None), and ssh's stderr. Raises OSError."""
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
            if process.returncode is None:  # with whatever ProxyCommand it started
                os.killpg(process.pid, signal.SIGKILL)
    stderr = err.decode("utf-8", "replace")
    found = parse_probe(out.decode("utf-8", "replace")) if process.returncode == 0 else None
    if found is None and not stderr.strip():
        stderr = f"the login was made, but the command ended with status {process.returncode}"
    return found, stderr


def wait_for_login(ssh: Sequence[str], timeout: float, interval: float) -> dict[str, Any]:
    """Try until a command has run on the instance; return login, kernel, elapsed (seconds) and attempts.

    Raises WaitError at the deadline, or at once for what waiting cannot mend.
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
            message = f"the host key of {target} is not the one that was given to the instance: refusing to talk to it"
            raise WaitError(message, elapsed, attempts, stderr)
        if is_final(kind):
            raise WaitError(f"ssh does not take its options: {last_words(stderr)}", elapsed, attempts, stderr)
        if was_slow(stderr):
            patience = min(2 * patience, MOST_PATIENCE)
        pause = began + interval - time.monotonic()
        if time.monotonic() + max(0.0, pause) >= start + timeout:
            message = (
                f"no SSH login on {target} within {timeout:g} s ({attempts} attempts); seen last: {last_words(stderr)}"
            )
            raise WaitError(message, elapsed, attempts, stderr)
        if pause > 0:
            time.sleep(pause)  # polling: sshd has no way to tell that it came up
