"""The decisions that need no I/O."""

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.plan import (
    GIB,
    RESERVED,
    architecture,
    launch_candidates,
    tag_value,
    volume_gib,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.find import device_candidates


@pytest.mark.parametrize(
    ("archive", "factor", "gib"),
    [
        (0, 2, 1),
        (1, 2, 1),
        (GIB // 2, 2, 1),
        (GIB // 2 + 1, 2, 2),
        (GIB, 2, 2),
        (GIB, 1, 2),
        (GIB - RESERVED, 1, 1),
        (GIB + 1, 2, 3),
        (3 * GIB, 1.5, 5),
        (8 << 40, 2, 16384),
        ((1 << 53) + 1, 1, (1 << 23) + 1),
    ],
)
def test_a_new_volume_holds_the_archive_so_many_times_over_in_whole_gib(archive, factor, gib):
    assert volume_gib(archive, factor) == gib


@pytest.mark.parametrize(("archive", "factor"), [(-1, 2), (1, 0.5)])
def test_a_volume_that_could_not_hold_the_archive_is_refused(archive, factor):
    with pytest.raises(ValueError, match=r"cannot have|must be at least 1"):
        volume_gib(archive, factor)


@pytest.mark.parametrize(
    ("instance_type", "expected"),
    [
        ("t3.small", "x86_64"),
        ("t4g.nano", "arm64"),
        ("a1.large", "arm64"),
        ("m7gd.metal", "arm64"),
        ("is4gen.medium", "arm64"),
        ("g4dn.xlarge", "x86_64"),
        ("g5g.xlarge", "arm64"),
        ("m7i-flex.large", "x86_64"),
        ("hpc7g.4xlarge", "arm64"),
        ("u-6tb1.metal", "x86_64"),
    ],
)
def test_the_architecture_is_read_off_the_instance_types_name(instance_type, expected):
    assert architecture(instance_type) == expected


def test_a_tag_value_is_one_printable_line_of_at_most_256_characters():
    assert tag_value("web1:/srv/a\nb\udce4") == "web1:/srv/a?b?"
    assert tag_value("x" * 256) == "x" * 256
    assert len(tag_value("x" * 257)) == 256


@pytest.mark.parametrize(
    ("name", "candidates"),
    [
        ("/dev/sdf", ["/dev/xvdf", "/dev/sdf"]),
        ("xvdba", ["/dev/xvdba", "/dev/sdba"]),
        ("/dev/xbd1", ["/dev/xbd1"]),
    ],
)
def test_a_disk_without_identity_is_looked_for_under_the_names_that_kernels_give_it(name, candidates):
    assert device_candidates(name) == candidates


def test_a_launch_is_tried_in_every_zone_before_the_next_type():
    subnets = [
        {"subnet_id": "subnet-b", "availability_zone": "us-east-1b", "vpc_id": "vpc-1"},
        {"subnet_id": "subnet-a", "availability_zone": "us-east-1a", "vpc_id": "vpc-1"},
    ]
    tried = [
        (c["instance_type"], c["zone"], c["subnet_id"]) for c in launch_candidates(["t3.small", "t3a.small"], subnets)
    ]
    assert tried == [
        ("t3.small", "us-east-1a", "subnet-a"),
        ("t3.small", "us-east-1b", "subnet-b"),
        ("t3a.small", "us-east-1a", "subnet-a"),
        ("t3a.small", "us-east-1b", "subnet-b"),
    ]
