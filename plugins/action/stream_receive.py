# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The action of the module of the same name."""

from __future__ import annotations

from ansible_collections.ec2_backup.ebs.plugins.plugin_utils.forked_module import ForkedModule, imported

MAIN = imported("stream_receive")


class ActionModule(ForkedModule):
    """Run the module in a fork of Ansible's worker where possible (``plugin_utils/forked_module.py``)."""

    main = staticmethod(MAIN) if MAIN else None
