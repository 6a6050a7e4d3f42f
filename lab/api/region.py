# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""EC2 in one region: moto's backend, with the checks that EC2 makes and moto does not, and EC2's error codes.

Error codes: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
"""

from __future__ import annotations

import copy
import time
from typing import Any

from moto.ec2.exceptions import (
    DryRunClientError,
    EC2ClientError,
    InvalidSnapshotIdError,
    InvalidSubnetIdError,
    InvalidVolumeAttachmentError,
    InvalidVolumeDetachmentError,
    InvalidVolumeIdError,
    MissingParameterError,
    VolumeInUseError,
)
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES

from . import images, limits, untyped, volumes
from .limits import invalid
from .runtime import current
from .storage import GIB, LabAmi

# https://docs.aws.amazon.com/global-infrastructure/latest/regions/aws-regions.html
DEFAULT_REGIONS = {
    *("us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "sa-east-1"),
    *("eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3"),
    *("ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-southeast-1", "ap-southeast-2"),
}


class LabBackend(untyped.EC2Backend):  # type: ignore[misc]  # of Any: see untyped
    """EC2 in one region. Its methods are called with the lab's lock held."""

    _loading = False

    dry_run = False
    """Whether RunInstances was called with DryRun. Set by replies.py."""

    force = False
    """Whether StopInstances was called with Force. Set by replies.py."""

    def __init__(self, region_name: str, account_id: str) -> None:
        self._launches: dict[str, tuple[str, Any]] = {}
        self.creations: dict[str, tuple[str, Any]] = {}
        super().__init__(region_name, account_id)

    def _load_amis(self) -> None:
        self._loading = True
        for image in images.images(self.region_name):
            if image.kind == "netbsd" and current().settings.virtual:
                continue  # there is no image for virtual machines of it
            ami = LabAmi(
                self,
                image.id,
                name=image.name,
                description=image.description,
                owner_id=image.owner,
                owner_alias="amazon" if image.kind == "al2023" else None,
                public=True,
                virtualization_type="hvm",
                architecture=image.architecture,
                hypervisor="xen",
                root_device_type="ebs",
                root_device_name=image.root_device,
                region_name=f"{self.region_name}a",
            )
            ami.size = image.size
            ami.ebs_snapshot.volume.size = image.size
            self.amis[image.id] = ami
        self._loading = False

    # -- instances

    def run_instances(
        self, image_id: str, count: int, user_data: Any, security_group_names: list[str], **kwargs: Any
    ) -> Any:
        token = kwargs.get("client_token")
        asked = repr(
            (image_id, count, user_data, security_group_names, sorted(kwargs.items(), key=lambda item: item[0]))
        )
        if token and token in self._launches:
            before, reservation = self._launches[token]
            if before != asked:
                raise EC2ClientError(
                    "IdempotentParameterMismatch",
                    "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
                )
            return reservation
        if not image_id and not kwargs.get("launch_template"):
            raise MissingParameterError("ImageId")
        ami = self.describe_images(ami_ids=[image_id])[0]
        kind = str(kwargs["instance_type"])
        self._check_type(kind, ami.architecture, image_id)
        self._place(kind, kwargs)
        self._check_groups(security_group_names, kwargs)
        key = kwargs.get("key_name")
        if key and key not in self.key_pairs:
            raise EC2ClientError("InvalidKeyPair.NotFound", f"The key pair '{key}' does not exist")
        behaviour = kwargs.get("instance_initiated_shutdown_behavior")
        if behaviour not in (None, "", "stop", "terminate"):
            raise invalid(f"Value ({behaviour}) for parameter instanceInitiatedShutdownBehavior is invalid.")
        kwargs["lab_mappings"] = self._mappings(ami, kwargs.pop("block_device_mappings", []))
        if self.dry_run:
            raise DryRunClientError()
        reservation = super().run_instances(image_id, count, user_data, security_group_names, **kwargs)
        if token and token != "ABCDE":  # moto passes this if there is no token
            self._launches[token] = (asked, reservation)
        return reservation

    def _check_type(self, kind: str, architecture: str, image_id: str) -> None:
        if kind not in INSTANCE_TYPES:
            raise invalid(f"Invalid value '{kind}' for InstanceType.")
        able = INSTANCE_TYPES[kind]["ProcessorInfo"]["SupportedArchitectures"]
        if architecture not in able:
            raise invalid(
                f"The architecture '{','.join(able)}' of the specified instance type does not match the architecture "
                f"'{architecture}' of the specified AMI. Specify an instance type and an AMI that have matching "
                "architectures, and try again. You can use 'describe-instance-types' or 'describe-images' to "
                "discover the architecture of the instance type or AMI."
            )

    def _place(self, kind: str, kwargs: dict[str, Any]) -> None:
        """Choose zone and subnet as EC2 does: those asked for, else the first default subnet that offers the type."""
        zone = kwargs.get("placement")
        nics = kwargs.get("nics") or []
        subnet_id = kwargs.get("subnet_id") or next((nic["SubnetId"] for nic in nics if "SubnetId" in nic), None)
        offered = {entry["Location"] for entry in _offerings(self.region_name) if entry["InstanceType"] == kind}
        if zone and self.get_zone_by_name(zone) is None:
            raise invalid(f"Invalid availability zone: [{zone}]")
        if subnet_id:
            subnet = self._subnet(subnet_id)
            if zone and zone != subnet.availability_zone:
                raise invalid(
                    f"Value ({zone}) for parameter availabilityZone is invalid. "
                    f"Subnet '{subnet_id}' is in the availability zone {subnet.availability_zone}"
                )
            zone = subnet.availability_zone
        else:
            defaults = self.get_default_subnets()
            if not defaults:
                raise EC2ClientError(
                    "VPCIdNotSpecified",
                    "No default VPC for this user. GroupName is only supported for EC2-Classic and default VPC.",
                )
            if zone and zone not in defaults:
                raise EC2ClientError("MissingInput", f"No default subnet for availability zone: '{zone}'.")
            zone = zone or next((name for name in sorted(defaults) if name in offered), sorted(defaults)[0])
            if nics:
                nics[0]["SubnetId"] = defaults[zone].id
            else:
                kwargs["subnet_id"] = defaults[zone].id
        if zone not in offered:
            raise EC2ClientError(
                "Unsupported",
                f"Your requested instance type ({kind}) is not supported in your requested Availability Zone ({zone}). "
                f"Please retry your request by not specifying an Availability Zone or choosing "
                f"{', '.join(sorted(offered))}.",
            )
        kwargs["placement"] = zone

    def _subnet(self, subnet_id: str) -> Any:
        try:
            return self.get_subnet(subnet_id)
        except InvalidSubnetIdError:
            raise EC2ClientError("InvalidSubnetID.NotFound", f"The subnet ID '{subnet_id}' does not exist") from None

    def _check_groups(self, names: list[str], kwargs: dict[str, Any]) -> None:
        nics = [group for nic in kwargs.get("nics") or [] for group in nic.get("Groups") or []]
        for group in [*kwargs.get("security_group_ids", []), *nics]:
            if self.get_security_group_from_id(group) is None:
                raise EC2ClientError("InvalidGroup.NotFound", f"The security group '{group}' does not exist")
        for name in names:
            if self.get_security_group_by_name_or_id(name) is None:
                raise EC2ClientError(
                    "InvalidGroup.NotFound",
                    f"The security group '{name}' does not exist in default VPC '{self.default_vpc.id}'",
                )

    def _mappings(self, ami: Any, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the AMI's block device mappings and those asked for. All are checked before any volume is made."""
        root = copy.deepcopy(ami.block_device_mappings[0])
        result = [root]
        for entry in asked:
            name = entry.get("DeviceName")
            if not name:
                raise MissingParameterError("deviceName")
            ebs = entry.get("Ebs")
            if name == ami.root_device_name and ebs is not None:
                size = ebs.get("VolumeSize")
                if size is not None and int(size) < ami.size:
                    raise EC2ClientError(
                        "InvalidBlockDeviceMapping",
                        f"Volume of size {size}GB is smaller than snapshot '{root['Ebs']['SnapshotId']}', "
                        f"expect size >= {ami.size}GB",
                    )
                if ebs.get("VolumeType", "gp3") != "gp3":
                    root["Ebs"].update(Iops=None, Throughput=None)
                root["Ebs"].update(ebs)
                continue
            if "NoDevice" in entry or ebs is None:
                continue
            limits.check_device(name)
            if any(other["DeviceName"] == name for other in result):
                raise EC2ClientError("InvalidBlockDeviceMapping", f"Duplicate device name '{name}'")
            if ebs.get("VolumeSize") is None and not ebs.get("SnapshotId"):
                raise MissingParameterError("size or snapshotId")
            result.append({"DeviceName": name, "Ebs": {"DeleteOnTermination": False, **ebs}})
        for entry in result:
            self._check_ebs(entry["Ebs"])
        return result

    def _check_ebs(self, ebs: dict[str, Any]) -> None:
        ebs["Encrypted"] = ebs.get("Encrypted") in (True, "true")
        if ebs.get("KmsKeyId") and not ebs["Encrypted"]:
            raise EC2ClientError(
                "InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set."
            )
        kind = ebs.setdefault("VolumeType", "gp2")
        size = ebs.get("VolumeSize")
        if size is None:
            size = self.get_snapshot(ebs["SnapshotId"]).volume.size
        limits.check_volume(kind, int(size), _number(ebs.get("Iops")), _number(ebs.get("Throughput")))

    def get_security_groups_in_use(self) -> set[str]:
        return {
            group.id
            for instance in self.all_instances()
            if instance.state != "terminated"
            for group in instance.security_groups
        }

    def delete_security_group(self, name: str | None = None, group_id: str | None = None) -> None:
        group = (
            self.get_security_group_from_id(group_id) if group_id else self.get_security_group_by_name_or_id(name or "")
        )
        if group and group.id in self.get_security_groups_in_use():
            raise EC2ClientError("DependencyViolation", f"resource {group.id} has a dependent object")
        if group and group.is_default:
            raise EC2ClientError(
                "CannotDelete", f'the specified group: "{group.id}" name: "default" cannot be deleted by a user'
            )
        super().delete_security_group(name, group_id)

    # -- regions

    def describe_regions(self, region_names: list[str] | None = None) -> list[Any]:
        """Return the regions that are named, or those that an account has without enabling any."""
        found = super().describe_regions(region_names)
        return found if region_names else [region for region in found if region.name in DEFAULT_REGIONS]

    # -- snapshots

    def get_snapshot(self, snapshot_id: str) -> Any:
        try:
            return super().get_snapshot(snapshot_id)
        except InvalidSnapshotIdError:  # which has no text
            text = f"The snapshot '{snapshot_id}' does not exist."
            raise EC2ClientError("InvalidSnapshot.NotFound", text) from None

    # -- volumes

    def create_volume(
        self, size: Any, zone_name: str, snapshot_id: str | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        if self._loading:  # moto makes a volume for the snapshot of each AMI; it needs no file
            return super().create_volume(size, zone_name, snapshot_id, *args, **kwargs)
        if self.get_zone_by_name(zone_name) is None:
            raise EC2ClientError("InvalidZone.NotFound", f"The zone '{zone_name}' does not exist.")
        snapshot = self.get_snapshot(snapshot_id) if snapshot_id else None
        if size is None and snapshot is None:
            raise MissingParameterError("size/snapshot")
        size = int(size) if size is not None else snapshot.volume.size  # type: ignore[union-attr]  # size or snapshot is given
        if snapshot and size < snapshot.volume.size:
            raise invalid(
                f"Volume of {size}GiB is too small for snapshot '{snapshot_id}'; minimum is {snapshot.volume.size}GiB"
            )
        kind = kwargs.get("volume_type") or "gp2"
        iops, throughput = _number(kwargs.get("iops")), _number(kwargs.get("throughput"))
        limits.check_volume(kind, size, iops, throughput)
        if kind == "gp3":
            kwargs["throughput"] = throughput or 125
        kwargs["iops"] = iops
        volume = super().create_volume(size, zone_name, snapshot_id, *args, **kwargs)
        if kind == "gp2":
            volume.iops = max(100, min(16000, 3 * size))
        source = current().snapshot_file(snapshot_id) if snapshot_id else None
        volumes.create(volume.file, size * GIB, source)
        return volume

    def describe_volumes(self, volume_ids: list[str] | None = None, filters: Any = None) -> list[Any]:
        for volume_id in volume_ids or []:
            if volume_id not in self.volumes:
                raise InvalidVolumeIdError(volume_id)
        return list(super().describe_volumes(volume_ids, filters))

    def delete_volume(self, volume_id: str) -> Any:
        volume = self.get_volume(volume_id)
        if self._loading:
            return self.volumes.pop(volume_id)
        if volume.attachment:
            raise VolumeInUseError(volume_id, volume.attachment.instance.id)
        if volume.status == "creating":
            raise EC2ClientError("IncorrectState", f"Volume '{volume_id}' is in the 'creating' state.")
        self.discard_volume(volume)
        return volume

    def discard_volume(self, volume: Any) -> None:
        """Delete a volume and its file, without any check."""
        self.volumes.pop(volume.id, None)
        volume.file.unlink(missing_ok=True)

    def attach_volume(
        self, volume_id: str, instance_id: str, device_path: str, delete_on_termination: bool = False
    ) -> Any:
        volume, instance = self.get_volume(volume_id), self.get_instance(instance_id)
        if not device_path:
            raise MissingParameterError("device")
        limits.check_device(device_path)
        if volume.attachment:
            raise EC2ClientError("VolumeInUse", f"{volume_id} is already attached to an instance")
        if volume.status != "available":
            raise EC2ClientError("IncorrectState", f"{volume_id} is not 'available'.")
        if volume.zone.name != instance.placement.zone:
            raise EC2ClientError(
                "InvalidVolume.ZoneMismatch",
                f"The volume '{volume_id}' is not in the same availability zone as instance '{instance_id}'",
            )
        if instance.state not in ("running", "stopped"):
            raise EC2ClientError("IncorrectState", f"Instance '{instance_id}' is not 'running'.")
        if device_path in instance.block_device_mapping:
            raise invalid(
                f"Invalid value '{device_path}' for unixDevice. Attachment point {device_path} is already in use"
            )
        attachment = instance.add_attachment(volume, device_path, delete_on_termination)
        lab = current()
        attachment.attached_at = time.monotonic() + lab.settings.attach
        lab.scheduler.at(attachment.attached_at + lab.settings.device, lambda: instance.plug(attachment))
        return attachment

    def detach_volume(self, volume_id: str, instance_id: str | None, device_path: str | None) -> Any:
        volume = self.get_volume(volume_id)
        attachment = volume.attachment
        if not attachment:
            raise EC2ClientError("IncorrectState", f"Volume '{volume_id}' is in the '{volume.status}' state.")
        instance = self.get_instance(instance_id) if instance_id else attachment.instance
        if instance is not attachment.instance:
            raise InvalidVolumeAttachmentError(volume_id, instance.id)
        if device_path and device_path != attachment.device:
            raise InvalidVolumeDetachmentError(volume_id, instance.id, device_path)
        if attachment.device == instance.root_device_name and instance.state != "stopped":
            raise EC2ClientError(
                "OperationNotPermitted", f"Unable to detach root volume '{volume_id}' from instance '{instance.id}'"
            )
        if not attachment.detach_state and not instance.gone:
            attachment.detach_state = "detaching"
            lab = current()
            lab.scheduler.at(time.monotonic() + lab.settings.detach, lambda: instance.unplug(attachment))
        return attachment

    # -- snapshots

    def create_snapshot(self, volume_id: str, description: str, *args: Any, **kwargs: Any) -> Any:
        snapshot = super().create_snapshot(volume_id, description, *args, **kwargs)
        if not self._loading:
            volumes.copy(snapshot.volume.file, current().snapshot_file(snapshot.id))
        return snapshot

    def delete_snapshot(self, snapshot_id: str) -> Any:
        self.get_snapshot(snapshot_id)
        snapshot = super().delete_snapshot(snapshot_id)
        current().snapshot_file(snapshot_id).unlink(missing_ok=True)
        return snapshot


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def _offerings(region: str) -> list[dict[str, str]]:
    table: dict[str, list[dict[str, str]]] = INSTANCE_TYPE_OFFERINGS["availability-zone"]
    return table.get(region, [])
