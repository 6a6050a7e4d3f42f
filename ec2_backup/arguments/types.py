# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checks of arguments, for argparse to call."""

import argparse
import json
import os
import re
from typing import Any

HEX = "([0-9a-f]{8}|[0-9a-f]{17})"  # 8 digits in old accounts, 17 in all others


def volume_id(text: str) -> str:
    """Check the form of a volume ID, and return it."""
    if not re.fullmatch("vol-" + HEX, text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a volume ID: those look like vol-0123456789abcdef0")
    return text


def volume_or_snapshot_id(text: str) -> str:
    """Check the form of a volume's or a snapshot's ID, and return it."""
    if not re.fullmatch("(vol|snap)-" + HEX, text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no ID of a volume or snapshot: those look like vol-0123456789abcdef0 and snap-…"
        )
    return text


def assignment(text: str) -> tuple[str, Any]:
    """Split ``ec2_backup_NAME=VALUE``; a value that begins with ``[`` or ``{`` is JSON, any other is a string."""
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"ec2_backup_[a-z0-9_]+", name):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form ec2_backup_NAME=VALUE")
    if not value.startswith(("[", "{")):
        return name, value
    try:
        return name, json.loads(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"the value of {name} begins like JSON, but is not JSON: {error}") from error


def readable_file(text: str) -> str:
    """Check that a file can be read, and return its absolute name."""
    path = os.path.abspath(os.path.expanduser(text))
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be read: {error.strerror}") from error
    return path


def instance_type(text: str) -> str:
    """Check the form of an instance type, and return it."""
    if not re.fullmatch(r"[a-z0-9-]+\.[a-z0-9-]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an instance type: those look like t3.small")
    return text


def tag(text: str) -> tuple[str, str]:
    """Split ``KEY=VALUE``."""
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    try:
        check_tag(key, value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return key, value


def check_tag(key: str, value: str) -> None:
    """Refuse a tag that EC2 would refuse, or that ec2-backup sets itself.

    EC2 allows keys of up to 128 and values of up to 256 characters, and reserves ``aws:``
    (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html).

    :raises ValueError: with the reason.
    """
    for prefix, owner in (("ec2-backup:", "ec2-backup uses those itself"), ("aws:", "AWS reserves those")):
        if key.lower().startswith(prefix):
            raise ValueError(f"the tag {key} cannot be set: {owner}")
    if not 0 < len(key) <= 128:
        raise ValueError(f"a tag's key has 1 to 128 characters, and {shown(key)} has {len(key)}")
    if len(value) > 256:
        raise ValueError(f"a tag's value has at most 256 characters, and that of {key} has {len(value)}")


def shown(value: Any) -> str:
    """Return a value as it is shown in a message of one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:39] + "…")
    return {dict: "a mapping", list: "a list", type(None): "nothing"}.get(type(value), str(value))
