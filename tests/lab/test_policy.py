"""EC2_LAB_POLICY in a running lab. tests/unit/test_iam_policy.py tests how a policy is evaluated."""

import json

import boto3
import pytest

from lab.api import policy
from lab.common.settings import SettingsError
from tests.lab.harness import code_of, running_lab

POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": ["ec2:DescribeVolumes", "ec2:CreateVolume"], "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": "ec2:DeleteVolume",
            "Resource": "arn:aws:ec2:*:*:volume/*",
            "Condition": {"StringEquals": {"aws:ResourceTag/mine": "yes"}},
        },
    ],
}


def test_the_caller_may_do_only_what_the_policy_allows_and_the_root_user_everything(tmp_path):
    (tmp_path / "policy.json").write_text(json.dumps(POLICY))
    with running_lab(tmp_path, EC2_LAB_POLICY=str(tmp_path / "policy.json")) as lab, lab.network():
        volume = lab.create_volume()
        code, message = code_of(lab.ec2.delete_volume, VolumeId=volume)
        assert code == "UnauthorizedOperation"
        resource = f"arn:aws:ec2:us-east-1:123456789012:volume/{volume}"
        assert f"not authorized to perform: ec2:DeleteVolume on resource: {resource}" in message
        assert code_of(lab.ec2.create_tags, Resources=[volume], Tags=[])[0] == "UnauthorizedOperation"
        ssm = lab.client("ssm")
        assert code_of(ssm.get_parameter, Name="/aws/service/x")[0] == "AccessDeniedException"

        # needs no permission: https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
        assert lab.client("sts").get_caller_identity()["Account"] == "123456789012"

        root = boto3.client(
            "ec2",
            endpoint_url=lab.environment["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id="AKIA00000000ROOTUSER",
            aws_secret_access_key="x",
        )
        root.create_tags(Resources=[volume], Tags=[{"Key": "mine", "Value": "yes"}])
        lab.ec2.delete_volume(VolumeId=volume)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}',
        '{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"Bool": {"a": "b"}}}]}',
    ],
)
def test_a_policy_that_the_lab_cannot_evaluate_is_refused(tmp_path, text):
    (tmp_path / "policy.json").write_text(text)
    with pytest.raises(SettingsError, match="EC2_LAB_POLICY"):
        policy.load(str(tmp_path / "policy.json"))
