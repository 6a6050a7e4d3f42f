"""Security groups: https://docs.aws.amazon.com/vpc/latest/userguide/vpc-security-groups.html"""

from __future__ import annotations

import subprocess

from tests.lab.harness import Lab, code_of, ssh_rule, wait_for


def reachable(lab: Lab, address: str) -> bool:
    return lab.ssh(address, "true", "ec2-user", "-o", "ConnectTimeout=1").returncode == 0


def test_the_default_group_drops_ssh_without_an_answer(lab: Lab) -> None:
    """https://docs.aws.amazon.com/vpc/latest/userguide/default-security-group.html"""
    instance = lab.launch(SecurityGroupIds=None)
    address = lab.wait_state(instance, "running")["PublicIpAddress"]
    assert "timed out" in lab.ssh(address, "true", "ec2-user", "-o", "ConnectTimeout=1").stderr
    groups = lab.instance(instance)["SecurityGroups"]
    assert [group["GroupName"] for group in groups] == ["default"]
    assert code_of(lab.ec2.delete_security_group, GroupId=groups[0]["GroupId"])[0] == "DependencyViolation"


def test_a_new_rule_works_at_once_and_its_removal_spares_open_connections(lab: Lab) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html"""
    other = lab.open_group("10.0.0.0/8")
    instance = lab.launch(SecurityGroupIds=[other])
    address = lab.wait_state(instance, "running")["PublicIpAddress"]
    assert not reachable(lab, address), "the rule is for other addresses"
    lab.ec2.authorize_security_group_ingress(GroupId=other, IpPermissions=[ssh_rule("127.0.0.0/8")])
    lab.login(instance)
    with subprocess.Popen(
        [*lab.ssh_argv(address), "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as session:
        assert session.stdin
        assert session.stdout
        session.stdin.write("before\n")
        assert session.stdout.readline() == "before\n"
        lab.ec2.revoke_security_group_ingress(GroupId=other, IpPermissions=[ssh_rule("127.0.0.0/8")])
        assert not reachable(lab, address)
        session.stdin.write("after\n")
        assert session.stdout.readline() == "after\n"


def test_a_rule_for_other_ports_does_not_allow_ssh(lab: Lab) -> None:
    """https://docs.aws.amazon.com/vpc/latest/userguide/security-group-rules.html"""
    group = lab.ec2.create_security_group(GroupName="web", Description="web")["GroupId"]
    rule = {**ssh_rule("0.0.0.0/0"), "FromPort": 23, "ToPort": 443}
    lab.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
    instance = lab.launch(SecurityGroupIds=[group])
    address = lab.wait_state(instance, "running")["PublicIpAddress"]
    assert not reachable(lab, address)


def test_a_group_can_be_deleted_only_after_its_instance_is_terminated(lab: Lab) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteSecurityGroup.html"""
    group = lab.open_group()
    instance = lab.launch(SecurityGroupIds=[group])
    lab.ec2.terminate_instances(InstanceIds=[instance])
    assert lab.state_of(instance) == "shutting-down"
    assert code_of(lab.ec2.delete_security_group, GroupId=group)[0] == "DependencyViolation"
    wait_for(lambda: lab.state_of(instance) == "terminated", "the instance to end")
    lab.ec2.delete_security_group(GroupId=group)
    assert code_of(lab.ec2.describe_security_groups, GroupIds=[group])[0] == "InvalidGroup.NotFound"
