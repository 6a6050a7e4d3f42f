# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The instance metadata service, versions 1 and 2: the parts that cloud-init, the AWS SDKs and scripts use.

Paths: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html
Tokens: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lab.api import computing
from lab.api.runtime import current

from .network import METADATA

VERSIONS = (
    *("1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01"),
    *("2009-04-04", "2011-01-01", "2011-05-01", "2012-01-12", "2014-02-25", "2014-11-05", "2015-10-20", "2016-04-19"),
    *("2016-06-30", "2016-09-02", "2018-03-28", "2018-08-17", "2018-09-24", "2019-10-01", "2020-10-27", "2021-01-03"),
    *("2021-03-23", "2021-07-15", "2022-09-24", "latest"),
)
LONGEST = 21600
"""The longest time that a token may be valid, in seconds: six hours."""
_TTL = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN = "X-aws-ec2-metadata-token"


Header = Callable[[str], str | None]
"""Returns a header of a request by its name, whose case does not matter."""


@dataclass(frozen=True)
class Facts:
    """An instance as the service shows it.

    :ivar disks: device names at the last start, without the root volume's.
    """

    id: str
    type: str
    image: str
    architecture: str
    account: str
    region: str
    zone: str
    address: str
    public_address: str
    mac: str
    interface: str
    subnet: str
    vpc: str
    reservation: str
    launched: str
    groups: Mapping[str, str] = field(default_factory=dict)
    root: str = "/dev/xvda"
    disks: tuple[str, ...] = ()
    key_name: str = ""
    key: str = ""
    user_data: bytes | None = None
    tags: Mapping[str, str] | None = None
    enabled: bool = True
    tokens_required: bool = False
    public_name: str = ""


def domain(region: str) -> str:
    """Return the domain of private DNS names.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-naming.html
    """
    return "ec2.internal" if region == "us-east-1" else f"{region}.compute.internal"


def tree(facts: Facts) -> dict[str, bytes]:
    """Return all values below a version, by their paths."""
    name = f"ip-{facts.address.replace('.', '-')}.{domain(facts.region)}"
    interface = f"network/interfaces/macs/{facts.mac}"
    data = {
        "ami-id": facts.image,
        "ami-launch-index": "0",
        "ami-manifest-path": "(unknown)",
        "block-device-mapping/ami": facts.root,
        "block-device-mapping/root": facts.root,
        **{f"block-device-mapping/ebs{number}": disk for number, disk in enumerate(facts.disks, 1)},
        "hibernation/configured": "false",
        "hostname": name,
        "instance-action": "none",
        "instance-id": facts.id,
        "instance-life-cycle": "on-demand",
        "instance-type": facts.type,
        "local-hostname": name,
        "local-ipv4": facts.address,
        "mac": facts.mac,
        f"{interface}/device-number": "0",
        f"{interface}/interface-id": facts.interface,
        f"{interface}/local-hostname": name,
        f"{interface}/local-ipv4s": facts.address,
        f"{interface}/mac": facts.mac,
        f"{interface}/owner-id": facts.account,
        f"{interface}/security-group-ids": "\n".join(facts.groups),
        f"{interface}/security-groups": "\n".join(facts.groups.values()),
        f"{interface}/subnet-id": facts.subnet,
        f"{interface}/subnet-ipv4-cidr-block": "172.31.0.0/16",
        f"{interface}/vpc-id": facts.vpc,
        f"{interface}/vpc-ipv4-cidr-block": "172.31.0.0/16",
        f"{interface}/vpc-ipv4-cidr-blocks": "172.31.0.0/16",
        "placement/availability-zone": facts.zone,
        "placement/region": facts.region,
        "profile": "default-hvm",
        "reservation-id": facts.reservation,
        "security-groups": "\n".join(facts.groups.values()),
        "services/domain": "amazonaws.com",
        "services/partition": "aws",
        "system": "nitro",
    }
    if facts.public_address:
        public = {"public-ipv4": facts.public_address, "public-hostname": facts.public_name}
        data |= public | {f"{interface}/{key}s": value for key, value in public.items()}
        data[f"{interface}/ipv4-associations/{facts.public_address}"] = facts.address
    if facts.key:
        data["public-keys/0/openssh-key"] = facts.key
    if facts.tags is not None:
        data |= {f"tags/instance/{key}": value for key, value in facts.tags.items()}
    result = {f"meta-data/{path}": value.encode() for path, value in data.items()}
    result["dynamic/instance-identity/document"] = _identity(facts).encode()
    if facts.user_data:
        result["user-data"] = facts.user_data
    return result


def _identity(facts: Facts) -> str:
    """Return the instance identity document.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-identity-documents.html
    """
    nothing = ("billingProducts", "devpayProductCodes", "kernelId", "marketplaceProductCodes", "ramdiskId")
    document = {
        "accountId": facts.account,
        "architecture": facts.architecture,
        "availabilityZone": facts.zone,
        "imageId": facts.image,
        "instanceId": facts.id,
        "instanceType": facts.type,
        "pendingTime": facts.launched,
        "privateIp": facts.address,
        "region": facts.region,
        "version": "2017-09-30",
        **dict.fromkeys(nothing),
    }
    return json.dumps(document, indent=2, sort_keys=True)


def find(leaves: Mapping[str, bytes], path: str, key_name: str = "") -> bytes | None:
    """Return the value at a path, or the list of a directory; None if there is neither.

    A slash at the end does not matter.
    """
    wanted = path.strip("/")
    if wanted in leaves:
        return leaves[wanted]
    prefix = f"{wanted}/" if wanted else ""
    below = sorted(leaf[len(prefix) :] for leaf in leaves if leaf.startswith(prefix))
    if not below:
        return None
    if wanted == "meta-data/public-keys":  # its list has another format
        return f"0={key_name}".encode()
    names = dict.fromkeys(leaf.partition("/")[0] + ("/" if "/" in leaf else "") for leaf in below)
    return "\n".join(name.rstrip("/") if not wanted else name for name in names).encode()


class Tokens:
    """The tokens that were issued. Each is valid for the instance that asked for it, until it expires."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, float]] = {}

    def issue(self, instance_id: str, seconds: int) -> str:
        """Return a new token, valid for a number of seconds."""
        token = secrets.token_urlsafe(40)
        now = self._clock()
        with self._lock:
            self._known = {key: value for key, value in self._known.items() if value[1] > now}
            self._known[token] = (instance_id, now + seconds)
        return token

    def left(self, instance_id: str, token: str) -> int:
        """Return for how many more seconds a token is valid; 0 if it is not."""
        with self._lock:
            owner, until = self._known.get(token, ("", 0.0))
        return max(0, round(until - self._clock())) if owner == instance_id else 0


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes = b""
    kind: str = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict)


def answer(method: str, path: str, header: Header, facts: Facts | None, tokens: Tokens) -> Reply:
    """Return the reply to a request.

    :param facts: those of the instance that sent it; None if it was another process.
    """
    if facts is None:
        return Reply(404)
    if not facts.enabled:
        return Reply(403)
    path = re.sub("/+", "/", path.partition("?")[0])
    if method == "PUT":
        return _put(path, header, facts, tokens)
    if method not in ("GET", "HEAD"):
        return Reply(405)
    token = header(_TOKEN)
    left = tokens.left(facts.id, token) if token is not None else 0
    if not left and (token is not None or facts.tokens_required):
        return Reply(401)
    version, _, rest = path.strip("/").partition("/")
    found = "\n".join(VERSIONS).encode() if not version else None
    if version in VERSIONS:
        found = find(tree(facts), rest, facts.key_name)
    if found is None:
        return Reply(404)
    kind = "application/octet-stream" if rest == "user-data" else "text/plain"
    return Reply(200, found, kind, {_TTL: str(left)} if left else {})


def _put(path: str, header: Header, facts: Facts, tokens: Tokens) -> Reply:
    if path.strip("/") != "latest/api/token":
        return Reply(405)
    if header("X-Forwarded-For") is not None:  # the request came through a proxy, which AWS refuses
        return Reply(403)
    seconds = header(_TTL) or ""
    if not (seconds.isascii() and seconds.isdigit() and 1 <= int(seconds) <= LONGEST):
        return Reply(400)
    return Reply(200, tokens.issue(facts.id, int(seconds)).encode(), headers={_TTL: seconds})


def of_address(address: str) -> Facts | None:
    """Return the facts of the running instance with an address, or None."""
    with current().lock:
        for instance in computing.all_instances():
            if instance.address == address and instance.state == "running":
                return of_instance(instance)
    return None


def of_instance(instance: Any) -> Facts:
    """Return the facts of an instance (of class LabInstance). Call with the lab's lock held."""
    options, nic = instance.metadata_options, instance.nics[0]
    return Facts(
        id=instance.id,
        type=instance.instance_type,
        image=instance.image_id,
        architecture=instance.architecture,
        account=instance.owner_id,
        region=instance.region_name,
        zone=instance.placement.zone,
        address=instance.address,
        public_address=instance.public_ip or "",
        public_name=instance.public_dns_name or "",
        mac=nic.mac_address,
        interface=nic.id,
        subnet=instance.subnet_id,
        vpc=instance.vpc_id,
        reservation=_reservation(instance),
        launched=instance.launch_time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        groups={group.id: group.name for group in instance.security_groups},
        root=instance.root_device_name,
        disks=tuple(instance.disks_at_start),
        key_name=instance.key_name or "",
        key=instance.public_key,
        user_data=base64.b64decode(str(instance.user_data)) if instance.user_data else None,
        tags=_tags(instance) if options.instance_metadata_tags == "enabled" else None,
        enabled=options.http_endpoint != "disabled",
        tokens_required=options.http_tokens == "required",
    )


def _tags(instance: Any) -> dict[str, str]:
    return {str(tag["key"]): str(tag["value"]) for tag in instance.get_tags()}


def _reservation(instance: Any) -> str:
    for reservation in instance.ec2_backend.reservations.values():
        if instance in reservation.instances:
            return str(reservation.id)
    return ""


def serve(facts_of: Callable[[str], Facts | None]) -> None:
    """Serve at the service's address, in threads of this process.

    :param facts_of: finds an instance by its address.
    """
    tokens = Tokens()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "EC2ws", ""

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            facts = facts_of(self.client_address[0])
            reply = answer(self.command, self.path, self.headers.get, facts, tokens)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", reply.kind)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer((METADATA, 80), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True, name="metadata").start()
