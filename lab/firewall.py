"""Security groups as packet filter: nftables in the lab's network namespace.

As in https://docs.aws.amazon.com/vpc/latest/userguide/vpc-security-groups.html: nothing comes in that no rule allows,
what is not allowed is dropped without an answer, and connections that stand are tracked and stay.
"""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from .environment import system_path

INSTANCES = "127.0.1.0-127.0.255.255"


@dataclass(frozen=True)
class Rule:
    """One source may reach one instance. `protocol` is tcp, udp, icmp or -1 (all); only the first two have ports."""

    address: str
    source: str
    protocol: str
    first_port: int
    last_port: int


def address(number: int) -> str:
    """The loopback address of the lab's n-th instance, from 0."""
    return f"127.0.{1 + number // 254}.{1 + number % 254}"


def ruleset(rules: Iterable[Rule]) -> str:
    """Input of `nft -f` that replaces the table as a whole."""
    lines = [line for rule in rules if (line := _line(rule))]
    body = "\n".join(
        f"    {line}" for line in ["ct state established,related accept", *lines, f"ip daddr {INSTANCES} drop"]
    )
    return (
        "add table inet ec2_lab\ndelete table inet ec2_lab\ntable inet ec2_lab {\n  chain input {\n"
        f"    type filter hook input priority 0; policy accept;\n{body}\n  }}\n}}\n"
    )


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

    def __init__(self) -> None:
        self._program = shutil.which("nft", path=system_path("")) or "nft"
        self._text = ""

    def apply(self, rules: Iterable[Rule]) -> None:
        """Replace the filter if it differs. Raises CalledProcessError."""
        text = ruleset(sorted(set(rules), key=repr))
        if text != self._text:
            subprocess.run([self._program, "-f", "-"], input=text, text=True, check=True)
            self._text = text
