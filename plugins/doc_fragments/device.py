# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The options of the modules that work on a volume's device through SSH."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation that modules share: ``extends_documentation_fragment: ec2_backup.ebs.device``."""

    DOCUMENTATION = r"""
options:
  ssh:
    description:
      - The complete argument list of ssh, up to and including C(login@host). A leading C(~/) of an element is expanded.
      - The login is root, or may become root with C(sudo -n).
    type: list
    elements: str
    required: true
  volume_id:
    description:
      - The volume.
    type: str
    required: true
  volume_size:
    description:
      - The volume's size in bytes, which the device must have.
    type: int
    required: true
  device:
    description:
      - The names under which the device may appear where EBS disks are not NVMe, in the order in which they are tried.
    type: list
    elements: str
    default: [/dev/sdf, /dev/xvdf]
  device_exact:
    description:
      - The one name of the device, for images on which nothing else identifies it. Tried instead of O(device), and
        accepted even if its size cannot be determined there.
    type: str
  timeout:
    description:
      - The seconds to wait for the device to appear on the instance.
    type: int
    default: 120
"""
