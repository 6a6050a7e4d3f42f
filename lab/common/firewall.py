# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The addresses of instances, and security groups as a packet filter: nftables in the lab's network namespace.

As in https://docs.aws.amazon.com/vpc/latest/userguide/vpc-security-groups.html: packets that no rule allows are dropped
without an answer, and packets of established connections are accepted.
"""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from .environment import system_path


@dataclass(frozen=True)
class Network:
    """The network of instances.

    :ivar prefix: the instances' addresses are this with .1.1 and up.
    :ivar caller: the address from which CMD connects.
    :ivar hooks: the netfilter hooks that packets to instances pass.
    """

    prefix: str
    caller: str
    hooks: tuple[str, ...]
    always: tuple[str, ...] = ()
    """nftables rules that come before those of the security groups, such as for DHCP."""

    def address(self, number: int) -> str:
        """Return the address of the lab's instance ``number``, counted from 0."""
        return f"{self.prefix}.{1 + number // 254}.{1 + number % 254}"

    @property
    def instances(self) -> str:
        """The range of the addresses of instances, in the syntax of nftables."""
        return f"{self.prefix}.1.0-{self.prefix}.255.255"


LOOPBACK = Network("127.0", "127.0.0.1", ("input",))
# The addresses of a default VPC. Packets from CMD pass the hook `output`, packets between machines pass `forward`.
BRIDGED = Network("172.31", "172.31.0.1", ("output", "forward"), ("udp sport 67 udp dport 68 accept",))


def network(virtual: bool) -> Network:
    """Return the network for virtual machines, or for process trees."""
    return BRIDGED if virtual else LOOPBACK


@dataclass(frozen=True)
class Rule:
    """Allows packets to one instance's ``address``. The ports count for tcp and udp only.

    :ivar source: an IPv4 network or address.
    :ivar protocol: tcp, udp, icmp or -1 (all protocols).
    """

    address: str
    source: str
    protocol: str
    first_port: int
    last_port: int


def ruleset(rules: Iterable[Rule], network: Network = LOOPBACK, cut: Collection[str] = ()) -> str:
    """Return input for ``nft -f`` that replaces the whole table.

    :param cut: SSH connections to these instances are reset.
    """
    lines = [
        *network.always,
        *(f"ip daddr {address} tcp dport 22 tcp flags ! rst reject with tcp reset" for address in sorted(cut)),
        "ct state established,related accept",
        *(line for rule in rules if (line := _line(rule))),
        f"ip daddr {network.instances} drop",
    ]
    body = "".join(f"    {line}\n" for line in lines)
    chains = "".join(
        f"  chain {hook} {{\n    type filter hook {hook} priority 0; policy accept;\n{body}  }}\n"
        for hook in network.hooks
    )
    return f"add table inet ec2_lab\ndelete table inet ec2_lab\ntable inet ec2_lab {{\n{chains}}}\n"


def _line(rule: Rule) -> str:
    try:
        source = ipaddress.IPv4Network(rule.source, strict=False)
    except ValueError:
        return ""
    match = f"ip daddr {rule.address} ip saddr {source}"
    if rule.protocol in ("tcp", "udp"):
        match += f" {rule.protocol} dport {rule.first_port}-{rule.last_port}"
    elif rule.protocol != "-1":
        match += f" meta l4proto {rule.protocol}"
    return f"{match} accept"


class Firewall:
    """The packet filter. Not thread safe: the lab's lock guards it."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._program = shutil.which("nft", path=system_path("")) or "nft"
        self._rules: list[Rule] = []
        self._cut: set[str] = set()
        self._text = ""

    def apply(self, rules: Iterable[Rule]) -> None:
        """Put rules in force, if they differ from the present ones.

        :raises CalledProcessError: nft failed.
        """
        self._rules = sorted(set(rules), key=repr)
        self._load()

    def cut(self, address: str) -> None:
        """Reset all SSH connections to an instance, old and new, until ``mend``."""
        self._cut.add(address)
        self._load()

    def mend(self, address: str) -> None:
        """Undo ``cut``."""
        if address in self._cut:
            self._cut.remove(address)
            self._load()

    def _load(self) -> None:
        text = ruleset(self._rules, self.network, self._cut)
        if text != self._text:
            subprocess.run([self._program, "-f", "-"], input=text, text=True, check=True)
            self._text = text
