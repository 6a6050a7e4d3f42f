# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Combine the settings of the command line, the environment and the configuration file.

The command line has precedence over the environment, and the environment over the file. The roles read the environment
themselves, but give a role variable precedence over it. So a variable of the file is dropped if the environment sets
it too.
"""

import argparse
import json
import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils.flags import parse_aws_flags, parse_ssh_flags
from ec2_backup.arguments import config_file
from ec2_backup.arguments.variables import FLAGS_AWS, check_names
from ec2_backup.status import Status, UserError

# The role variables that other environment variables than EC2_BACKUP_FLAGS_AWS stand for, as amazon.aws reads them.
# Access keys stand for a profile, as both are credentials: amazon.aws refuses to be given both.
ENVIRONMENT = {
    "ec2_backup_flags_ssh": ("EC2_BACKUP_FLAGS_SSH",),
    "ec2_backup_profile": ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY"),
    "ec2_backup_region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
}

# If the variable on the left is set on the command line or in the environment, those on the right contradict it. They
# are dropped from what the file sets.
CONFLICTING = {
    "ec2_backup_availability_zone": ("ec2_backup_subnet_id",),
    "ec2_backup_compress": ("ec2_backup_local_filter", "ec2_backup_local_filter_inverse"),
    "ec2_backup_encrypt": ("ec2_backup_local_filter", "ec2_backup_local_filter_inverse"),
    "ec2_backup_image_parameter": ("ec2_backup_image_id",),
    "ec2_backup_instance_type": ("ec2_backup_instance_type_alternatives",),
    "ec2_backup_local_filter": ("ec2_backup_compress", "ec2_backup_encrypt", "ec2_backup_local_filter_inverse"),
    "ec2_backup_remote_filter": ("ec2_backup_remote_filter_inverse",),
    "ec2_backup_subnet_id": ("ec2_backup_availability_zone",),
    "ec2_backup_volume_id": ("ec2_backup_availability_zone",),
    "ec2_backup_volume_ids": ("ec2_backup_availability_zone",),
    "ec2_backup_volume_type": ("ec2_backup_volume_iops", "ec2_backup_volume_throughput"),
}

# What an option gives for these is added to what the file sets; -e replaces it, as it does with any other variable.
ADDING = ("ec2_backup_exclude", "ec2_backup_exclude_from", "ec2_backup_tags")


def settle(
    options: Mapping[str, Any], assigned: Mapping[str, Any], environment: Mapping[str, str], file: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the role variables to run with, without those of the environment, which the roles read themselves.

    :param options: what the options and arguments of the command line set.
    :param assigned: what the command line sets with ``-e``.
    :param file: what the configuration file sets.
    :raises ValueError: the command line contradicts itself, or has flags that cannot be read.
    """
    for name in options:
        if name in assigned and assigned[name] != options[name]:
            raise ValueError(f"-e {name}=… cannot be given here: the rest of the command line says it already")
    named = parse_aws_flags(assigned.get(FLAGS_AWS, environment.get("EC2_BACKUP_FLAGS_AWS")))
    seen = {name: True for name, sources in ENVIRONMENT.items() if any(environment.get(each) for each in sources)}
    nearer = {**seen, **named, **options, **assigned}
    conflicting = {each for name, value in nearer.items() if value for each in CONFLICTING.get(name, ())}
    # Each of the options in AWS's spelling may be set elsewhere, so they are handled one by one.
    written = {**parse_aws_flags(file.get(FLAGS_AWS)), **{k: v for k, v in file.items() if k != FLAGS_AWS}}
    kept = {name: value for name, value in written.items() if name not in nearer and name not in conflicting}
    added = {name: _sum(written[name], options[name]) for name in ADDING if name in written and name in options}
    return {**kept, **options, **added, **assigned}


def _sum(below: Any, above: Any) -> Any:
    return {**below, **above} if isinstance(below, dict) else [*below, *above]


def check_environment() -> None:
    """Refuse wrong options in the environment now, and not only when Ansible has started."""
    try:
        parse_aws_flags(os.environ.get("EC2_BACKUP_FLAGS_AWS"))
        parse_ssh_flags(os.environ.get("EC2_BACKUP_FLAGS_SSH"))
    except ValueError as error:
        raise UserError(str(error), Status.USAGE) from error


def role_variables(arguments: argparse.Namespace, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the role variables to run with, from the command line and the configuration file.

    :param asked: the role variables that the command's own options and arguments set.
    :raises UserError: the command line contradicts itself, or the file is wrong.
    """
    common = given(
        profile=arguments.profile,
        region=arguments.region,
        instance_type=getattr(arguments, "instance_type", None),
        name=getattr(arguments, "name", None),
        tags=dict(getattr(arguments, "tags", None) or ()) or None,
    )
    assigned = dict(arguments.variables)
    check_names(assigned)
    file = config_file.load(arguments.config, os.environ)
    try:
        settled = settle({**common, **asked}, assigned, os.environ, file)
    except ValueError as error:
        raise UserError(str(error), Status.USAGE) from error
    try:
        json.dumps(settled, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        bad = error.object[error.start : error.end].encode(errors="surrogateescape")
        raise UserError(
            f"a name that is not UTF-8 cannot be given to Ansible (it has the byte {bad[0]:#04x}); what lies below a "
            "directory may have any name: name one above it",
            Status.USAGE,
        ) from error
    return settled


def given(**asked: Any) -> dict[str, Any]:
    """Name role variables in full, and drop those that are None: the roles have defaults for them."""
    return {f"ec2_backup_{name}": value for name, value in asked.items() if value is not None}
