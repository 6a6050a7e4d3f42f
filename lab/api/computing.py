# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Instances: moto's class, with a machine that runs each, and the packet filter that follows their security groups.

Methods are called with the lab's lock held unless they say otherwise; slow work is done in the scheduler's threads.
States: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html
"""

from __future__ import annotations

import copy
import os
import time
from pathlib import Path
from typing import Any

from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import ec2_backends
from moto.ec2.models.block_device import BlockDeviceType
from moto.ec2.models.instances import InstanceState, StateReason

from lab.common import firewall
from lab.common.disk import Disk, name_for, serial_for
from lab.common.machine import POWERED_OFF, Machine

from . import images, untyped, volumes
from .runtime import Runtime, current
from .storage import LabAttachment, LabVolume

_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
_BY_USER = ("Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown")
_BY_ITSELF = ("Client.InstanceInitiatedShutdown", "Client.InstanceInitiatedShutdown: Instance initiated shutdown")
_BUSY_AGAIN = 0.25  # seconds until the next attempt to detach a volume that is mounted


class LabInstance(untyped.Instance):  # type: ignore[misc]  # of Any: see untyped
    """An instance, which a machine runs."""

    def __init__(
        self, ec2_backend: Any, image_id: str, user_data: Any, security_groups: list[Any], **kwargs: Any
    ) -> None:
        self._fixed = ""  # the state, unless it is pending or running: those follow from the time
        self.running_at = time.monotonic() + current().settings.pending
        self.machine: Machine | None = None
        self.disks: dict[str, Disk] = {}
        self.disks_at_start: list[str] = []
        """Device names of the volumes at the last start, without the root volume. The metadata service lists them."""
        mappings = kwargs.pop("lab_mappings")
        self._mappings = copy.deepcopy(mappings)
        self.image = images.image(ec2_backend.region_name, image_id) or images.NETBSD
        super().__init__(ec2_backend, image_id, user_data, security_groups, **kwargs)
        if not security_groups:
            self.security_groups = [group for nic in self.nics.values() for group in nic._group_set]
        self._set_address()
        if "HttpTokens" not in (kwargs.get("metadata_options") or {}):
            self.metadata_options.http_tokens, hops = self.image.metadata_defaults
            self.metadata_options.http_put_response_hop_limit = hops
        current().scheduler.at(self.running_at, self._power_on)

    @property
    def public_key(self) -> str:
        """The public key of its key pair, as a line of authorized_keys; empty if it has none."""
        pair = self.ec2_backend.key_pairs.get(self.key_name) if self.key_name else None
        return pair.public_key.strip() if pair else ""

    def _set_address(self) -> None:
        self.address = current().new_address()
        nic = self.nics[0]
        nic.private_ip_address = self.address
        nic.private_ip_addresses = [{"Primary": True, "PrivateIpAddress": self.address}]
        if nic.public_ip:
            nic.public_ip = self.address

    # -- state

    @property
    def _state(self) -> InstanceState:
        name = self._fixed or ("running" if time.monotonic() >= self.running_at else "pending")
        return InstanceState(name, _CODES[name])

    @_state.setter
    def _state(self, value: InstanceState) -> None:
        """Ignore the ``running`` that moto's constructor sets: the state follows from the time."""

    @property
    def gone(self) -> bool:
        """Whether it is terminated or about to be."""
        return self._fixed in ("shutting-down", "terminated")

    @property
    def public_ip(self) -> str | None:
        return self.nics[0].public_ip if self.state in ("pending", "running") else None

    @property
    def public_ip_address(self) -> str | None:
        return self.public_ip

    @property
    def private_ip(self) -> str | None:
        return None if self._fixed == "terminated" else self.address

    @property
    def private_ip_address(self) -> str | None:
        return self.private_ip

    @property
    def private_dns_name(self) -> str:
        return super().private_dns_name if self.private_ip else ""

    @property
    def network_interfaces(self) -> list[Any]:
        return [] if self._fixed == "terminated" else list(self.nics.values())

    @property
    def block_device_mappings(self) -> list[dict[str, Any]]:
        result = []
        for device, block in self.get_block_device_mapping:
            shown = copy.copy(block)
            volume = self.ec2_backend.volumes.get(block.volume_id)
            shown.status = volume.attachment.status if volume and volume.attachment else "detached"
            result.append({"DeviceName": device, "Ebs": shown})
        return result

    @property
    def directory(self) -> Path:
        return current().state / "instances" / str(self.id)

    def console(self) -> bytes:
        """Return the last 64 KiB of its console, as in GetConsoleOutput."""
        path = self.directory / "console.log"
        return path.read_bytes()[-65536:] if path.exists() else b""

    # -- disks

    @property
    def _kind(self) -> str:
        if self.image.kind == "netbsd":
            return "bsd"
        return current().settings.devices

    def setup_defaults(self) -> None:
        """Make and attach the volumes of the launch: those of the AMI, then those of the mappings."""
        for entry in self._mappings:
            ebs = entry["Ebs"]
            volume = self.ec2_backend.create_volume(
                size=ebs.get("VolumeSize"),
                zone_name=self.placement.zone,
                snapshot_id=ebs.get("SnapshotId"),
                encrypted=ebs.get("Encrypted", False),
                kms_key_id=ebs.get("KmsKeyId"),
                volume_type=ebs.get("VolumeType"),
                iops=ebs.get("Iops"),
                throughput=ebs.get("Throughput"),
            )
            if entry["DeviceName"] == self.root_device_name:
                volumes.mark_as_root(volume.file)
            attachment = self.add_attachment(volume, entry["DeviceName"], bool(ebs.get("DeleteOnTermination")))
            attachment.attached_at = self.running_at

    def add_attachment(self, volume: LabVolume, device: str, delete_on_termination: bool) -> LabAttachment:
        """Attach a volume in the API's data only: the machine gets the disk from ``_power_on`` or ``plug``."""
        attachment = LabAttachment(volume, self, device, "attaching")
        volume.attachment = attachment
        self.block_device_mapping[device] = BlockDeviceType(
            volume_id=volume.id,
            status="in-use",
            size=volume.size,
            attach_time=utcnow(),
            delete_on_termination=delete_on_termination,
        )
        taken = {disk.name for disk in self.disks.values()}
        index = next(n for n in range(len(taken) + 1) if name_for(self._kind, device, n) not in taken)
        name = name_for(self._kind, device, index)
        self.disks[volume.id] = volume.disk(name, serial_for(self._kind, volume.id))
        return attachment

    def plug(self, attachment: LabAttachment) -> None:
        """Add the disk to the machine, unless the volume is being detached again. Call without the lock."""
        with current().lock:
            disk = self.disks.get(attachment.volume_id)
            machine = self.machine
            wanted = not attachment.detach_state and attachment.volume.attachment is attachment
        if machine and disk and wanted:
            machine.plug(disk)

    def unplug(self, attachment: LabAttachment) -> None:
        """Remove the disk from the machine and end the attachment. Call without the lock.

        While a process tree has the disk mounted, the attachment is ``busy`` and this tries again later.
        """
        with current().lock:
            if attachment.volume.attachment is not attachment:
                return
            loop, disk = attachment.volume.loop, self.disks.get(attachment.volume_id)
            machine = self.machine
        if machine and machine.alive and loop and not loop.is_free():
            attachment.detach_state = "busy"
            current().scheduler.at(time.monotonic() + _BUSY_AGAIN, lambda: self.unplug(attachment))
            return
        if machine and disk:
            machine.unplug(disk)
        with current().lock:
            if attachment.volume.attachment is attachment:
                self.remove_attachment(attachment)

    def remove_attachment(self, attachment: LabAttachment) -> None:
        """End an attachment in the API's data, and remove the loop device."""
        self.disks.pop(attachment.volume_id, None)
        self.block_device_mapping.pop(attachment.device, None)
        attachment.volume.close_loop()
        attachment.status = "detached"
        attachment.volume.attachment = None

    # -- start and end

    def _power_on(self) -> None:
        lab = current()
        with lab.lock:
            if self._fixed:
                return
            apply_firewall(lab)
            self.directory.mkdir(exist_ok=True)
            boot = lab.faults.sshd_delay(lab.settings.boot)
            root = self.block_device_mapping.get(self.root_device_name)
            names = (name for name in self.block_device_mapping if name != self.root_device_name)
            self.disks_at_start = [name.removeprefix("/dev/") for name in names]
            spec = {
                "id": self.id,
                "type": self.instance_type,
                "hostname": f"ip-{self.address.replace('.', '-')}",
                "address": self.address,
                "mac": self.nics[0].mac_address,
                "directory": str(self.directory),
                "ami": self.image.kind,
                "user": self.image.user,
                "key": self.public_key,
                "user_data": str(self.user_data or ""),
                "root": root.volume_id if root else "",
                "disks": [disk.as_dict() for disk in self.disks.values()],
                "boot": boot,
                "sshd_at": None if boot is None else self.running_at + boot,
                "hide": [os.path.expanduser("~"), str(lab.state), str(Path(__file__).resolve().parents[2])],
            }
            self.machine = lab.make_machine(self.directory, spec, self._ended)

    def _ended(self, machine: Any, status: int) -> None:
        with current().lock:
            if self.machine is not machine or self._fixed:
                return
            if status != POWERED_OFF:
                # EC2 too would go on showing it as running
                print(f"{self.id}: its machine ended with status {status}", flush=True)
            elif self.instance_initiated_shutdown_behavior == "terminate":
                self._begin_end("shutting-down", _BY_ITSELF)
            else:
                self._begin_end("stopping", _BY_ITSELF)

    def _begin_end(self, state: str, reason: tuple[str, str]) -> None:
        """Begin to stop or to terminate: the machine ends at once, the state changes after ``settings.shutdown``."""
        lab = current()
        self._fixed = state
        self._reason = f"User initiated ({utcnow().strftime('%Y-%m-%d %H:%M:%S GMT')})" if reason is _BY_USER else ""
        self.state_reason = StateReason(reason[1], reason[0])
        apply_firewall(lab)
        until = time.monotonic() + lab.settings.shutdown
        lab.scheduler.soon(self._power_off if state == "shutting-down" else self._shut_down)
        lab.scheduler.at(until, self._finish_termination if state == "shutting-down" else self._finish_stop)

    def _power_off(self) -> None:
        if self.machine:
            self.machine.kill()

    def _shut_down(self) -> None:
        if self.machine:
            self.machine.stop()

    def _finish_stop(self) -> None:
        self._shut_down()
        with current().lock:
            if self._fixed == "stopping":
                self._fixed = "stopped"

    def _finish_termination(self) -> None:
        self._power_off()
        with current().lock:
            if self._fixed == "terminated":
                return
            for _, block in self.get_block_device_mapping:
                volume = self.ec2_backend.volumes.get(block.volume_id)
                if volume and volume.attachment:
                    self.remove_attachment(volume.attachment)
                    if block.delete_on_termination:
                        self.ec2_backend.discard_volume(volume)
            for nic in self.nics.values():
                if nic.id in self.ec2_backend.enis:
                    nic.delete()
            association = self.ec2_backend.iam_instance_profile_associations.get(self.id)
            if association:
                self.ec2_backend.disassociate_iam_instance_profile(association_id=association.association_id)
            self._fixed = "terminated"

    def start(self) -> InstanceState:
        previous = self._state
        if previous.name in ("pending", "running"):
            return previous
        if previous.name != "stopped":
            raise _incorrect_instance_state(self.id, "started")
        self._fixed = ""
        self.state_reason = StateReason()
        self.running_at = time.monotonic() + current().settings.pending
        current().scheduler.at(self.running_at, self._power_on)
        return previous

    def stop(self) -> InstanceState:
        previous = self._state
        if previous.name in ("stopping", "stopped"):
            return previous
        if self.gone:
            raise _incorrect_instance_state(self.id, "stopped")
        self._begin_end("stopping", _BY_USER)
        if self.ec2_backend.force:
            current().scheduler.soon(self._power_off)
        return previous

    def terminate(self) -> InstanceState:
        previous = self._state
        if not self.gone:
            self._begin_end("shutting-down", _BY_USER)
        return previous

    def reboot(self) -> None:
        if self.state == "running" and self.machine:
            current().scheduler.soon(self.machine.reboot)


def _incorrect_instance_state(instance_id: str, verb: str) -> EC2ClientError:
    return EC2ClientError(
        "IncorrectInstanceState", f"The instance '{instance_id}' is not in a state from which it can be {verb}."
    )


def apply_firewall(lab: Runtime) -> None:
    """Put the security groups of all running instances in force. Call with the lock held."""
    lab.firewall.apply(rule for instance in all_instances() for rule in _rules(instance))


def all_instances() -> list[Any]:
    """Return the instances of every account and region, including terminated ones."""
    return [
        instance
        for account in list(ec2_backends.values())
        for backend in list(account.values())
        for instance in backend.all_instances()
    ]


def _rules(instance: LabInstance) -> list[firewall.Rule]:
    if instance.state != "running":
        return []
    return [
        firewall.Rule(instance.address, source, rule.ip_protocol or "-1", rule.from_port or 0, rule.to_port or 65535)
        for group in instance.security_groups
        for rule in group.ingress_rules
        for source in ([rule.cidr_ipv4] if rule.cidr_ipv4 else _members(rule.source_group or {}))
    ]


def _members(group: dict[str, str]) -> list[str]:
    """Return the addresses of the running instances in a security group (of a rule that has a group as its source)."""
    return [
        other.address
        for other in all_instances()
        if other.state == "running" and group.get("GroupId") in [member.id for member in other.security_groups]
    ]
