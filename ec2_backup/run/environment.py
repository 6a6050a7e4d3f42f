# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The environment variables that Ansible is started with."""

import locale
from collections.abc import Mapping
from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils.flags import parse_aws_flags


def locale_for_ansible() -> dict[str, str]:
    """Return the variable that gives Ansible a locale it accepts; none if the present one is accepted.

    Ansible starts only in a UTF-8 locale that the host has. An SSH session may set a locale that the host does not
    have, and ``LC_ALL=C`` is common in scripts. C.UTF-8 is part of glibc since 2.35, and of the common distributions
    for much longer.
    """
    before = locale.setlocale(locale.LC_ALL)
    try:
        locale.setlocale(locale.LC_ALL, "")  # Ansible checks it in the same way
        found = locale.getlocale()[1]
    except (locale.Error, ValueError):
        found = None
    finally:
        locale.setlocale(locale.LC_ALL, before)
    return {} if found and found.lower() in ("utf-8", "utf8") else {"LC_ALL": "C.UTF-8"}


KEYS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_ACCESS_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_SESSION_TOKEN",
)


def keys_hidden(settings: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that hide access keys in the environment if a profile is set too.

    The AWS CLI uses the profile then. amazon.aws refuses the combination, unless the keys are empty.
    """
    flags = parse_aws_flags(settings.get("ec2_backup_flags_aws", environment.get("EC2_BACKUP_FLAGS_AWS")))
    profile = settings.get("ec2_backup_profile", flags.get("ec2_backup_profile"))
    return {name: "" for name in KEYS if profile and environment.get(name)}
