"""The network of virtual machines: a bridge with a port for each, DHCP and DNS, all in the lab's network namespace.

As in a VPC (https://docs.aws.amazon.com/vpc/latest/userguide/vpc-dns.html and the pages around it) machines do not see
each other's frames: their packets go by the router, which is this namespace, and there the security groups hold.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path

from lab.common.environment import system_path
from lab.common.firewall import BRIDGED

BRIDGE = "ec2lab"
ROUTER = BRIDGED.caller
RESOLVER = "172.31.0.2"
"""The VPC's network plus two, where Amazon's resolver is."""
METADATA = "169.254.169.254"
_MASK = 16


def bridge_commands() -> list[str]:
    """Input of `ip -batch` that makes the bridge."""
    return [
        # address: otherwise it changes as ports come and go, and the kernel forgets all neighbours each time
        # forward_delay: otherwise a new port is silent for 15 s
        f"link add {BRIDGE} address 02:ec:02:00:00:01 type bridge forward_delay 0 mcast_snooping 0",
        f"address add {ROUTER}/{_MASK} dev {BRIDGE}",
        f"address add {RESOLVER}/32 dev {BRIDGE}",
        f"address add {METADATA}/32 dev {BRIDGE}",
        f"link set {BRIDGE} up",
    ]


def sysctls() -> dict[str, str]:
    """Settings below /proc/sys/net/ipv4: be a router that machines find under each address of their network."""
    return {
        "ip_forward": "1",
        f"conf/{BRIDGE}/proxy_arp_pvlan": "1",
        "conf/all/send_redirects": "0",
        f"conf/{BRIDGE}/send_redirects": "0",
    }


def tap_name(instance_id: str) -> str:
    """The name of an instance's port; an interface's name has at most 15 characters."""
    return f"tap{instance_id.removeprefix('i-')[-12:]}"


def plug_commands(tap: str, mac: str, address: str) -> list[str]:
    """Input of `ip -batch` that makes a port for a machine.

    The neighbour is permanent so that packets to a machine that does not run yet vanish, as on EC2, where otherwise the
    callers would soon be told that there is no such host.
    """
    return [
        f"tuntap add dev {tap} mode tap",
        f"link set {tap} master {BRIDGE}",
        f"link set {tap} type bridge_slave isolated on",
        f"link set {tap} up",
        f"neighbour replace {address} lladdr {mac} dev {BRIDGE} nud permanent",
    ]


def unplug_commands(tap: str, address: str) -> list[str]:
    return [f"link delete {tap}", f"neighbour delete {address} dev {BRIDGE}"]


def dnsmasq_command(program: str, directory: Path, domain: str) -> list[str]:
    """DHCP for those in `directory`/dhcp-hosts and nobody else, and DNS of their names and nothing else."""
    return [
        program,
        # It stays whom it is: in a user namespace there may be nobody else to become.
        *("--conf-file=/dev/null", "--user=", "--group=", f"--pid-file={directory / 'dnsmasq.pid'}"),
        *(f"--interface={BRIDGE}", "--except-interface=lo", "--bind-interfaces"),
        *("--no-hosts", "--no-resolv", f"--domain={domain}", f"--local=/{domain}/", "--dhcp-fqdn"),
        # Broadcast: to send to one machine, it would overwrite the neighbour that `plug_commands` makes.
        *("--dhcp-broadcast", "--dhcp-authoritative", "--no-ping"),
        "--dhcp-range=172.31.0.0,static,255.255.0.0,1h",
        *(f"--dhcp-option=option:router,{ROUTER}", f"--dhcp-option=option:dns-server,{RESOLVER}"),
        f"--dhcp-hostsfile={directory / 'dhcp-hosts'}",
        f"--dhcp-leasefile={directory / 'dhcp-leases'}",
        f"--log-facility={directory / 'dnsmasq.log'}",
    ]


def received(table: str, interface: str) -> int:
    """Bytes sent to an interface, in the form of /proc/net/dev; 0 if it is not there."""
    for line in table.splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == interface:
            return int(counters.split()[8])
    return 0


def connected(table: str, address: str, port: int) -> bool:
    """Whether a connection stands to an address and port, in the form of /proc/net/tcp."""
    numbers = "".join(f"{int(byte):02X}" for byte in reversed(address.split(".")))
    wanted, established = f"{numbers}:{port:04X}", "01"
    fields = (line.split() for line in table.splitlines()[1:])
    return any(field[2] == wanted and field[3] == established for field in fields)


class Network:
    """The network in force. `directory` is the lab's own. Ports may be made and removed from any thread."""

    def __init__(self, directory: Path, domain: str) -> None:
        path = system_path(os.environ.get("PATH", ""))
        self._environment = {"PATH": path}
        self._ip = shutil.which("ip", path=path) or "ip"
        self._dnsmasq = shutil.which("dnsmasq", path=path) or "dnsmasq"
        self._directory = directory
        self._domain = domain
        self._lock = threading.Lock()
        self._hosts: dict[str, str] = {}

    def start(self) -> None:
        """Make the bridge and start dnsmasq. Raises CalledProcessError or OSError."""
        self._run(bridge_commands())
        for name, value in sysctls().items():
            Path("/proc/sys/net/ipv4", name).write_text(value)
        (self._directory / "dhcp-hosts").touch()
        # it returns when it serves
        subprocess.run(dnsmasq_command(self._dnsmasq, self._directory, self._domain), check=True)

    def plug(self, tap: str, mac: str, address: str, hostname: str) -> None:
        """Make a machine's port, and have DHCP give it its address."""
        with self._lock:
            self._run(plug_commands(tap, mac, address))
            self._hosts[mac] = f"{mac},{address},{hostname}\n"
            new = self._directory / "dhcp-hosts.new"
            new.write_text("".join(self._hosts.values()))
            new.rename(self._directory / "dhcp-hosts")
            os.kill(int((self._directory / "dnsmasq.pid").read_text()), signal.SIGHUP)

    def unplug(self, tap: str, address: str) -> None:
        with self._lock:
            self._run(unplug_commands(tap, address), check=False)

    def received(self, tap: str) -> int:
        """Bytes that a machine was sent since its port was made."""
        return received(Path("/proc/net/dev").read_text(), tap)

    def connected(self, address: str, port: int) -> bool:
        """Whether a connection stands from the lab's processes."""
        return connected(Path("/proc/net/tcp").read_text(), address, port)

    def disconnect(self, address: str, port: int) -> None:
        """Reset the connections of the lab's processes, where the kernel can (INET_DIAG_DESTROY)."""
        command = ["ss", "--kill", "--no-header", "--tcp", "dst", address, "dport", "=", str(port)]
        subprocess.run(command, env=self._environment, capture_output=True, check=False)

    def _run(self, commands: Iterable[str], *, check: bool = True) -> None:
        text = "".join(f"{line}\n" for line in commands)
        subprocess.run([self._ip, *(() if check else ("-force",)), "-batch", "-"], input=text, text=True, check=check)
