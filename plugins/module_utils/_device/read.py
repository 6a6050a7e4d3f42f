# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The scripts that read the volume's device: its manifest, its stream, or only the stream's checksum.

None of them writes to the device. Python 3.8, standard library only.
"""

from __future__ import annotations

from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.find import compose
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.protocol import PREFIX

# Lines of stdout behind which binary data follows.
BLOCKS = PREFIX + "blocks"  # with the offset of the manifest block's end; then that block and the volume's first 64 KiB
STREAM = PREFIX + "stream"  # then the stream
STDERR = 2

# A volume may have been enlarged since, in whole GiB; then the block is at its former end.
_PEEK = r"""
block_before() { dd if="$device" bs=65536 skip=$(($1 / 65536 - 1)) count=1 2>/dev/null; }
has_magic() { [ "$(block_before "$1" | dd bs=20 count=1 2>/dev/null | tr -d '\000')" = 'EC2-BACKUP MANIFEST ' ]; }

# Whether there is a header line of which only the magic is damaged: then an older manifest, at a former end, must not
# be used. The damaged magic may contain NUL bytes and line ends.
has_rest() {
  block_before "$1" | dd bs=200 count=1 2>/dev/null | tr '\000\012' '??' |
    grep -q '^.\{20\}[1-9][0-9]* [1-9][0-9]* [0-9a-f]\{64\}?'
}

end=$size
has_rest "$end" || until has_magic "$end"; do
  end=$(((end - 1) / 1073741824 * 1073741824))
  [ "$end" -gt 0 ] || { end=$size; break; }
done
say ready "$device" "${actual:-0}"
echo "${prefix}blocks $end"
block_before "$end" && block_before 65536
"""

_READ_EXACTLY = r"""
# read_exactly LENGTH: from the device's beginning. Direct I/O takes whole blocks only, so the rest is read separately.
read_exactly() {
  whole=$(($1 / 1048576)) rest=$(($1 % 1048576))
  if [ "$whole" -gt 0 ]; then
    dd if="$device" bs=1048576 count="$whole" ${direct:+iflag=direct} || return
  fi
  [ "$rest" -gt 0 ] || return 0
  if [ -n "$gnu" ]; then
    dd if="$device" bs=65536 iflag=skip_bytes,count_bytes skip=$((whole * 1048576)) count="$rest"
  else
    sectors=$((rest / 512)) rest=$((rest % 512))
    if [ "$sectors" -gt 0 ]; then
      dd if="$device" bs=512 skip=$((whole * 2048)) count="$sectors" || return
    fi
    [ "$rest" -gt 0 ] || return 0
    dd if="$device" bs=512 skip=$((whole * 2048 + sectors)) count=1 | dd bs=1 count="$rest"
  fi
}

# Write the stream as it was sent, with the remote filter undone, to descriptor 5. Sets status, filter_status and words.
send_back() {
  filter_status=0
  if [ -n "$filter" ]; then
    output=$({
      { read_exactly "$length" 2>&6; echo "@dd=$?" >&6; } |
        { sh -c "$filter" >&5 6>&-; echo "@filter=$?" >&6; }
    } 6>&1)
    filter_status=${output##*@filter=} filter_status=${filter_status%%[!0-9]*}
    status=${output##*@dd=} status=${status%%[!0-9]*}
  else
    output=$(read_exactly "$length" 2>&1 >&5)
    status=$?
  fi
  words=$(printf '%s\n' "$output" | sed -n 's/^dd: //p' | head -n 1)
}

# fail_by CODE STATUS TEXT. A program that could not be run, or was killed, proves nothing about the volume.
fail_by() {
  [ "$2" -lt 126 ] 2>/dev/null || set -- ended "$2" "$3"
  fail "$1" 0 "$3"
}

# The filter comes first: if it ends early, dd fails because its reader is gone.
check_back() {
  [ "$filter_status" = 0 ] ||
    fail_by filter "$filter_status" "the filter that undoes the remote one ended with status $filter_status"
  [ "$status" = 0 ] || fail_by dd "$status" "dd ended with status $status: $words"
  [ -b "$device" ] && [ "$(number_of "$device" || :)" = "$number" ] || fail vanished 0 "$device is gone"
}
"""

_SEND = r"""
say ready "$device" "${actual:-0}"
echo "${prefix}stream"
exec 5>&1
send_back
check_back
say done "$length" "$device"
"""

# The checksum is computed on the instance, because data that leaves AWS costs money.
_SUM = r"""
if has sha256sum; then
  sum() { sha256sum; }
elif has openssl; then
  sum() { openssl dgst -sha256; }
elif has shasum; then
  sum() { shasum -a 256; }
elif has sha256; then
  sum() { sha256; }
else
  refuse tool "there is no program on the instance that makes a SHA-256 sum"
fi
dir=$(mktemp -d 2>/dev/null) || { dir=/tmp/ec2-backup.$$ && (umask 077 && mkdir "$dir"); } ||
  refuse tool "there is no room for temporary files on the instance"
trap 'rm -rf "$dir"' 0
say ready "$device" "${actual:-0}"
[ -n "$direct" ] || flush
{ send_back 5>&1; echo "$status $filter_status $words" >"$dir/end"; } | sum >"$dir/sum"
read -r status filter_status words <"$dir/end"
check_back
members=-
if [ "$walk" = 1 ] && has tar; then
  # A second pass: where tar can seek, it skips from header to header.
  if [ -n "$filter" ]; then
    send_back 5>&1 | { tar -tf - 2>"$dir/words"; echo $? >"$dir/tar"; } | wc -l >"$dir/members"
  else
    { tar -tf "$device" 2>"$dir/words"; echo $? >"$dir/tar"; } | wc -l >"$dir/members"
  fi
  read -r members <"$dir/members"
  read -r status <"$dir/tar"
fi
say sum "$(sed -n 's/.*\([0-9a-f]\{64\}\).*/\1/p' "$dir/sum")" "$members"
[ "$members" = - ] || [ "$status" = 0 ] ||
  fail_by archive "$status" "its archive cannot be read to the end: $(head -n 1 "$dir/words")"
say done "$length" "$device"
"""


def peek_script(volume_id: str, volume_size: int, exact: str | None = None, timeout: int = 120) -> str:
    """Return the script that sends a line BLOCKS, the manifest's block, and the volume's first 64 KiB.

    The arguments are those of ``compose``.
    """
    return compose(_PEEK, volume_id, volume_size, exact, timeout)


def send_script(
    volume_id: str,
    volume_size: int,
    length: int,
    remote_filter: str | None = None,
    exact: str | None = None,
    timeout: int = 120,
) -> str:
    """Return the script that sends a line STREAM, and then the start of the volume through the filter.

    The script reports on stderr. The other arguments are those of ``compose``.

    :param length: how many of the volume's bytes are sent.
    :param remote_filter: the command that undoes the remote filter.
    """
    more = {"filter": remote_filter or "", "length": str(length)}
    return compose(_READ_EXACTLY + _SEND, volume_id, volume_size, exact, timeout, STDERR, settings=more)


def sum_script(
    volume_id: str,
    volume_size: int,
    length: int,
    remote_filter: str | None = None,
    walk: bool = True,
    exact: str | None = None,
    timeout: int = 120,
) -> str:
    """Return the script that computes, on the instance, the SHA-256 of what ``send_script`` would send.

    The other arguments are those of ``send_script``.

    :param walk: whether to count the archive's members too, if the instance has a tar.
    """
    more = {"filter": remote_filter or "", "length": str(length), "walk": "1" if walk else "0"}
    return compose(_READ_EXACTLY + _SUM, volume_id, volume_size, exact, timeout, settings=more)
