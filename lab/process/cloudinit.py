# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What cloud-init would do with an instance's user-data, as a plan. No I/O.

The stages are in the order of https://docs.cloud-init.io/en/latest/explanation/boot.html: bootcmd, write_files,
users and SSH keys, then sshd, and only after sshd the final stage with runcmd and scripts.
"""

from __future__ import annotations

import base64
import binascii
import email
import gzip
import shlex
import zlib
from dataclasses import asdict, dataclass, field
from typing import Any

import yaml

# Options of root's authorized keys. cloud-init's own command also sleeps for ten seconds.
NO_LOGIN = (
    'no-port-forwarding,no-agent-forwarding,no-X11-forwarding,command="echo \'Please login as the user \\"{user}\\"'
    ' rather than the user \\"root\\".\';echo;exit 142" '
)


@dataclass
class File:
    path: str
    content: str  # base64
    permissions: int = 0o644
    owner: str = "root:root"
    append: bool = False


@dataclass
class User:
    name: str
    keys: list[str] = field(default_factory=list)
    sudo: list[str] = field(default_factory=list)
    shell: str = "/bin/bash"
    groups: list[str] = field(default_factory=list)
    home: str = ""
    uid: int | None = None
    gecos: str = ""
    create_home: bool = True


@dataclass
class Plan:
    """What the guest must do, in the order of the fields; sshd starts before ``final``."""

    log: list[str] = field(default_factory=list)
    bootcmd: str = ""
    files: list[File] = field(default_factory=list)
    users: list[User] = field(default_factory=list)
    host_keys: dict[str, str] = field(default_factory=dict)
    key_types: list[str] = field(default_factory=lambda: ["ed25519", "ecdsa"])
    root_keys: list[str] = field(default_factory=list)
    password_authentication: bool = False
    final: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def plan(user_data: bytes, key_pair: str, default_user: str) -> Plan:
    """Read user-data. As in cloud-init, invalid parts are logged and left out, and the machine boots all the same.

    :param key_pair: the public key the instance was launched with, or empty.
    """
    result = Plan()
    config: dict[str, Any] = {}
    for kind, body in _parts(_decompress(user_data), result.log):
        if kind == "text/x-shellscript":
            result.final.append(body)
        elif kind == "text/cloud-config":
            config.update(_load(body, result.log))
    runcmd = config.get("runcmd")
    if runcmd:
        result.final.insert(0, _script(runcmd, "runcmd", result.log))
    if config.get("bootcmd"):
        result.bootcmd = _script(config["bootcmd"], "bootcmd", result.log)
    for entry in _items(config.get("write_files")):
        _add_file(result, entry)
    if config.get("packages"):
        result.log.append(
            "Cloud-init: packages are not installed here: " + ", ".join(map(str, _items(config["packages"])))
        )
    _add_host_keys(result, config)
    _add_users(result, config, key_pair, default_user)
    result.password_authentication = False  # there are no passwords
    return result


def _decompress(data: bytes) -> bytes:
    if data[:2] == b"\x1f\x8b":
        try:
            return gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            return b""
    return data


def _parts(data: bytes, log: list[str]) -> list[tuple[str, str]]:
    text = data.decode("utf-8", "replace")
    if not text.strip():
        return []
    first = text.split("\n", 1)[0].strip()
    if first.startswith("#cloud-config"):
        return [("text/cloud-config", text)]
    if first.startswith("#!"):
        return [("text/x-shellscript", text)]
    if first.lower().startswith(("content-type:", "mime-version:", "from ")):
        message = email.message_from_string(text)
        found: list[tuple[str, str]] = []
        for part in message.walk():
            payload = part.get_payload(decode=True)
            if isinstance(payload, bytes):
                body = payload.decode("utf-8", "replace")
                kind = part.get_content_type()
                found += _parts(payload, log) if kind == "text/plain" else [(kind, body)]
        return found
    log.append(f"Cloud-init: Unhandled non-multipart (text/x-not-multipart) userdata: '{first[:40]}'")
    return []


def _load(text: str, log: list[str]) -> dict[str, Any]:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        log.append(f"Cloud-init: Failed loading yaml blob: {' '.join(str(error).split())}")
        return {}
    if value is None:
        return {}
    if not isinstance(value, dict):
        log.append("Cloud-init: cloud-config is not a mapping: ignored")
        return {}
    return value


def _items(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return value if isinstance(value, list) else [value]


def _script(items: Any, name: str, log: list[str]) -> str:
    """Return a shell script of a list of commands, as cloud-init's ``shellify`` makes it.

    A string is a line of shell, a list is a command with its arguments.
    """
    lines = ["#!/bin/sh"]
    for item in _items(items):
        if isinstance(item, list):
            lines.append(" ".join(shlex.quote(str(word)) for word in item))
        elif isinstance(item, str):
            lines.append(item)
        else:
            log.append(f"Cloud-init: {name}: {item!r} is neither a string nor a list: the whole of {name} is ignored")
            return ""
    return "\n".join(lines) + "\n"


def _add_file(result: Plan, entry: Any) -> None:
    if not isinstance(entry, dict) or not entry.get("path"):
        result.log.append("Cloud-init: write_files: an entry without a path is ignored")
        return
    encoding = str(entry.get("encoding") or "").lower()
    content = entry.get("content", "")
    data = content if isinstance(content, bytes) else str(content).encode()
    try:
        if encoding in ("b64", "base64", "gz+b64", "gz+base64", "gzip+b64", "gzip+base64"):
            data = base64.b64decode(data)
        if encoding.startswith("gz"):
            data = gzip.decompress(data)
    except (binascii.Error, OSError, EOFError, zlib.error) as error:
        result.log.append(f"Cloud-init: write_files: {entry['path']}: cannot decode: {error}")
    permissions = entry.get("permissions", 0o644)
    try:
        mode = permissions if isinstance(permissions, int) else int(str(permissions), 8)
    except ValueError:
        mode = 0o644
    owner = str(entry.get("owner") or "root:root")
    coded = base64.b64encode(data).decode()
    result.files.append(File(str(entry["path"]), coded, mode, owner, bool(entry.get("append"))))


def _add_host_keys(result: Plan, config: dict[str, Any]) -> None:
    keys = config.get("ssh_keys")
    if isinstance(keys, dict) and keys:
        result.host_keys = {str(name): str(value) for name, value in keys.items() if "_" in str(name)}
        result.key_types = []
    elif config.get("ssh_genkeytypes"):
        result.key_types = [str(kind) for kind in _items(config["ssh_genkeytypes"])]


def _add_users(result: Plan, config: dict[str, Any], key_pair: str, default_user: str) -> None:
    shared = [str(key) for key in _items(config.get("ssh_authorized_keys"))] + ([key_pair] if key_pair else [])
    default = User(
        default_user,
        shared,
        ["ALL=(ALL) NOPASSWD:ALL"],
        groups=["adm", "wheel", "systemd-journal"],
        gecos="EC2 Default User",
    )
    named = _items(config.get("users")) if "users" in config else ["default"]
    has_default = False
    for entry in named:
        if entry == "default" or (isinstance(entry, dict) and entry.get("name") == default_user):
            has_default = True
            result.users.append(default)
            if isinstance(entry, dict):
                extra = _user(entry)
                default.keys = extra.keys + default.keys
        elif isinstance(entry, str):
            result.users.append(User(entry))
        elif isinstance(entry, dict) and entry.get("name"):
            result.users.append(_user(entry))
        else:
            result.log.append("Cloud-init: users: an entry without a name is ignored")
    if config.get("disable_root", True):
        prefix = NO_LOGIN.format(user=default_user if has_default else "NONE")
        result.root_keys = [prefix + key for key in shared]
    else:
        result.root_keys = shared


def _user(entry: dict[str, Any]) -> User:
    groups = entry.get("groups") or []
    uid = entry.get("uid")
    sudo = entry.get("sudo")
    return User(
        name=str(entry["name"]),
        keys=[str(key) for key in _items(entry.get("ssh_authorized_keys"))],
        sudo=[str(rule) for rule in _items(sudo)] if sudo and sudo is not True else [],
        shell=str(entry.get("shell") or "/bin/bash"),
        groups=[
            name.strip()
            for name in (groups.split(",") if isinstance(groups, str) else map(str, groups))
            if name.strip()
        ],
        home=str(entry.get("homedir") or ""),
        uid=int(uid) if uid is not None else None,
        gecos=str(entry.get("gecos") or ""),
        create_home=not entry.get("no_create_home"),
    )
