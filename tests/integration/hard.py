"""A directory that is hard to save, and the comparison with what was saved."""

import os
import socket
import stat
import subprocess
from pathlib import Path

LONG = "a-name-of-some-length-" * 6


def make(root: Path) -> Path:
    """Fill ``root`` with one of everything. Needs root: owners, setuid, ACLs."""
    root.mkdir()
    (root / "file").write_bytes(os.urandom(300_000))
    (root / "empty").touch()
    os.link(root / "file", root / "hard link")
    (root / "symlink").symlink_to("file")
    (root / "dangling").symlink_to("/nowhere/at all")
    (root / "empty directory").mkdir(mode=0o711)
    os.mkfifo(root / "fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(root / "socket"))
    with (root / "sparse").open("wb") as sparse:
        sparse.write(b"start")
        sparse.seek(100 << 20)
        sparse.write(b"end")
    (root / "setuid").write_text("#!/bin/sh\n")
    os.chown(root / "setuid", 1234, 4321)
    (root / "setuid").chmod(0o4755)
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    (root / "new\nline").write_text("n")
    (root / " blanks and 'quotes\" \\ ").write_text("q")
    (root / "-rf").write_text("an option?")
    (root / "ünïcode-✓").write_text("u")
    with open(os.path.join(os.fsencode(root), b"not-utf8-\xff\xfe"), "w") as raw:
        raw.write("r")
    deep = root
    for _ in range(8):
        deep = deep / LONG
    deep.mkdir(parents=True)
    (deep / "deep").write_text("d")
    (root / "old").write_text("o")
    os.utime(root / "old", ns=(1_000_000_000_123_456_789, 1_000_000_000_123_456_789))
    os.setxattr(root / "file", "user.colour", b"blue\0green")
    (root / "acl").write_text("a")
    subprocess.run(["setfacl", "-m", "u:1234:rw,g:4321:r", root / "acl"], check=True)
    subprocess.run(["setfacl", "-d", "-m", "u:1234:rwx", root / "sticky"], check=True)
    os.utime(root, ns=(1_500_000_000_000_000_001, 1_500_000_000_000_000_001))
    return root


def recover(image: Path, target: Path) -> Path:
    """Recover by hand: the volume's bytes through tar, nothing else."""
    target.mkdir()
    with image.open("rb") as volume:
        subprocess.run(
            ["tar", "--extract", "--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-permissions"],
            stdin=volume,
            cwd=target,
            check=True,
            env={**os.environ, "LC_ALL": "C"},
        )
    return target


def differences(source: Path, copy: Path) -> list[str]:
    """What rsync would change to make the copy equal: bytes, names, modes, owners, times, links, ACLs, xattrs.

    Sockets are left out: no archive can hold one.
    """
    said = subprocess.run(
        ["rsync", "-naicHAX", "--numeric-ids", "--delete", "--no-specials", f"{source}/", f"{copy}/"],
        capture_output=True,
        check=True,
    ).stdout.decode(errors="replace")
    lines = [line for line in said.splitlines() if "non-regular file" not in line]
    # rsync knows FIFOs and sockets only together ("specials"), so FIFOs are compared here.
    fifos = [path for path in source.rglob("*") if stat.S_ISFIFO(path.lstat().st_mode)]
    for fifo in fifos:
        twin = (copy / fifo.relative_to(source)).lstat()
        if (twin.st_mode, twin.st_mtime_ns) != (fifo.lstat().st_mode, fifo.lstat().st_mtime_ns):
            lines.append(f"FIFO {fifo}")
    return lines
