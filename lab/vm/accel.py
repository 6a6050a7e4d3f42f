"""Whether KVM works here. That /dev/kvm is there says little: under some nested hypervisors a guest hangs in it."""

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
"""Seconds for a guest's kernel to reach user space; where KVM works it takes one or two."""

_MARK = b"Run /init as init process"  # init/main.c of Linux
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def choose(wanted: str, kernel: Path, initrd: Path, directory: Path) -> str:
    """The accelerator for a setting: `auto` is kvm where it works, else tcg.

    The verdict is kept in `directory` until this machine boots again.
    """
    if wanted != "auto":
        return wanted
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    verdict = directory / "accel"
    boot = _BOOT_ID.read_text().strip()
    known = verdict.read_text().split() if verdict.exists() else []
    if len(known) == 2 and known[0] == boot:
        return known[1]
    found = "kvm" if _boots(probe(kernel, initrd)) else "tcg"
    with contextlib.suppress(OSError):  # where it cannot be kept, it is found out each time
        descriptor, name = tempfile.mkstemp(dir=directory, prefix="accel-")
        with open(descriptor, "w") as file:
            file.write(f"{boot} {found}\n")
        os.rename(name, verdict)
    return found


def probe(kernel: Path, initrd: Path) -> list[str]:
    """The command that boots a kernel under KVM and shows its console."""
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
                time.sleep(0.2)  # a file grows without telling anybody
                if _said(console.fileno()):
                    return True
            return _said(console.fileno())
        finally:
            process.kill()
            process.wait()


def _said(descriptor: int) -> bool:
    return _MARK in os.pread(descriptor, 1 << 20, 0)
