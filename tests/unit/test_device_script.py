# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The script on the instance, with several shells, on real block devices in a /dev, /sys and /proc of the tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Any

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._device import find
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.protocol import Reports, trouble
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.write import write_script
from tests.unit import devices
from tests.unit.devices import MIB, loop_device, needs_root

pytestmark = needs_root

SIZE = 8 * MIB
VOLUME = "vol-0123456789abcdef0"
LINK = "nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0"


class Host(devices.Host):
    """A host on which the writing script runs."""

    def run(
        self, data: bytes = b"", shell: str = "dash", changes: dict[str, str] | None = None, **asked: Any
    ) -> Reports:
        """Run the script; return what it told, and its whole stdout and stderr."""
        defaults: dict[str, Any] = {"names": [], "timeout": 0, "volume_size": SIZE, "manifest": "writing"}
        asked = defaults | asked
        names = asked.pop("names")
        done = self.execute(write_script(VOLUME, **asked), names, shell, changes, data)
        reports = Reports()
        for line in done.stdout.decode().splitlines():
            reports.feed(line)
        assert (done.returncode == 0) == (reports.stored_bytes is not None), done
        return reports


@pytest.fixture
def host(tmp_path):
    with loop_device(tmp_path / "image", SIZE) as loop:
        yield Host(tmp_path / "root", loop, SIZE)


@pytest.fixture(params=devices.SHELLS)
def shell(request):
    return devices.need_shell(request.param)


def message(reports: Reports) -> str:
    told = trouble(reports, VOLUME, 0)
    assert told is not None
    assert "\n" not in told
    return told


def test_the_exact_link_names_the_device_and_its_siblings_do_not(host, shell):
    host.node("nvme7n1")
    host.link(LINK, "nvme7n1")
    host.link(LINK + "-part1", "nowhere")
    reports = host.run(b"data" * 1000, shell)
    assert reports.device == str(host.top / "dev/nvme7n1")
    assert reports.stored_bytes == 4000
    assert host.content(4000) == b"data" * 1000


def test_a_siblings_link_is_not_taken_for_the_device(host):
    host.node("nvme7n1")
    host.link(LINK + "_1", "nvme7n1")
    host.link(LINK + "-part1", "nvme7n1")
    told = message(host.run())
    assert told.startswith(
        f"volume {VOLUME} did not appear on the instance within 0 s; block devices seen last: nvme7n1"
    )


def test_without_the_link_the_nvme_serial_names_the_device(host, shell):
    host.nvme("nvme0n1", "vol0fffffffffffffff0")
    host.nvme("nvme5n1", "vol0123456789abcdef0")
    host.node("nvme5n1")
    assert host.run(b"x" * 512, shell).device == str(host.top / "dev/nvme5n1")


def test_a_longer_serial_with_the_same_beginning_is_another_volume(host):
    host.nvme("nvme5n1", "vol0123456789abcdef01")
    host.node("nvme5n1")
    assert host.run().code == "missing"


def test_names_serve_where_no_ebs_disk_is_nvme(host, shell):
    host.node("xvdf")
    assert host.run(b"x" * 512, shell, names=["sdf", "xvdf"]).device == str(host.top / "dev/xvdf")


def test_names_mean_nothing_where_an_ebs_disk_is_nvme(host):
    host.node("sdf")
    host.nvme("nvme0n1", "vol0fffffffffffffff0")
    assert host.run(names=["sdf"]).code == "missing"
    shutil.rmtree(host.top / "sys/block/nvme0n1")
    host.link("nvme-Amazon_Elastic_Block_Store_vol0fffffffffffffff0", "sdf")
    assert host.run(names=["sdf"]).code == "missing"


def test_the_wait_for_the_device_ends_when_it_appears(host):
    mknod = f"mknod {host.top}/dev/xvdf b {host.numbers.replace(':', ' ')}"
    later = f"( sleep 0.5; {mknod} ) </dev/null >/dev/null 2>&1 &\nnow()"
    reports = host.run(b"x" * 512, changes={"now()": later}, names=["xvdf"], timeout=30)
    assert reports.stored_bytes == 512


def test_a_name_that_is_no_device_is_never_written_to(host, shell):
    assert host.run(b"x" * 512, shell, names=["sdf"]).code == "missing"
    assert not (host.top / "dev/sdf").exists()
    (host.top / "dev/sdf").write_bytes(b"a file")
    assert host.run(b"x" * 512, shell, names=["sdf"], exact=str(host.top / "dev/sdf")).code == "missing"
    assert (host.top / "dev/sdf").read_bytes() == b"a file"


def test_a_device_of_another_size_is_refused(host, shell):
    host.node("sdf")
    reports = host.run(b"x" * 512, shell, names=["sdf"], volume_size=SIZE + 512, force=True)
    assert message(reports) == (
        f"volume {VOLUME}: {host.top}/dev/sdf has {SIZE} bytes, the volume has {SIZE + 512}: refused"
    )
    assert host.content(512) == bytes(512)


def test_a_device_whose_size_cannot_be_told_is_taken_only_by_its_exact_name(host):
    node = host.node("sdf")
    shutil.rmtree(host.block)
    hide = {"elif has blockdev": "elif false"}
    assert host.run(changes=hide, names=["sdf"]).code == "unknown"
    reports = host.run(b"x" * 512, changes=hide, exact=str(node))
    assert (reports.code, reports.stored_bytes) == (None, 512)


@pytest.mark.parametrize(
    ("where", "content", "words"),
    [
        ("proc/self/mountinfo", "30 22 {numbers} / /data rw - ext4 /dev/other rw", "is mounted on /data"),
        ("proc/self/mountinfo", "30 22 0:77 / /data rw - btrfs {device} rw", "is mounted on /data"),
        ("proc/swaps", "{device} partition 1 2 3", "is swap space in use"),
        ("sys/dev/block/{numbers}/holders/dm-3", "", "is in use by dm-3"),
        ("sys/dev/block/{numbers}/partition", "1", "is a partition, not a volume"),
        ("sys/dev/block/{numbers}/ro", "1", "is read-only"),
        ("sys/fs/btrfs/6f0c/devices/sdf/dev", "{numbers}", "is part of a mounted btrfs"),
    ],
)
def test_a_device_in_use_is_refused_even_with_force(host, shell, where, content, words):
    device = host.node("sdf")
    known = {"numbers": host.numbers, "device": device}
    host.write(host.top / where.format(**known), content.format(**known))
    reports = host.run(b"x" * 512, shell, names=["sdf"], force=True)
    assert words in message(reports)
    assert host.content(512) == bytes(512)


@pytest.mark.parametrize("where", ["mount", "holder"])
def test_a_device_with_a_partition_in_use_is_refused_even_with_force(host, where):
    host.node("sdf")
    host.write(host.block / "sdf1/partition", 1)
    host.write(host.block / "sdf1/dev", "259:1")
    if where == "mount":
        host.write(host.top / "proc/self/mountinfo", "30 22 259:1 / / rw - ext4 /dev/root rw")
    else:
        host.write(host.top / "sys/dev/block/259:1/holders/md0", "")
    assert "is mounted on /" in (told := message(host.run(names=["sdf"], force=True))) or "is in use by md0" in told


def test_a_really_mounted_filesystem_is_refused_even_with_force(host, tmp_path):
    subprocess.run(["mkfs.ext4", "-q", str(host.loop)], check=True)
    (tmp_path / "point").mkdir()
    subprocess.run(["mount", str(host.loop), str(tmp_path / "point")], check=True)
    try:
        host.node("sdf")
        real = {f"proc={host.top}/proc": "proc=/proc"}
        assert f"is mounted on {tmp_path}/point" in message(host.run(changes=real, names=["sdf"], force=True))
    finally:
        subprocess.run(["umount", str(tmp_path / "point")], check=True)


def test_a_filesystem_is_refused_by_kind_and_label_and_overwritten_with_force(host, shell):
    subprocess.run(["mkfs.ext4", "-q", "-L", "precious", str(host.loop)], check=True)
    host.node("sdf")
    reports = host.run(b"x" * 512, shell, names=["sdf"])
    assert message(reports) == (
        f"volume {VOLUME} holds the signature ext4 (label precious): refused; "
        "use --force (ec2_backup_force) to overwrite it"
    )
    assert host.run(b"x" * 4096, shell, names=["sdf"], force=True).stored_bytes == 4096
    assert host.content(4096) == b"x" * 4096


def test_a_partition_table_is_refused(host):
    with host.loop.open("r+b") as file:  # one Linux partition at 1 MiB, as an MBR tells it
        file.seek(446)
        file.write(bytes([0, 0, 0, 0, 0x83, 0, 0, 0]) + (2048).to_bytes(4, "little") * 2)
        file.seek(510)
        file.write(b"\x55\xaa")
    host.node("sdf")
    assert "holds a partition table, dos" in message(host.run(names=["sdf"]))


@pytest.mark.parametrize(
    ("content", "taken"),
    [(b"", True), (b"\0" * 257 + b"ustar", True), (b"\0" * 1000 + b"x", False), (b"\0" * 900_000 + b"x", False)],
)
def test_without_blkid_only_an_empty_volume_or_an_archive_is_overwritten(host, shell, content, taken):
    with host.loop.open("r+b") as file:
        file.write(content)
    host.node("sdf")
    reports = host.run(b"y" * 512, shell, changes={"if has blkid": "if false"}, names=["sdf"])
    assert (reports.stored_bytes == 512) is taken
    assert taken or reports.code == "signature"


def test_an_earlier_archive_is_overwritten_without_force(host):
    host.node("sdf")
    archive = subprocess.run(["tar", "-cf", "-", __file__], check=True, capture_output=True).stdout
    assert host.run(archive, names=["sdf"]).stored_bytes == len(archive)
    assert host.run(archive[:5120], names=["sdf"]).stored_bytes == 5120


@pytest.mark.parametrize("portable", [False, True])
def test_a_stream_larger_than_the_volume_is_told_with_what_fitted(host, shell, portable):
    host.node("sdf")
    changes = {"grep -q coreutils": "false"} if portable else {}
    reports = host.run(os.urandom(SIZE + 3 * MIB), shell, changes, names=["sdf"])
    assert message(reports) == (
        f"volume {VOLUME} is full after {SIZE if portable else SIZE - MIB} bytes: it is too small for this archive"
    )


@pytest.mark.parametrize("count", [0, 1, 511, 512, MIB - 1, MIB, 3 * MIB + 77])
@pytest.mark.parametrize("portable", [False, True])
def test_every_byte_arrives_with_any_dd(host, count, portable):
    host.node("sdf")
    data = os.urandom(count)
    changes = {"grep -q coreutils": "false"} if portable else {}
    assert host.run(data, changes=changes, names=["sdf"]).stored_bytes == count
    assert host.content(count) == data


@pytest.mark.skipif(shutil.which("busybox") is None, reason="busybox is not installed")
def test_busybox_alone_suffices(host, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in re.findall(r"\w+", "sh id dd stat cat sed head tail date sleep readlink sync tr wc grep mount"):
        (tools / name).symlink_to(str(shutil.which("busybox")))
    host.node("sdf")
    data = os.urandom(2 * MIB)
    only = {"PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin": f"PATH={tools}"}
    assert host.run(data, "busybox", only, names=["sdf"]).stored_bytes == len(data)
    assert host.content(len(data)) == data
    reports = host.run(os.urandom(SIZE + MIB), "busybox", only, names=["sdf"], force=True)
    assert (reports.code, reports.written) == ("full", SIZE)
    # Some builds of its dd count records only.
    reports = host.run(b"x" * 1000, "busybox", only, names=["sdf"], force=True)
    uncounted = "the dd on the instance does not tell how many bytes it wrote"
    assert reports.stored_bytes == 1000 or reports.text == uncounted


def test_the_remote_filters_output_is_what_is_written(host, shell):
    host.node("sdf")
    reports = host.run(b"abc" * 100_000, shell, names=["sdf"], remote_filter="tr 'a-c' 'A-C'; printf '%s' \"it's\"")
    assert reports.stored_bytes == 300_004
    assert host.content(300_004) == b"ABC" * 100_000 + b"it's"


@pytest.mark.parametrize(
    ("remote_filter", "words"),
    [
        ("cat; exit 3", "the remote filter ended with status 3"),
        ("head -c 1000; exit 4", "the remote filter ended with status 4"),
        ("kill -9 $$", "the remote filter ended with status 137"),
        ("no-such-command-at-all", "the remote filter ended with status 127"),
        ("head -c 1000", "the remote filter ended before it had read the whole stream"),
    ],
)
def test_a_remote_filter_that_does_not_do_its_work_fails(host, shell, remote_filter, words):
    host.node("sdf")
    reports = host.run(os.urandom(2 * MIB), shell, names=["sdf"], remote_filter=remote_filter)
    assert words in message(reports)


def test_a_full_volume_is_told_rather_than_the_filter_that_lost_its_reader(host, shell):
    host.node("sdf")
    reports = host.run(os.urandom(2 * SIZE), shell, names=["sdf"], remote_filter="cat")
    assert reports.code == "full"


def test_a_login_that_cannot_become_root_is_told(tmp_path):
    command = find.remote_command(find.compose("", VOLUME, SIZE), [])
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", command]
    done = subprocess.run(nobody, check=False, capture_output=True, stdin=subprocess.DEVNULL, cwd="/")
    reports = Reports()
    for line in done.stdout.decode().splitlines():
        reports.feed(line)
    assert message(reports).startswith("the login on the instance cannot become root: ")


def test_arguments_reach_the_script_unchanged_through_the_login_shell():
    hostile = "a'b\"c $(id) `id` ; | & \\ \n end"
    composed = find.compose("", hostile, 1, hostile, settings={"filter": hostile})
    settings = composed[: composed.index("dev=/dev")]
    script = settings + 'printf "%s\\n" "$volume" "$size" "$wait" "$exact" "$filter" "$@"'
    command = find.remote_command(script, [hostile])
    done = subprocess.run(["sh", "-c", command], check=True, capture_output=True, stdin=subprocess.DEVNULL)
    assert done.stdout.decode() == f"{hostile}\n1\n120\n{hostile}\n{hostile}\n{hostile}\n"
