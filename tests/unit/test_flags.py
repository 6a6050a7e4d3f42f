"""EC2_BACKUP_FLAGS_AWS and EC2_BACKUP_FLAGS_SSH."""

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils.flags import AWS_OPTIONS, parse_aws_flags, parse_ssh_flags


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("", {}),
        (None, {}),
        ("--instance-type t3.nano", {"ec2_backup_instance_type": "t3.nano"}),
        ("--instance-type=t3.nano", {"ec2_backup_instance_type": "t3.nano"}),
        ("--instance-type t3.nano --instance-type t4g.nano", {"ec2_backup_instance_type": "t4g.nano"}),
        ("--key-name 'my key'", {"ec2_backup_key_name": "my key"}),
        (
            "--security-group-ids sg-1 sg-2 --subnet-id subnet-1",
            {"ec2_backup_security_group_ids": ["sg-1", "sg-2"], "ec2_backup_subnet_id": "subnet-1"},
        ),
        ("--placement AvailabilityZone=us-east-1b", {"ec2_backup_availability_zone": "us-east-1b"}),
        ("""--placement '{"AvailabilityZone": "us-east-1b"}'""", {"ec2_backup_availability_zone": "us-east-1b"}),
        ("--region eu-west-1 --profile work", {"ec2_backup_region": "eu-west-1", "ec2_backup_profile": "work"}),
        ("--no-associate-public-ip-address", {"ec2_backup_connect_address": "private"}),
    ],
)
def test_run_instances_options_become_role_variables(text, variables):
    assert parse_aws_flags(text) == variables


def test_an_unknown_aws_option_is_refused_with_the_list_of_known_ones():
    with pytest.raises(ValueError, match="--user-data is not an option") as caught:
        parse_aws_flags("--instance-type t3.nano --user-data x")
    assert all(option in str(caught.value) for option in AWS_OPTIONS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--instance-type", "--instance-type needs a value"),
        ("--instance-type --key-name k", "--instance-type needs a value"),
        ("--instance-type=", "--instance-type needs a value"),
        ("--placement Tenancy=dedicated", "only --placement AvailabilityZone=ZONE"),
        ("--key-name 'k", "cannot be read"),
        ("t3.nano", "t3.nano is not an option"),
        ("--associate-public-ip-address=yes", "takes no value"),
    ],
)
def test_a_wrong_aws_option_is_refused_with_what_is_wrong(text, message):
    with pytest.raises(ValueError, match=message):
        parse_aws_flags(text)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", []),
        ("-i ~/key -p 2222", ["-i", "~/key", "-p", "2222"]),
        ("-o 'ProxyCommand=nc %h %p' -4v", ["-o", "ProxyCommand=nc %h %p", "-4v"]),
        ("-oPort=2222", ["-oPort=2222"]),
    ],
)
def test_ssh_options_become_arguments(text, arguments):
    assert parse_ssh_flags(text) == arguments


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("host", "'host' is not an option"),
        ("-i key host", "'host' is not an option"),
        ("-i", "-i needs a value"),
        ("-t", "terminal"),
        ("-L80:x:80", "forwards ports"),
        ("-i 'k", "cannot be read"),
    ],
)
def test_an_ssh_option_that_would_break_the_stream_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_ssh_flags(text)
