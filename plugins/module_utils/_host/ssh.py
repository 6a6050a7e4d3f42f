# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""OpenSSH's client: the options of our sessions, and what its error messages mean.

Runs on the host whose directory is saved or restored to: Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Collection, Sequence

from ansible_collections.ec2_backup.ebs.plugins.module_utils.text import describe_status, last_words, with_words

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
    """Return the instance's name in known_hosts. Its address is not known yet when that file is written."""
    return "ec2-backup-" + run_id


def known_hosts_line(alias: str, public_key: str) -> str:
    """Return the known_hosts line that pins ``public_key`` (``TYPE BASE64 [COMMENT]``) to ``alias``."""
    return " ".join([alias, *public_key.split()[:2]]) + "\n"


def ssh_options(
    known_hosts: str, alias: str, identity: str | None, pinned: bool, ciphers: Collection[str] | None = None
) -> list[str]:
    """Return ssh's ``-o`` arguments for a session of ours.

    ssh uses the first value of an option, so the user's own options go in front of these.

    :param known_hosts: the file.
    :param alias: the instance's name in it.
    :param identity: the file of the client key, if one is offered.
    :param pinned: the host key must be the one in ``known_hosts``. Otherwise (images that cannot be given a key) the
        first key seen is accepted and written there, and the user's own keys and agent are used too.
    :param ciphers: those that the local ssh knows (``ssh -Q cipher``); None if unknown.
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
    """Return ssh's argv with a leading ``~/`` of each element expanded, since no shell does that."""
    return [os.path.expanduser(argument) if argument.startswith("~/") else argument for argument in arguments]


# (what ssh's message contains, kind); the first that matches counts.
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
    """Return the kind of failure that ssh's stderr is about.

    :returns: ``host key`` (not the pinned one), ``usage`` (the local ssh does not accept its options), ``refused
        login``, ``refused connection``, ``no connection``, ``no address`` or ``other``.
    """
    for pattern, kind in _COMPLAINTS:
        if re.search(pattern, stderr, re.MULTILINE):
            return kind
    return "other"


def is_final(kind: str) -> bool:
    """Return whether a failure of this kind cannot go away while an instance boots."""
    return kind in ("host key", "usage")


def wrong_host_key(host: str) -> str:
    """Return the message for a host key of ``host`` that is not the pinned one."""
    return f"the host key of {host} is not the one that was given to the instance: refusing to talk to it"


def connection_trouble(returncode: int, stderr: str, host: str, ready: bool) -> str:
    """Return in words why ssh ended before the script on the instance reported its result.

    :param ready: whether that had reported that it was ready.
    """
    kind = classify_complaint(stderr)
    if kind == "host key":
        return wrong_host_key(host)
    if returncode == 255 or returncode < 0:
        text = f"the connection to {host} broke" if ready else f"no connection to {host}"
        return with_words(text, last_words(stderr) or describe_status("ssh", returncode))
    return with_words(f"the session on {host} ended with status {returncode}, without a result", last_words(stderr))
