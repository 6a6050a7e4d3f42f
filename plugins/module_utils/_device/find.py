# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The script that finds a volume's device on the instance, and proves that it is the volume.

What is then done with the device is in write and read. The script runs as root on the instance, with whatever ``sh``
and ``dd`` there are; it is composed on the host whose directory is saved or restored to: Python 3.8, standard library
only.
"""

from __future__ import annotations

import re
import shlex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping, Sequence

from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.protocol import PREFIX

# The options of every module that works on a device; doc_fragments/device.py documents them.
ARGUMENTS = {
    "ssh": {"type": "list", "elements": "str", "required": True},
    "volume_id": {"type": "str", "required": True},
    "volume_size": {"type": "int", "required": True},
    "device": {"type": "list", "elements": "str", "default": ["/dev/sdf", "/dev/xvdf"]},
    "device_exact": {"type": "str"},
    "timeout": {"type": "int", "default": 120},
}

# The login shell runs one simple command; only sh interprets the script. `sudo -n` neither asks nor reads stdin.
_BECOME_ROOT = (
    'if [ "$(id -u)" = 0 ]; then exec sh -c "$@"; '
    "elif command -v sudo >/dev/null 2>&1; then "
    'sudo -n true </dev/null && exec sudo -n sh -c "$@"; '
    "echo '" + PREFIX + "refused root sudo does not let this login become root without a password'; "
    "else echo '" + PREFIX + "refused root this login is not root, and there is no sudo'; fi; exit 77"
)


FIND = r"""
dev=/dev sys=/sys proc=/proc
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin
LC_ALL=C
export PATH LC_ALL
prefix=ec2-backup:

say() { printf '%s%s\n' "$prefix" "$*" >&"$report_fd"; }
refuse() { say refused "$@"; exit 77; }
fail() { say failed "$@"; exit 78; }
has() { command -v "$1" >/dev/null 2>&1; }

# MAJOR:MINOR of a device node in decimal. A node's name may differ from the kernel's, its numbers never do.
number_of() {
  hex=$(stat -L -c '%t %T' "$1" 2>/dev/null) || return 1
  printf '%d:%d\n' "0x${hex% *}" "0x${hex#* }" 2>/dev/null
}

# ---- find the volume by its identity ----
serial=vol${volume#vol-}

# Tried in this order: udev's exact link (no pattern: -part1, -ns-1 and _1 links exist too), the NVMe serial, lsblk.
by_identity() {
  if [ -b "$dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_$serial" ]; then
    device=$(readlink -f "$dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_$serial") && [ -b "$device" ] && return 0
  fi
  for file in "$sys"/block/nvme*n1/device/serial; do
    [ -r "$file" ] || continue
    IFS=' ' read -r value rest <"$file" || :
    [ "$value" = "$serial" ] || continue
    name=${file#"$sys"/block/}
    device=$dev/${name%%/*}
    [ -b "$device" ] && return 0
  done
  has lsblk || return 1
  name=$(lsblk -dno NAME,SERIAL 2>/dev/null </dev/null |
    while read -r name value rest; do [ "$value" = "$serial" ] && echo "$name"; done)
  [ -n "$name" ] && device=$dev/$name && [ -b "$device" ]
}

# If one EBS disk is NVMe, all are, and device names do not identify a volume.
has_nvme_ebs() {
  for link in "$dev"/disk/by-id/nvme-Amazon_Elastic_Block_Store_*; do
    [ -e "$link" ] && return 0
  done
  for file in "$sys"/block/nvme*/device/model; do
    [ -r "$file" ] || continue
    IFS= read -r value <"$file" || :
    case $value in *"Amazon Elastic Block Store"*) return 0 ;; esac
  done
  return 1
}

by_name() {
  has_nvme_ebs && return 1
  for device in "$@"; do
    [ -b "$device" ] && return 0
  done
  return 1
}

find_device() {
  by_identity && found=identity && return 0
  if [ -n "$exact" ]; then set -- "$exact"; fi
  by_name "$@" && found=name
}

now() { date +%s; }
deadline=$(($(now) + wait))
until find_device "$@"; do
  if [ "$(now)" -ge "$deadline" ]; then
    seen=$(cd "$dev" && for name in nvme*n1 xvd* sd* disk/by-id/nvme-Amazon*; do
      [ -b "$name" ] && printf ' %s' "$name"
    done)
    refuse missing "block devices seen last:${seen:- none}"
  fi
  sleep 0.2 2>/dev/null || sleep 1 # the node may appear without an event; some sleeps take whole seconds only
done

# ---- prove that it is the volume; no option overrides these checks ----
[ -b "$device" ] || refuse not-block "$device is not a block device"
number=$(number_of "$device") || number=
block=$sys/dev/block/$number
actual=
if [ -n "$number" ] && [ -d "$block" ]; then
  [ -e "$block/partition" ] && refuse in-use "$device is a partition, not a volume"
  IFS= read -r sectors <"$block/size" && actual=$((sectors * 512))
elif has blockdev && value=$(blockdev --getsize64 "$device" 2>/dev/null); then
  actual=$value
fi
if [ -z "$actual" ]; then
  [ "$device" = "$exact" ] || refuse unknown "the size of $device cannot be told; name it if it is the right one"
elif [ "$actual" != "$size" ]; then
  refuse size "$device has $actual bytes, the volume has $size"
fi

# ---- how to copy: past the page cache where that is possible ----
gnu= direct= nocreat=
if dd --version 2>/dev/null </dev/null | grep -q coreutils; then
  # nocreat: if the device is gone, dd must not create a regular file of that name.
  gnu=1 nocreat=nocreat,fsync,
  dd if="$device" of=/dev/null bs=4096 count=1 iflag=direct 2>/dev/null </dev/null && direct=direct
fi
flush() { { ! has blockdev || blockdev --flushbufs "$device"; } </dev/null 2>/dev/null && sync; }
"""


def compose(
    actions: str,
    volume_id: str,
    volume_size: int,
    exact: str | None = None,
    timeout: int = 120,
    report_fd: int = 1,
    settings: Mapping[str, str] | None = None,
) -> str:
    """Return the script that finds the volume's device and then does ``actions``.

    :param actions: sh text that uses what FIND defines.
    :param volume_size: in bytes.
    :param exact: the device's one name, for images on which nothing else identifies it.
    :param timeout: seconds to wait for the device.
    :param report_fd: the descriptor to which the script reports (see protocol).
    :param settings: further variables of the script, name to value.
    """
    known = {
        "volume": volume_id,
        "size": volume_size,
        "wait": timeout,
        "exact": exact or "",
        "report_fd": report_fd,
        **(settings or {}),
    }
    lines = [f"{name}={shlex.quote(str(value))}" for name, value in known.items()]
    return "\n".join([*lines, FIND.strip(), actions.strip(), ""])


def remote_command(script: str, names: Sequence[str]) -> str:
    """Return the command, one string for the instance's login shell, that runs a composed script as root.

    :param names: device names that are tried in order if no EBS disk is NVMe and the script has no exact name.
    """
    command = ["exec", "sh", "-c", _BECOME_ROOT, "ec2-backup", script, "ec2-backup", *names]
    return " ".join(shlex.quote(word) for word in command)


def device_candidates(device_name: str) -> list[str]:
    """Return the names that a disk attached as ``device_name`` may have on an instance without NVMe disks.

    ``/dev/sdf`` appears as ``/dev/xvdf`` on Xen with Linux, and under its own name with some kernels
    (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html).
    """
    name = device_name if device_name.startswith("/dev/") else "/dev/" + device_name
    letter = re.match(r"^/dev/(?:sd|xvd)([a-z]{1,2}\d*)$", name)
    return [name] if not letter else ["/dev/xvd" + letter.group(1), "/dev/sd" + letter.group(1)]
