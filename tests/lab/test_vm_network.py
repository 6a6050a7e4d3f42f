"""The network of virtual machines: the input for ip, dnsmasq and nftables."""

from __future__ import annotations

from pathlib import Path

from lab.common import environment
from lab.common.firewall import BRIDGED, LOOPBACK, Rule, ruleset
from lab.vm import network

NET_DEV = """\
Inter-|   Receive                                       |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo:   10       1    0    0    0     0          0         0       10       1    0    0    0     0       0          0
tap456789abcdef0: 900 9 0 0 0 0 0 0 123456 70 0 0 0 0 0 0
"""
NET_TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:B591 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 01001FAC:B0B2 01011FAC:0016 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 01001FAC:B0B4 02011FAC:0016 02 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0
"""


def test_addresses_are_in_a_default_vpc_and_leave_the_first_ones_to_the_router() -> None:
    assert [BRIDGED.address(number) for number in (0, 253, 254)] == ["172.31.1.1", "172.31.1.254", "172.31.2.1"]
    assert LOOPBACK.address(0) == "127.0.1.1"


def test_checkip_is_at_the_address_that_instances_see_as_the_callers() -> None:
    assert f"{BRIDGED.caller} checkip.amazonaws.com\n" in environment.hosts(Path("/nowhere"), BRIDGED.caller)


def test_the_name_of_a_port_is_short_enough_for_the_kernel_and_unique() -> None:
    name = network.tap_name("i-0123456789abcdef0")
    assert len(name) <= 15
    assert name != network.tap_name("i-0123456789abcdef1")


def test_ports_are_isolated_and_neighbour_entries_are_permanent() -> None:
    commands = network.plug_commands("tap1", "02:00:00:00:00:01", "172.31.1.1")
    assert "link set tap1 type bridge_slave isolated on" in commands
    assert "neighbour replace 172.31.1.1 lladdr 02:00:00:00:00:01 dev ec2lab nud permanent" in commands


def test_the_filter_of_virtual_machines_is_for_output_and_forwarded_packets() -> None:
    text = ruleset([Rule("172.31.1.1", "172.31.0.1/32", "tcp", 22, 22)], BRIDGED)
    output, forward = text.split("chain ")[1:]
    for chain in (output, forward):
        accept = "ip daddr 172.31.1.1 ip saddr 172.31.0.1/32 tcp dport 22-22 accept"
        drop = "ip daddr 172.31.1.0-172.31.255.255 drop"
        assert chain.index("udp sport 67 udp dport 68 accept") < chain.index(accept) < chain.index(drop)
    assert "hook output" in output
    assert "hook forward" in forward


def test_the_filter_of_process_trees_is_for_input() -> None:
    text = ruleset([], LOOPBACK)
    assert text.count("chain ") == 1
    assert "hook input" in text
    assert "ip daddr 127.0.1.0-127.0.255.255 drop" in text


def test_established_connections_to_a_cut_instance_are_reset() -> None:
    lines = [line.strip() for line in ruleset([], BRIDGED, {"172.31.1.1"}).splitlines()]
    reset = "ip daddr 172.31.1.1 tcp dport 22 tcp flags ! rst reject with tcp reset"
    assert lines.index(reset) < lines.index("ct state established,related accept")


def test_dhcp_serves_known_machines_only_and_dns_does_not_forward() -> None:
    command = network.dnsmasq_command("dnsmasq", Path("/s/lab"), "ec2.internal")
    assert "--dhcp-range=172.31.0.0,static,255.255.0.0,1h" in command
    assert "--no-resolv" in command
    assert "--dhcp-option=option:router,172.31.0.1" in command


def test_bytes_sent_to_a_machine_are_read_from_the_kernels_table() -> None:
    assert network.received(NET_DEV, "tap456789abcdef0") == 123456
    assert network.received(NET_DEV, "tap0") == 0


def test_a_session_is_an_established_connection() -> None:
    assert network.connected(NET_TCP, "172.31.1.1", 22)
    assert not network.connected(NET_TCP, "172.31.1.2", 22), "the connection is not established yet"
    assert not network.connected(NET_TCP, "172.31.1.1", 80)
