# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Set up virtual machines: image and accelerator before the lab starts, network and metadata service inside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.api.runtime import current
from lab.common.machine import MakeMachine
from lab.common.settings import Settings

from . import accel, image, metadata
from .machine import VirtualMachine
from .network import Network
from .qemu import Platform


class Unavailable(Exception):
    """This machine cannot run virtual machines; the text is one line that says what to do."""


def prepare(settings: Settings, say: Callable[[str], None]) -> dict[str, str]:
    """Build the image if there is none, and choose the accelerator. Call outside the lab: building needs the network.

    :param say: called with a line before slow work.
    :returns: the fields of a ``Platform``.
    :raises Unavailable: this machine cannot run virtual machines.
    """
    try:
        built = image.ensure(say)
    except image.ImageError as error:
        raise Unavailable(str(error)) from error
    chosen = accel.choose(settings.accel, built.kernel, built.initrd, built.directory)
    return asdict(Platform(str(built.kernel), str(built.initrd), str(built.disk), built.root, chosen))


def start(state: Path, settings: Settings, platform: Mapping[str, str]) -> MakeMachine:
    """Start the network and the metadata service, inside the lab.

    :returns: a function that starts machines.
    """
    network = Network(state / "lab", metadata.domain(settings.region))
    network.start()
    metadata.serve(metadata.of_address)
    base = Platform(**platform)

    def make_machine(
        directory: Path, spec: dict[str, Any], ended: Callable[[VirtualMachine, int], None]
    ) -> VirtualMachine:
        lab = current()
        lab.firewall.mend(spec["address"])
        return VirtualMachine(directory, spec, ended, base, network, lab.settings)

    return make_machine
