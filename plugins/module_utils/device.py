# Copyright (c) 2026 the ec2-backup authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The far side: a POSIX sh script that finds a volume's device, proves it fit to be overwritten, and writes to it.

Runs on the host whose directory is saved (Python 3.8, standard library only); the script runs on the instance, under
whatever ``sh`` and ``dd`` there are, as root. It tells what happened in lines that begin with PREFIX:

``ready DEVICE SIZE``          the device was found and is fit; the stream may begin (SIZE in bytes, 0 if unknown)
``done BYTES DEVICE``          BYTES were written and flushed to stable storage
``refused CODE TEXT``          nothing was written; CODE is one of REFUSALS
``failed CODE BYTES TEXT``     the writing failed after BYTES; CODE is one of FAILURES
"""

from __future__ import annotations

import shlex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Sequence

PREFIX = "ec2-backup:"
REFUSALS = ("root", "missing", "not-block", "size", "read-only", "in-use", "signature", "unknown", "tool")
FAILURES = ("full", "dd", "filter", "leftover", "vanished", "sync")

# The login shell sees one simple command; only sh sees the script. `sudo -n` never asks and never reads the stream.
_BECOME_ROOT = (
    'if [ "$(id -u)" = 0 ]; then exec sh -c "$@"; '
    "elif command -v sudo >/dev/null 2>&1; then "
    'sudo -n true </dev/null && exec sudo -n sh -c "$@"; '
    "echo '" + PREFIX + "refused root sudo does not let this login become root without a password'; "
    "else echo '" + PREFIX + "refused root this login is not root, and there is no sudo'; fi; exit 77"
)

SCRIPT = r"""
dev=/dev sys=/sys proc=/proc
volume=$1 size=$2 wait=$3 force=$4 filter=$5 exact=$6
shift 6
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin
LC_ALL=C
export PATH LC_ALL
prefix=ec2-backup:

say() { printf '%s%s\n' "$prefix" "$*"; }
refuse() { say refused "$@"; exit 77; }
fail() { say failed "$@"; exit 78; }
has() { command -v "$1" >/dev/null 2>&1; }

# MAJOR:MINOR of a device node in decimal. Names may be unlike those of the kernel, the numbers never are.
number_of() {
  hex=$(stat -L -c '%t %T' "$1" 2>/dev/null) || return 1
  printf '%d:%d\n' "0x${hex% *}" "0x${hex#* }" 2>/dev/null
}

# ---- find the volume by its identity ----
serial=vol${volume#vol-}

# The first of: udev's exact link (never a pattern: -part1, -ns-1 and _1 siblings exist), the NVMe serial, lsblk.
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

# Where one EBS disk is NVMe all are, and names mean nothing.
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
  sleep 0.2 2>/dev/null || sleep 1
done

# ---- prove it fit; nothing here can be overridden ----
[ -b "$device" ] || refuse not-block "$device is not a block device"
number=$(number_of "$device") || number=
block=$sys/dev/block/$number
numbers=" $number "
actual=
if [ -n "$number" ] && [ -d "$block" ]; then
  [ -e "$block/partition" ] && refuse in-use "$device is a partition, not a volume"
  IFS= read -r sectors <"$block/size" && actual=$((sectors * 512))
  for part in "$block"/*/partition; do
    [ -e "$part" ] || continue
    IFS= read -r value <"${part%/partition}/dev" && numbers="$numbers$value "
  done
  [ "$(cat "$block/ro" 2>/dev/null)" != 1 ] || refuse read-only "$device is read-only"
  for value in $numbers; do
    for holder in "$sys/dev/block/$value"/holders/*; do
      [ -e "$holder" ] && refuse in-use "$device is in use by ${holder##*/}"
    done
  done
elif has blockdev && value=$(blockdev --getsize64 "$device" 2>/dev/null); then
  actual=$value
  [ "$(blockdev --getro "$device" 2>/dev/null)" != 1 ] || refuse read-only "$device is read-only"
fi
if [ -z "$actual" ]; then
  [ "$device" = "$exact" ] || refuse unknown "the size of $device cannot be told; name it if it is the right one"
elif [ "$actual" != "$size" ]; then
  refuse size "$device has $actual bytes, the volume has $size"
fi

is_ours() {
  [ "$1" = "$device" ] && return 0
  case $numbers in *" $1 "*) return 0 ;; esac
  [ -n "$number" ] && [ -b "$1" ] || return 1
  value=$(number_of "$1") || return 1
  case $numbers in *" $value "*) return 0 ;; esac
  return 1
}
if [ -r "$proc/self/mountinfo" ]; then
  while read -r id parent value root point rest; do
    is_ours "$value" && refuse in-use "$device is mounted on $point"
    # Filesystems with numbers of their own (btrfs, overlays of it) are known by the device they name.
    case $value in 0:*) source=${rest#* - } source=${source#* } source=${source%% *} ;; *) continue ;; esac
    case $source in "$dev"/*) is_ours "$source" && refuse in-use "$device is mounted on $point" ;; esac
  done <"$proc/self/mountinfo"
else
  for value in $(mount 2>/dev/null </dev/null); do
    case $value in "$device" | "$device"[0-9]* | "$device"p[0-9]*) refuse in-use "$device is mounted" ;; esac
  done
fi
if [ -r "$proc/swaps" ]; then
  while read -r name rest; do
    is_ours "$name" && refuse in-use "$device is swap space in use"
  done <"$proc/swaps"
fi
for file in "$sys"/fs/btrfs/*/devices/*/dev; do
  [ -r "$file" ] && IFS= read -r value <"$file" || continue
  is_ours "$value" && refuse in-use "$device is part of a mounted btrfs"
done

# ---- do not overwrite what somebody else put there ----
if [ "$force" != 1 ]; then
  # shellcheck disable=SC2086
  set -- $numbers
  [ $# -le 1 ] || refuse signature "$(($# - 1)) partition(s)"
  if has blkid; then
    found=$(blkid -p -o export "$device" 2>/dev/null </dev/null)
    status=$?
  else
    status=127
  fi
  case $status in
  0)
    kind=$(printf '%s\n' "$found" | sed -n 's/^PTTYPE=/a partition table, /p; s/^TYPE=/the signature /p' | head -n 1)
    label=$(printf '%s\n' "$found" | sed -n 's/^LABEL=//p' | head -n 1)
    refuse signature "${kind:-an unknown signature}${label:+ (label $label)}"
    ;;
  2) ;; # nothing found
  8) refuse signature "several contradictory signatures" ;;
  *)
    magic=$(dd if="$device" bs=1 skip=257 count=5 2>/dev/null </dev/null)
    if [ "$magic" != ustar ]; then
      rest=$(dd if="$device" bs=65536 count=16 2>/dev/null </dev/null | tr -d '\000' | wc -c)
      [ "$((rest))" = 0 ] || refuse signature "unknown data (there is no blkid there to tell which)"
    fi
    ;;
  esac
fi

# ---- write ----
# nocreat: where the device is gone, dd must not make a file of that name in memory.
if dd --version 2>/dev/null </dev/null | grep -q coreutils; then
  direct=
  dd if="$device" of=/dev/null bs=4096 count=1 iflag=direct 2>/dev/null </dev/null && direct=oflag=direct
  write() { dd of="$device" bs=1048576 iflag=fullblock $direct conv=nocreat,notrunc,fsync; }
  flush() { :; }
else
  # With ibs and obs apart dd fills its blocks from a pipe's short reads (POSIX).
  write() { dd of="$device" ibs=65536 obs=1048576 conv=notrunc; }
  flush() { { ! has blockdev || blockdev --flushbufs "$device"; } </dev/null && sync; }
fi
say ready "$device" "${actual:-0}"
if [ -n "$filter" ]; then
  # The pipe hides the filter's status: each side tells its own through the capture (3).
  told=$({ { sh -c "$filter" 3>&-; echo "@filter=$?" >&3; } | { write 2>&1 >&3 3>&-; echo "@dd=$?"; } } 3>&1)
  filter_status=${told##*@filter=} filter_status=${filter_status%%[!0-9]*}
  status=${told##*@dd=} status=${status%%[!0-9]*}
else
  told=$(write 2>&1)
  status=$?
  filter_status=0
fi
bytes=$(printf '%s\n' "$told" | sed -n 's/^\([0-9][0-9]*\) byte.*/\1/p' | tail -n 1)
counted=1
if [ -z "$bytes" ]; then
  # A dd that only counts records (some builds of busybox): those of an archive are whole, a filter's are not.
  records=$(printf '%s\n' "$told" | sed -n 's/^\([0-9][0-9]*\)+[0-9]* records out.*/\1/p' | tail -n 1)
  bytes=$((${records:-0} * 1048576))
  case $told in *"+0 records out"*) ;; *) counted=0 ;; esac
fi
[ -b "$device" ] && [ "$(number_of "$device" || :)" = "$number" ] || fail vanished "$bytes" "$device is gone"
words=$(printf '%s\n' "$told" | sed -n 's/^dd: //p' | head -n 1)
if [ "$status" != 0 ]; then
  case $told in *"No space left on device"*) fail full "$bytes" "$words" ;; esac
  fail dd "$bytes" "dd ended with status $status: $words"
fi
[ "$filter_status" = 0 ] || fail filter "$bytes" "the remote filter ended with status $filter_status"
[ -z "$filter" ] || [ "$(($(dd bs=1 count=1 2>/dev/null | wc -c)))" = 0 ] ||
  fail leftover "$bytes" "the remote filter ended before it had read the whole stream"
[ "$counted" = 1 ] || fail dd "$bytes" "the dd on the instance does not tell how many bytes it wrote"
flush 2>/dev/null || fail sync "$bytes" "the written data could not be flushed to $device"
say done "$bytes" "$device"
"""


def remote_command(
    volume_id: str,
    volume_size: int,
    names: Sequence[str],
    exact: str | None = None,
    remote_filter: str | None = None,
    force: bool = False,
    timeout: int = 120,
    script: str = SCRIPT,
) -> str:
    """Return the command for the instance's login shell, as one string.

    ``volume_size`` in bytes; ``names`` are tried in order where no EBS disk is NVMe, unless ``exact`` is given.
    """
    arguments = [str(volume_size), str(timeout), "1" if force else "0", remote_filter or "", exact or "", *names]
    command = ["exec", "sh", "-c", _BECOME_ROOT, "ec2-backup", script.strip(), "ec2-backup", volume_id, *arguments]
    return " ".join(shlex.quote(word) for word in command)


class Far:
    """What the far side has told so far. Lines that are not ours (a login's greetings) are passed over."""

    def __init__(self) -> None:
        self.device: str | None = None
        self.ready = False
        self.stored_bytes: int | None = None
        self.code: str | None = None  # of a refusal or failure
        self.text = ""
        self.written = 0

    def feed(self, line: str) -> bool:
        """Take one line of the session's stdout; return whether it was one of ours."""
        if not line.startswith(PREFIX):
            return False
        words = line[len(PREFIX) :].split(" ")
        if words[0] == "ready" and len(words) == 3:
            self.ready, self.device = True, words[1]
        elif words[0] == "done" and len(words) == 3 and words[1].isdigit():
            self.stored_bytes, self.device = int(words[1]), words[2]
        elif words[0] == "refused" and len(words) > 2:
            self.code, self.text = words[1], " ".join(words[2:])
        elif words[0] == "failed" and len(words) > 3:
            self.code, self.text = words[1], " ".join(words[3:])
            self.written = int(words[2]) if words[2].isdigit() else 0
        return True


def trouble(far: Far, volume_id: str, timeout: int) -> str | None:
    """Return what the far side refused or failed at, in one line for the person who asked, or None."""
    if far.code is None:
        return None
    if far.code == "missing":
        return f"volume {volume_id} did not appear on the instance within {timeout} s; {far.text}"
    if far.code == "signature":
        return f"volume {volume_id} holds {far.text}: refused; use --force (ec2_backup_force) to overwrite it"
    if far.code == "full":
        return f"volume {volume_id} is full after {far.written} bytes: it is too small for this archive"
    if far.code == "root":
        return f"the login on the instance cannot become root: {far.text}"
    if far.code in REFUSALS:
        return f"volume {volume_id}: {far.text}: refused"
    return f"writing to volume {volume_id} failed after {far.written} bytes: {far.text}"
