# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The command line around the playbooks of the collection ec2_backup.ebs."""

from importlib.metadata import version

__version__ = version("ec2-backup")
