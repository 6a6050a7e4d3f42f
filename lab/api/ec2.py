# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make moto use the lab's classes and replies. moto makes its objects itself, so its classes are replaced."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from moto.ec2.models import ec2_backends

from . import images, replies, untyped
from .computing import LabInstance
from .region import LabBackend
from .storage import LabAmi, LabAttachment, LabVolume


def install() -> None:
    """Replace moto's classes and methods, in this process and for good."""
    untyped.instances.Instance = LabInstance
    untyped.amis.Ami = LabAmi
    untyped.elastic_block_store.Volume = LabVolume
    untyped.elastic_block_store.VolumeAttachment = LabAttachment
    # moto finds a service's URLs by the name of its backend's module
    LabBackend.__module__ = untyped.EC2Backend.__module__
    ec2_backends.backend = LabBackend
    responses = untyped.EC2Response
    responses._parse_block_device_mapping = replies.block_device_mapping
    responses.get_console_output = replies.get_console_output
    responses.describe_volume_status = replies.describe_volume_status
    responses.create_volume = replies.create_volume_once(responses.create_volume)
    responses.run_instances = replies.run_instances_checked(responses.run_instances)
    responses.stop_instances = replies.stop_instances_by_force(responses.stop_instances)
    responses.modify_instance_attribute = replies.modify_shutdown_behaviour(responses.modify_instance_attribute)
    parameters = untyped.ssm.ParameterDict
    parameters._load_latest_amis = _load_latest_amis


def _load_latest_amis(store: Any) -> None:
    for name, value in images.parameters(store.region_name).items():
        parameter = untyped.ssm.Parameter(
            account_id=store.account_id,
            name=name,
            value=value,
            parameter_type="String",
            description=None,
            allowed_pattern=None,
            keyid=None,
            last_modified_date=datetime.now(UTC),
            version=1,
            data_type="text",
        )
        dict.setdefault(store, name, []).append(parameter)
