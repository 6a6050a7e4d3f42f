"""The addresses of instances, and security groups as packet filter: nftables in the lab's network namespace.

As in https://docs.aws.amazon.com/vpc/latest/userguide/vpc-security-groups.html: nothing comes in that no rule allows,
what is not allowed is dropped without an answer, and connections that stand are tracked and stay.
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
    """Where instances are: at `prefix`.1.1 and up. Callers come from `caller`; packets to instances pass `hooks`."""

    prefix: str
    caller: str
    hooks: tuple[str, ...]
    always: tuple[str, ...] = ()
    """Rules for what the network itself sends, which no security group holds up."""

    def address(self, number: int) -> str:
        """The address of the lab's n-th instance, from 0."""
        return f"{self.prefix}.{1 + number // 254}.{1 + number % 254}"

    @property
    def instances(self) -> str:
        """The addresses that instances may have, as nftables has it."""
        return f"{self.prefix}.1.0-{self.prefix}.255.255"


LOOPBACK = Network("127.0", "127.0.0.1", ("input",))
# The numbers of a default VPC. What the lab's processes send is output, what one machine sends another is forwarded.
BRIDGED = Network("172.31", "172.31.0.1", ("output", "forward"), ("udp sport 67 udp dport 68 accept",))


def network(virtual: bool) -> Network:
    """The network of a lab's instances, by whether they are virtual machines."""
    return BRIDGED if virtual else LOOPBACK


@dataclass(frozen=True)
class Rule:
    """One source may reach one instance. `protocol` is tcp, udp, icmp or -1 (all); only the first two have ports."""

    address: str
    source: str
    protocol: str
    first_port: int
    last_port: int


def ruleset(rules: Iterable[Rule], network: Network = LOOPBACK, cut: Collection[str] = ()) -> str:
    """Input of `nft -f` that replaces the table as a whole. At the instances in `cut`, no SSH stands or is taken."""
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
    """The filter in force. Not thread safe: the lab's lock guards it."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._program = shutil.which("nft", path=system_path("")) or "nft"
        self._rules: list[Rule] = []
        self._cut: set[str] = set()
        self._text = ""

    def apply(self, rules: Iterable[Rule]) -> None:
        """Replace the filter if it differs. Raises CalledProcessError."""
        self._rules = sorted(set(rules), key=repr)
        self._load()

    def cut(self, address: str) -> None:
        """Reset the SSH connections to an instance, and each new one, until `mend`."""
        self._cut.add(address)
        self._load()

    def mend(self, address: str) -> None:
        if address in self._cut:
            self._cut.remove(address)
            self._load()

    def _load(self) -> None:
        text = ruleset(self._rules, self.network, self._cut)
        if text != self._text:
            subprocess.run([self._program, "-f", "-"], input=text, text=True, check=True)
            self._text = text
