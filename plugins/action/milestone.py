# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The action ``ec2_backup.ebs.milestone``: report what a play has done, without touching a host."""

from __future__ import annotations

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.ec2_backup.ebs.plugins.module_utils import milestones

display = Display()


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible carries no types
    """Validate the options, print them as lines, and return them."""

    TRANSFERS_FILES = False
    # The task's host, or the one it is delegated to, is not connected to.
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Return the milestone in ``milestone``, and its ``result`` as ``set_stats`` does.

        :raises AnsibleActionFail: the options are not valid.
        """
        result = super().run(tmp, task_vars)
        validated, _arguments = self.validate_argument_spec(argument_spec=milestones.SPEC, **milestones.RULES)
        said = milestones.given(validated.validated_parameters)
        host = (task_vars or {}).get("inventory_hostname", "localhost")
        for line in milestones.describe(said):
            color = constants.COLOR_WARN if line.startswith("warning: ") else None
            display.display(f"ec2-backup: [{host}] {line}", color=color)
        result.update({"changed": False, milestones.KEY: said})
        if "result" in said:
            result["ansible_stats"] = {"data": said["result"], "aggregate": True, "per_host": False}
        return result
