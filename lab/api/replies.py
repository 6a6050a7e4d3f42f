# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Replies that moto lacks or gets wrong. Each function replaces a method of moto's response class, or wraps it."""

from __future__ import annotations

import base64
import copy
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.core.types import Base64EncodedString
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError


def block_device_mapping(response: Any) -> list[dict[str, Any]]:
    """Return the block device mappings of a request, as they were sent; region.py checks them."""
    mappings: list[dict[str, Any]] = response._get_param("BlockDeviceMappings", [])
    return copy.deepcopy(mappings)


def get_console_output(response: Any) -> ActionResult:
    """Answer GetConsoleOutput with what the instance wrote to its console."""
    instance = response.ec2_backend.get_instance(response._get_param("InstanceId"))
    output = base64.b64encode(instance.console())
    result: dict[str, Any] = {"InstanceId": instance.id, "Timestamp": utcnow()}
    if output:
        result["Output"] = Base64EncodedString.from_encoded_bytes(output)
    return ActionResult(result)


def describe_volume_status(response: Any) -> ActionResult:
    """Answer DescribeVolumeStatus, which moto lacks: each volume is ok."""
    found = response.ec2_backend.describe_volumes(
        volume_ids=response._get_param("VolumeIds", []), filters=response._filters_from_querystring()
    )
    status = {"Status": "ok", "Details": [{"Name": "io-enabled", "Status": "passed"}]}
    statuses = [
        {
            "VolumeId": volume.id,
            "AvailabilityZone": volume.zone.name,
            "VolumeStatus": status,
            "Actions": [],
            "Events": [],
        }
        for volume in found
    ]
    return ActionResult({"VolumeStatuses": statuses})


def create_volume_once(original: Any) -> Any:
    """Wrap moto's CreateVolume."""

    def create_volume(response: Any) -> ActionResult:
        """Make one volume for a ClientToken, however often CreateVolume is called."""
        token = response._get_param("ClientToken")
        if not token or response._get_param("DryRun", False):
            return original(response)  # type: ignore[no-any-return]  # of Any: moto's own method
        known = response.ec2_backend.creations
        names = ("Size", "AvailabilityZone", "SnapshotId", "VolumeType", "Iops", "Throughput", "Encrypted", "KmsKeyId")
        asked = repr([response._get_param(name) for name in names])
        if token in known:
            before, result = known[token]
            if before != asked:
                raise EC2ClientError(
                    "IdempotentParameterMismatch",
                    "The request uses the same client token as a previous, but non-identical request.",
                )
            return result  # type: ignore[no-any-return]  # of Any: moto's own method
        result = original(response)
        known[token] = (asked, result)
        return result  # type: ignore[no-any-return]  # of Any: moto's own method

    return create_volume


def run_instances_checked(original: Any) -> Any:
    """Wrap moto's RunInstances."""

    def run_instances(response: Any) -> Any:
        """Check all parameters of RunInstances before a dry run is answered, as EC2 does.

        For instance, EC2 has answered a dry run with Unsupported because of the zone:
        https://github.com/awslabs/engineering-development-hub/issues/77
        """
        backend = response.ec2_backend
        backend.dry_run = bool(response._get_param("DryRun", False))
        response.error_on_dryrun = lambda: None  # LabBackend.run_instances raises it
        try:
            return original(response)
        finally:
            backend.dry_run = False

    return run_instances


def stop_instances_by_force(original: Any) -> Any:
    """Wrap moto's StopInstances."""

    def stop_instances(response: Any) -> Any:
        """Answer StopInstances, with the parameter Force, which moto ignores."""
        backend = response.ec2_backend
        backend.force = bool(response._get_param("Force", False))
        try:
            return original(response)
        finally:
            backend.force = False

    return stop_instances


def modify_shutdown_behaviour(original: Any) -> Any:
    """Wrap moto's ModifyInstanceAttribute."""

    def modify_instance_attribute(response: Any) -> Any:
        """Answer ModifyInstanceAttribute, with InstanceInitiatedShutdownBehavior, which moto ignores."""
        value = response._get_param("InstanceInitiatedShutdownBehavior.Value")
        if value is None:
            return original(response)
        response.error_on_dryrun()
        instance = response.ec2_backend.get_instance(response._get_param("InstanceId"))
        instance.instance_initiated_shutdown_behavior = value
        return EmptyResult()

    return modify_instance_attribute
