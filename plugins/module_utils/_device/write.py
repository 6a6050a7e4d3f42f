# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The scripts that write to the volume's device: the stream, and the manifest's block.

Before the stream's first byte is written, the manifest's block is replaced, and flushed, by one that says that there is
no backup on the volume. So an interrupted overwrite is taken neither for the old backup nor for the new one. Python
3.8, standard library only.
"""

from __future__ import annotations

from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.find import compose

_PROVE = r"""
# ---- prove that it may be overwritten; no option overrides these checks ----
numbers=" $number "
if [ -n "$number" ] && [ -d "$block" ]; then
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
elif has blockdev; then
  [ "$(blockdev --getro "$device" 2>/dev/null)" != 1 ] || refuse read-only "$device is read-only"
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
    # Filesystems with device numbers of their own (btrfs, overlays on it) are recognized by the device they name.
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

# ---- without force: refuse to overwrite other data ----
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

"""

# The block is the volume's last 64 KiB: the text, and zeros behind it.
_PUT = r"""
put() {
  { printf '%s' "$1" && printf "%$((65536 - ${#1}))s" '' | tr ' ' '\000'; } |
    dd of="$device" ibs=4096 obs=65536 seek=$((size / 65536 - 1)) conv=${nocreat}notrunc 2>/dev/null &&
    { [ -n "$gnu" ] || flush; }
}
"""

_STREAM = r"""
put "$manifest" || fail sync 0 "the manifest of an earlier backup could not be taken back"

# The stream may take all but the last MiB, which holds the manifest.
room=$((size - 1048576))
if [ -n "$gnu" ]; then
  write() {
    dd of="$device" bs=1048576 iflag=fullblock count=$((room / 1048576)) ${direct:+oflag=direct} \
      conv=nocreat,notrunc,fsync
  }
else
  # With separate ibs and obs dd fills whole blocks from a pipe's short reads (POSIX).
  write() { dd of="$device" ibs=65536 obs=1048576 conv=notrunc; }
fi
say ready "$device" "${actual:-0}"
if [ -n "$filter" ]; then
  # A pipe hides the filter's status, so each side writes its own to descriptor 3, which is captured.
  output=$({ { sh -c "$filter" 3>&-; echo "@filter=$?" >&3; } | { write 2>&1 >&3 3>&-; echo "@dd=$?"; } } 3>&1)
  filter_status=${output##*@filter=} filter_status=${filter_status%%[!0-9]*}
  status=${output##*@dd=} status=${status%%[!0-9]*}
else
  output=$(write 2>&1)
  status=$?
  filter_status=0
fi
bytes=$(printf '%s\n' "$output" | sed -n 's/^\([0-9][0-9]*\) byte.*/\1/p' | tail -n 1)
counted=1
if [ -z "$bytes" ]; then
  # A dd that counts only records (some builds of busybox). An archive has whole records, a filter's output may not.
  records=$(printf '%s\n' "$output" | sed -n 's/^\([0-9][0-9]*\)+[0-9]* records out.*/\1/p' | tail -n 1)
  bytes=$((${records:-0} * 1048576))
  case $output in *"+0 records out"*) ;; *) counted=0 ;; esac
fi
[ -b "$device" ] && [ "$(number_of "$device" || :)" = "$number" ] || fail vanished "$bytes" "$device is gone"
words=$(printf '%s\n' "$output" | sed -n 's/^dd: //p' | head -n 1)
if [ "$status" != 0 ]; then
  case $output in *"No space left on device"*) fail full "$bytes" "$words" ;; esac
  fail dd "$bytes" "dd ended with status $status: $words"
fi
if [ "$bytes" -gt "$room" ] || { [ "$bytes" = "$room" ] && [ -n "$gnu" ] && [ "$filter_status" != 0 ]; }; then
  fail full "$bytes" "only $room bytes are for the stream"
fi
[ "$filter_status" = 0 ] || fail filter "$bytes" "the remote filter ended with status $filter_status"
if [ "$(($(dd bs=1 count=1 2>/dev/null | wc -c)))" != 0 ]; then
  [ "$bytes" != "$room" ] || fail full "$bytes" "only $room bytes are for the stream"
  fail leftover "$bytes" "the remote filter ended before it had read the whole stream"
fi
[ "$counted" = 1 ] || fail dd "$bytes" "the dd on the instance does not tell how many bytes it wrote"
[ -n "$gnu" ] || flush || fail sync "$bytes" "the written data could not be flushed to $device"
say done "$bytes" "$device"
"""

_COMMIT = r"""
put "$manifest" || fail sync 0 "the manifest could not be written"
say done 65536 "$device"
"""

_ACTIONS = _PROVE + _PUT + _STREAM


def write_script(
    volume_id: str,
    volume_size: int,
    manifest: str,
    remote_filter: str | None = None,
    force: bool = False,
    exact: str | None = None,
    timeout: int = 120,
) -> str:
    """Return the script that writes its stdin to the volume.

    The other arguments are those of ``compose``.

    :param manifest: the text of the block that says that the volume is being written to.
    :param remote_filter: the command that the stream goes through before it is written.
    :param force: overwrite other data.
    """
    more = {"filter": remote_filter or "", "force": "1" if force else "0", "manifest": manifest}
    return compose(_ACTIONS, volume_id, volume_size, exact, timeout, settings=more)


def put_script(volume_id: str, volume_size: int, manifest: str, exact: str | None = None, timeout: int = 120) -> str:
    """Return the script that writes the manifest's text into the volume's last 64 KiB, and flushes it.

    It runs in a session of its own, after ``write_script`` has proved that the device may be overwritten. The arguments
    are
    those of ``write_script``.
    """
    return compose(_PUT + _COMMIT, volume_id, volume_size, exact, timeout, settings={"manifest": manifest})
