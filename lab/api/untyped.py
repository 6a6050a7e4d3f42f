# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""moto's classes, typed as ``Any``: ec2.install replaces them by subclasses that moto's annotations do not allow."""

from __future__ import annotations

from typing import Any

from moto.ec2.models import EC2Backend as _EC2Backend
from moto.ec2.models import amis as _amis
from moto.ec2.models import ec2_backends as _ec2_backends
from moto.ec2.models import elastic_block_store as _elastic_block_store
from moto.ec2.models import instances as _instances
from moto.ec2.responses import EC2Response as _EC2Response
from moto.moto_server.werkzeug_app import MotoRequestHandler as _MotoRequestHandler
from moto.ssm import models as _ssm

amis: Any = _amis
ec2_backends: Any = _ec2_backends
elastic_block_store: Any = _elastic_block_store
instances: Any = _instances
ssm: Any = _ssm

Ami: Any = _amis.Ami
EC2Backend: Any = _EC2Backend
EC2Response: Any = _EC2Response
Instance: Any = _instances.Instance
MotoRequestHandler: Any = _MotoRequestHandler
Volume: Any = _elastic_block_store.Volume
VolumeAttachment: Any = _elastic_block_store.VolumeAttachment
