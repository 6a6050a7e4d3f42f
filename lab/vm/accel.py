# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find out whether KVM works on this machine. /dev/kvm does not prove it: under some hypervisors a guest hangs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from . import qemu

PATIENCE = 20.0
"""Seconds for a guest's kernel to reach user space. Where KVM works, it takes one or two."""

_MARK = b"Run /init as init process"  # init/main.c of Linux
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def choose(wanted: str, kernel: Path, initrd: Path, directory: Path) -> str:
    """Return the accelerator to use, kvm or tcg.

    The result is stored in ``directory`` and used until this machine boots again.

    :param wanted: kvm, tcg, or ``auto``: kvm if it works, else tcg.
    """
    if wanted != "auto":
        return wanted
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    stored = directory / "accel"
    boot = _BOOT_ID.read_text().strip()
    known = stored.read_text().split() if stored.exists() else []
    if len(known) == 2 and known[0] == boot:
        return known[1]
    found = "kvm" if _boots(probe(kernel, initrd)) else "tcg"
    with contextlib.suppress(OSError):  # if it cannot be stored, each lab tries again
        descriptor, name = tempfile.mkstemp(dir=directory, prefix="accel-")
        with open(descriptor, "w") as file:
            file.write(f"{boot} {found}\n")
        os.rename(name, stored)
    return found


def probe(kernel: Path, initrd: Path) -> list[str]:
    """Return the command that boots a kernel under KVM, with its console on stdout."""
    return [
        qemu.PROGRAM,
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-machine", "q35,sata=off", "-accel", "kvm", "-cpu", "host", "-m", "256M", "-smp", "1"),
        *("-kernel", str(kernel), "-initrd", str(initrd), "-append", "console=ttyS0 panic=-1"),
        *("-serial", "stdio"),
    ]


def _boots(command: Sequence[str]) -> bool:
    deadline = time.monotonic() + PATIENCE
    with tempfile.TemporaryFile() as console:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            while time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.2)  # there is no event for a file that grows
                if _has_booted(console.fileno()):
                    return True
            return _has_booted(console.fileno())
        finally:
            process.kill()
            process.wait()


def _has_booted(descriptor: int) -> bool:
    return _MARK in os.pread(descriptor, 1 << 20, 0)
