# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The collection's pure functions, as filters for its roles."""

from __future__ import annotations

import os

from ansible.errors import AnsibleFilterError

from ansible_collections.ec2_backup.ebs.plugins.module_utils import flags, runs
from ansible_collections.ec2_backup.ebs.plugins.module_utils._account import catalog, estimate, launch, plan
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device import find
from ansible_collections.ec2_backup.ebs.plugins.module_utils._format import filters


def _filter(function):
    def apply(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except ValueError as error:
            raise AnsibleFilterError(str(error)) from error

    return apply


def from_here(path):
    """Return ``path`` as absolute, relative to the directory in which ansible-playbook was started."""
    return os.path.abspath(os.path.expanduser(path))


def filter_inverse(command, given=""):
    """Return the command that undoes a filter: ``given``, or the known one; empty if there is none."""
    return given or (filters.known_inverse(command) if command else None) or ""


class FilterModule:
    """Filters of ec2_backup.ebs."""

    def filters(self):
        return {
            "architecture": _filter(plan.architecture),
            "aws_flags": _filter(flags.parse_aws_flags),
            "backup_plan": _filter(estimate.backup_plan),
            "catalog": _filter(catalog.entries),
            "device_candidates": _filter(find.device_candidates),
            "expires": _filter(runs.expires),
            "filter_inverse": filter_inverse,
            "from_here": from_here,
            "lacks_room": launch.lacks_room,
            "launch_candidates": _filter(plan.launch_candidates),
            "no_room": launch.no_room,
            "run_id": _filter(runs.run_id),
            "ssh_flags": _filter(flags.parse_ssh_flags),
            "tag_value": _filter(plan.tag_value),
            "usable_bytes": _filter(plan.usable_bytes),
            "volume_bytes": _filter(plan.volume_bytes),
            "volume_gib": _filter(plan.volume_gib),
        }
