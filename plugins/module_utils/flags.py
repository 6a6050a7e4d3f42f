# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The two environment variables that carry options in another tool's spelling.

EC2_BACKUP_FLAGS_AWS has options of ``aws ec2 run-instances``, EC2_BACKUP_FLAGS_SSH those of ``ssh``.
Pure functions that turn the text into role variables; the text of their errors is a sentence for the user.
"""

from __future__ import annotations

import shlex

__all__ = ["AWS_OPTIONS", "parse_aws_flags", "parse_ssh_flags"]

# option: (role variable, kind). The option names are those of `aws ec2 run-instances`
# (https://docs.aws.amazon.com/cli/latest/reference/ec2/run-instances.html) and of the AWS CLI's global options.
AWS_OPTIONS = {
    "--associate-public-ip-address": ("ec2_backup_connect_address", "public"),
    "--image-id": ("ec2_backup_image_id", "text"),
    "--instance-type": ("ec2_backup_instance_type", "text"),
    "--key-name": ("ec2_backup_key_name", "text"),
    "--no-associate-public-ip-address": ("ec2_backup_connect_address", "private"),
    "--placement": ("ec2_backup_availability_zone", "zone"),
    "--profile": ("ec2_backup_profile", "text"),
    "--region": ("ec2_backup_region", "text"),
    "--security-group-ids": ("ec2_backup_security_group_ids", "list"),
    "--subnet-id": ("ec2_backup_subnet_id", "text"),
}

# Options of ssh(1) with which the connection could not carry the stream.
_SSH_REFUSED = {
    "-D": "forwards ports",
    "-L": "forwards ports",
    "-M": "shares a connection",
    "-N": "runs no command",
    "-O": "controls a shared connection",
    "-R": "forwards ports",
    "-W": "forwards standard input",
    "-f": "goes to the background",
    "-n": "closes standard input, which carries the backup",
    "-t": "asks for a terminal, which would corrupt the backup",
    "-tt": "asks for a terminal, which would corrupt the backup",
    "-w": "forwards a tunnel",
}


def _words(text: str | None, variable: str) -> list[str]:
    try:
        return shlex.split(text or "")
    except ValueError as error:
        raise ValueError(f"{variable} cannot be read: {str(error).lower()} in {text!r}.") from error


def _zone(value: str) -> str:
    """Return the zone in ``AvailabilityZone=Z`` or its JSON form, as ``--placement`` takes it.

    :raises ValueError: there is something else in it.
    """
    text = value.strip().strip("{}").replace('"', "").replace(":", "=")
    pairs = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    if len(pairs) == 1 and pairs[0][0].strip() == "AvailabilityZone" and pairs[0][2].strip():
        return pairs[0][2].strip()
    raise ValueError(
        f"EC2_BACKUP_FLAGS_AWS: --placement {value}: only --placement AvailabilityZone=ZONE is understood."
    )


def parse_aws_flags(text: str | None) -> dict[str, str | list[str]]:
    """Return the role variables, and their values, that options of ``run-instances`` stand for.

    Of a repeated option the last value counts.

    :param text: the value of EC2_BACKUP_FLAGS_AWS, quoted as for a shell; empty or None for no options.
    :raises ValueError: an option is not mapped (the message lists those that are), or is without its value.
    """
    variables: dict[str, str | list[str]] = {}
    words = _words(text, "EC2_BACKUP_FLAGS_AWS")
    while words:
        option, equals, attached = words.pop(0).partition("=")
        if option not in AWS_OPTIONS:
            raise ValueError(
                "EC2_BACKUP_FLAGS_AWS: {} is not an option that ec2-backup knows; it knows {}.".format(
                    option, ", ".join(sorted(AWS_OPTIONS))
                )
            )
        variable, kind = AWS_OPTIONS[option]
        if kind in ("public", "private"):
            if equals:
                raise ValueError(f"EC2_BACKUP_FLAGS_AWS: {option} takes no value.")
            variables[variable] = kind
            continue
        values = [attached] if equals else []
        while words and not words[0].startswith("--") and (kind == "list" or not values):
            values.append(words.pop(0))
        if not values or not all(values):
            raise ValueError(f"EC2_BACKUP_FLAGS_AWS: {option} needs a value.")
        if kind == "list":
            variables[variable] = [item for value in values for item in value.split(",") if item]
        else:
            variables[variable] = _zone(values[0]) if kind == "zone" else values[0]
    return variables


def parse_ssh_flags(text: str | None) -> list[str]:
    """Return the arguments for ssh in EC2_BACKUP_FLAGS_SSH. ``~/`` stays as it is: the host that runs ssh expands it.

    :raises ValueError: the quoting is bad, a word is no option (ssh would take it for the host), or an option cannot
        work with a stream on standard input.
    """
    words = _words(text, "EC2_BACKUP_FLAGS_SSH")
    # Letters of ssh(1) that take a value, from its synopsis (OpenSSH 9.9).
    valued = "BbcDEeFIiJLlmOopQRSWwP"
    arguments = []
    while words:
        word = words.pop(0)
        if not word.startswith("-") or word in ("-", "--"):
            raise ValueError(f"EC2_BACKUP_FLAGS_SSH: {word!r} is not an option of ssh.")
        for refused, why in _SSH_REFUSED.items():
            if word == refused or (refused[1:] in "DLORWw" and word.startswith(refused)):
                raise ValueError(f"EC2_BACKUP_FLAGS_SSH: {refused} cannot be used here: it {why}.")
        arguments.append(word)
        if len(word) == 2 and word[1] in valued:
            if not words:
                raise ValueError(f"EC2_BACKUP_FLAGS_SSH: {word} needs a value.")
            arguments.append(words.pop(0))
    return arguments
