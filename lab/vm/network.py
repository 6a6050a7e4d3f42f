# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The network of virtual machines: a bridge with a port for each, DHCP and DNS, all in the lab's network namespace.

As in a VPC (https://docs.aws.amazon.com/vpc/latest/userguide/vpc-dns.html) machines do not see each other's Ethernet
frames: their packets pass the router, which is this namespace, where the packet filter applies the security groups.
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
"""The address of Amazon's resolver: the VPC's network address plus two."""
METADATA = "169.254.169.254"
_MASK = 16


def bridge_commands() -> list[str]:
    """Return input for ``ip -batch`` that makes the bridge."""
    return [
        # address: otherwise it changes with the ports, and each time the kernel drops all neighbour entries
        # forward_delay: otherwise a new port forwards nothing for 15 s
        f"link add {BRIDGE} address 02:ec:02:00:00:01 type bridge forward_delay 0 mcast_snooping 0",
        f"address add {ROUTER}/{_MASK} dev {BRIDGE}",
        f"address add {RESOLVER}/32 dev {BRIDGE}",
        f"address add {METADATA}/32 dev {BRIDGE}",
        f"link set {BRIDGE} up",
    ]


def sysctls() -> dict[str, str]:
    """Return settings below /proc/sys/net/ipv4: route, and answer ARP for all addresses of the machines' network."""
    return {
        "ip_forward": "1",
        f"conf/{BRIDGE}/proxy_arp_pvlan": "1",
        "conf/all/send_redirects": "0",
        f"conf/{BRIDGE}/send_redirects": "0",
    }


def tap_name(instance_id: str) -> str:
    """Return the name of an instance's port, of at most 15 characters as the kernel demands."""
    return f"tap{instance_id.removeprefix('i-')[-12:]}"


def plug_commands(tap: str, mac: str, address: str) -> list[str]:
    """Return input for ``ip -batch`` that makes a port for a machine.

    The neighbour entry is permanent so that packets to a machine that does not run yet get no answer, as on EC2.
    Otherwise the sender would soon get "no route to host".
    """
    return [
        f"tuntap add dev {tap} mode tap",
        f"link set {tap} master {BRIDGE}",
        f"link set {tap} type bridge_slave isolated on",
        f"link set {tap} up",
        f"neighbour replace {address} lladdr {mac} dev {BRIDGE} nud permanent",
    ]


def unplug_commands(tap: str, address: str) -> list[str]:
    """Return input for ``ip -batch`` that removes a machine's port."""
    return [f"link delete {tap}", f"neighbour delete {address} dev {BRIDGE}"]


def dnsmasq_command(program: str, directory: Path, domain: str) -> list[str]:
    """Return the command line of dnsmasq.

    It answers DHCP for the machines in ``directory``/dhcp-hosts only, and DNS for their names only.
    """
    return [
        program,
        # Do not change the user: a user namespace may have no other one.
        *("--conf-file=/dev/null", "--user=", "--group=", f"--pid-file={directory / 'dnsmasq.pid'}"),
        *(f"--interface={BRIDGE}", "--except-interface=lo", "--bind-interfaces"),
        *("--no-hosts", "--no-resolv", f"--domain={domain}", f"--local=/{domain}/", "--dhcp-fqdn"),
        # Broadcast replies: to send to one machine, it would overwrite the neighbour entry that `plug_commands` makes.
        *("--dhcp-broadcast", "--dhcp-authoritative", "--no-ping"),
        "--dhcp-range=172.31.0.0,static,255.255.0.0,1h",
        *(f"--dhcp-option=option:router,{ROUTER}", f"--dhcp-option=option:dns-server,{RESOLVER}"),
        f"--dhcp-hostsfile={directory / 'dhcp-hosts'}",
        f"--dhcp-leasefile={directory / 'dhcp-leases'}",
        f"--log-facility={directory / 'dnsmasq.log'}",
    ]


def received(table: str, interface: str) -> int:
    """Return the bytes sent to an interface, from the text of /proc/net/dev; 0 if there is no such interface."""
    for line in table.splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == interface:
            return int(counters.split()[8])
    return 0


def connected(table: str, address: str, port: int) -> bool:
    """Return whether a connection to an address and port is established, from the text of /proc/net/tcp."""
    numbers = "".join(f"{int(byte):02X}" for byte in reversed(address.split(".")))
    wanted, established = f"{numbers}:{port:04X}", "01"
    fields = (line.split() for line in table.splitlines()[1:])
    return any(field[2] == wanted and field[3] == established for field in fields)


class Network:
    """The network of virtual machines. Methods may be called from any thread.

    :param directory: for the files of dnsmasq.
    """

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
        """Make the bridge and start dnsmasq.

        :raises CalledProcessError: a command failed.
        :raises OSError: a program cannot be run, or a file cannot be written.
        """
        self._run(bridge_commands())
        for name, value in sysctls().items():
            Path("/proc/sys/net/ipv4", name).write_text(value)
        (self._directory / "dhcp-hosts").touch()
        # dnsmasq goes into the background as soon as it serves
        subprocess.run(dnsmasq_command(self._dnsmasq, self._directory, self._domain), check=True)

    def plug(self, tap: str, mac: str, address: str, hostname: str) -> None:
        """Make a machine's port, and add the machine to DHCP.

        :raises CalledProcessError: a command failed.
        :raises OSError: a program cannot be run, or a file cannot be written.
        """
        with self._lock:
            self._run(plug_commands(tap, mac, address))
            self._hosts[mac] = f"{mac},{address},{hostname}\n"
            new = self._directory / "dhcp-hosts.new"
            new.write_text("".join(self._hosts.values()))
            new.rename(self._directory / "dhcp-hosts")
            os.kill(int((self._directory / "dnsmasq.pid").read_text()), signal.SIGHUP)

    def unplug(self, tap: str, address: str) -> None:
        """Remove a machine's port."""
        with self._lock:
            self._run(unplug_commands(tap, address), check=False)

    def received(self, tap: str) -> int:
        """Return the bytes sent to a machine since its port was made."""
        return received(Path("/proc/net/dev").read_text(), tap)

    def connected(self, address: str, port: int) -> bool:
        """Return whether a process of the lab has a connection to an address and port."""
        return connected(Path("/proc/net/tcp").read_text(), address, port)

    def disconnect(self, address: str, port: int) -> None:
        """Reset the connections of the lab's processes to an address and port, if the kernel has INET_DIAG_DESTROY."""
        command = ["ss", "--kill", "--no-header", "--tcp", "dst", address, "dport", "=", str(port)]
        subprocess.run(command, env=self._environment, capture_output=True, check=False)

    def _run(self, commands: Iterable[str], *, check: bool = True) -> None:
        text = "".join(f"{line}\n" for line in commands)
        subprocess.run([self._ip, *(() if check else ("-force",)), "-batch", "-"], input=text, text=True, check=check)
