# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Errors of AWS as messages for people: what happened, to what, and what to do.

The errors come from botocore, EC2, SSM and amazon.aws, as texts: Ansible passes on no more. EC2's codes:
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html. A message replaces the original text, which
is in the log, but keeps the code, so that it can be searched for.
"""

import re
from collections.abc import Mapping

POLICY = "docs/iam-policy.json has all that ec2-backup needs"
GET_CREDENTIALS = (
    "Run `aws configure` or `aws sso login`, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)
RENEW = "Renew them (`aws sso login`, or a new AWS_SESSION_TOKEN); if they are new, set this host's clock"
CHECK_CREDENTIALS = (
    "Check AWS_PROFILE, or AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, this host's clock, and that "
    "the account has enabled the region"
)
NAME_REGION = "Name one: --region, AWS_REGION, or `region` in ~/.aws/config"
OTHER_TYPE = "name another type with --instance-type"
OTHER_IMAGE = 'EC2_BACKUP_FLAGS_AWS="--image-id …"'
OTHER_SUBNET = 'EC2_BACKUP_FLAGS_AWS="--subnet-id …"'
MORE_QUOTA = "Ask for more in the Service Quotas console"
LATER = "Try again later"
KMS_KEY = (
    "Check that the key is enabled, that it is of this region, and that its policy lets these credentials use it "
    "(docs/iam-policy.md); or name another in ec2_backup_kms_key_id"
)

# {id} is the ID in EC2's text. The first word gets a capital letter where it begins the line.
_EXPIRED = ("the AWS credentials have expired", RENEW)
_WRONG_CREDENTIALS = ("AWS does not accept the credentials", CHECK_CREDENTIALS)
_VCPU_LIMIT = (
    "the account may not run more instances like this one",
    f"{MORE_QUOTA}, end other instances, or {OTHER_TYPE}",
)
_NO_CAPACITY = ("EC2 has no room for the instance in that zone now", f"{LATER}, or {OTHER_TYPE}")
_NO_IMAGE = (
    "there is no image {id} in the region that this account may use",
    f"An image has another ID in each region: name one of this region with {OTHER_IMAGE}, or none",
)
_NO_SUBNET = ("there is no subnet {id} in the region", f"Name one of this account and region with {OTHER_SUBNET}")
_NO_DEFAULT_VPC = (
    "the account has no default VPC, or that has no subnets, in the region",
    f"Name a subnet with {OTHER_SUBNET}, or make the default ones: `aws ec2 create-default-vpc`",
)
_NO_GROUP = (
    "there is no security group {id} in the subnet's VPC",
    'Name others with EC2_BACKUP_FLAGS_AWS="--security-group-ids …", or none: then the run makes its own',
)
_NO_KEY_PAIR = (
    "there is no key pair {id} in the region",
    'Name another with EC2_BACKUP_FLAGS_AWS="--key-name …", or none: the run has keys of its own',
)
_NO_VOLUME = ("there is no volume {id} in the region", "See `ec2-backup list`, or name another region with --region")
_NO_SNAPSHOT = ("there is no snapshot {id} in the region", "Name one of this region, or another region with --region")
_BAD_KMS_KEY = ("the KMS key cannot be used", KMS_KEY)
_VOLUME_LIMIT = (
    "the account may not have more or larger volumes of that type",
    f"{MORE_QUOTA}, delete volumes (`ec2-backup list` shows backups), or name another type in ec2_backup_volume_type",
)
_THROTTLED = ("AWS throttles the account's calls", LATER)
_AWS_TROUBLE = ("AWS has an internal error", f"{LATER}; https://health.aws.amazon.com shows the state")

CODES: Mapping[str, tuple[str, str]] = {
    "AuthFailure": _WRONG_CREDENTIALS,
    "IncompleteSignature": _WRONG_CREDENTIALS,
    "InvalidClientTokenId": _WRONG_CREDENTIALS,
    "InvalidSignatureException": _WRONG_CREDENTIALS,
    "MissingAuthenticationToken": _WRONG_CREDENTIALS,
    "SignatureDoesNotMatch": _WRONG_CREDENTIALS,
    "UnrecognizedClientException": _WRONG_CREDENTIALS,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "RequestExpired": _EXPIRED,
    "OptInRequired": ("this account is not signed up for EC2, or not for that image", "Sign up, or name another image"),
    "PendingVerification": ("AWS is still verifying this account", "Wait for its mail, usually some hours"),
    "Blocked": ("AWS has blocked this account", "Ask AWS Support"),
    "InstanceLimitExceeded": _VCPU_LIMIT,
    "VcpuLimitExceeded": _VCPU_LIMIT,
    "VolumeLimitExceeded": _VOLUME_LIMIT,
    "MaxIOPSLimitExceeded": _VOLUME_LIMIT,
    "SecurityGroupLimitExceeded": (
        "the account may not have more security groups in the VPC",
        'Delete some, or name one with EC2_BACKUP_FLAGS_AWS="--security-group-ids …"',
    ),
    "InsufficientFreeAddressesInSubnet": ("the subnet has no free addresses", f"Name another with {OTHER_SUBNET}"),
    "InsufficientCapacity": _NO_CAPACITY,
    "InsufficientHostCapacity": _NO_CAPACITY,
    "InsufficientInstanceCapacity": _NO_CAPACITY,
    "InsufficientVolumeCapacity": ("EC2 has no room for the volume in that zone now", LATER),
    "Unsupported": (
        "EC2 does not offer that in this zone: {text}",
        "Name another type with --instance-type, or a subnet of another zone",
    ),
    "InvalidAMIID.Malformed": _NO_IMAGE,
    "InvalidAMIID.NotFound": _NO_IMAGE,
    "InvalidAMIID.Unavailable": _NO_IMAGE,
    "InvalidSubnet": _NO_SUBNET,
    "InvalidSubnetID.NotFound": _NO_SUBNET,
    "MissingInput": _NO_DEFAULT_VPC,
    "VPCIdNotSpecified": _NO_DEFAULT_VPC,
    "DefaultVpcDoesNotExist": _NO_DEFAULT_VPC,
    "InvalidGroup.NotFound": _NO_GROUP,
    "InvalidGroupId.Malformed": _NO_GROUP,
    "InvalidSecurityGroupID.NotFound": _NO_GROUP,
    "InvalidKeyPair.Format": _NO_KEY_PAIR,
    "InvalidKeyPair.NotFound": _NO_KEY_PAIR,
    "InvalidSnapshot.NotFound": _NO_SNAPSHOT,
    "InvalidVolume.NotFound": _NO_VOLUME,
    "InvalidVolumeID.Malformed": _NO_VOLUME,
    "InvalidKmsKey.InvalidState": _BAD_KMS_KEY,
    "InvalidKMSKey.InvalidState": _BAD_KMS_KEY,
    "RequestLimitExceeded": _THROTTLED,
    "ThrottlingException": _THROTTLED,
    "InternalError": _AWS_TROUBLE,
    "InternalFailure": _AWS_TROUBLE,
    "ServiceUnavailable": _AWS_TROUBLE,
    "Unavailable": _AWS_TROUBLE,
}
DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")

# (code, pattern in EC2's text, message and advice); has precedence over CODES. {1} is the pattern's first group.
TEXTS: tuple[tuple[str, str, tuple[str, str]], ...] = (
    (
        "AuthFailure",
        r"Not authorized for images: \[([^]]*)\]",
        ("this account may not use the image {1}", f"Name another with {OTHER_IMAGE}, or ask its owner to share it"),
    ),
    (
        "OptInRequired",
        r"Marketplace.*?(https?://\S+)",
        (
            "that image needs a subscription in the AWS Marketplace",
            f"Accept its terms at {{1}}, or name another with {OTHER_IMAGE}",
        ),
    ),
    (
        "VcpuLimitExceeded",
        r"current vCPU limit of (\d+)",
        ("the account's limit of {1} vCPUs for such instances would be exceeded", _VCPU_LIMIT[1]),
    ),
    (
        "InvalidParameterValue",
        r"Invalid value '([^']*)' for InstanceType",
        ("there is no instance type {1} in the region", "Name another with --instance-type"),
    ),
    (
        "InvalidParameterValue",
        r"architecture '(\w+)' of the specified (?:instance type|AMI).*architecture '(\w+)'",
        (
            "the image and the instance type are of different architectures ({1}, {2})",
            "Name an image or a type that fits the other",
        ),
    ),
    ("InvalidParameterValue", r"(?i)\bKMS key", _BAD_KMS_KEY),
    (
        "InvalidParameter",
        r"(sg-\w+) and subnet (subnet-\w+) belong to different networks",
        ("security group {1} and subnet {2} are in different VPCs", "Name a group and a subnet of one VPC"),
    ),
)

# Texts that Ansible puts before a cause, and that say nothing about it.
WRAPPINGS = re.compile(
    r"(?:Task failed: |Module failed: |Action failed: |Finalization of task args for '[^']*' failed: "
    r"|Error while resolving value for '[^']*': |The lookup plugin '[^']*' failed: |SSM lookup exception: )+"
)
# Texts that are of no interest if AWS could not be asked at all.
EMPTY_LEADS = re.compile(r"^(?:Failed to describe \w+\.?|Couldn't connect to AWS): ")
ENCODED = re.compile(r"\.?\s*Encoded authorization failure message: \S+")
UNABLE_TO_TAG = re.compile(r"Unable to (?:add|delete) tags [\[{].*?[\]}] (?:to|from) (\S+): ")

# What may follow an error in a list of errors, as the playbook `cleanup` composes it.
_END = r"\.?(?=; (?:instance|volume|security group) \S+ of run | Run the cleanup again|$)"
_CLIENT_ERROR = re.compile(
    r"An error occurred \((?P<code>[^)]+)\) when calling the (?P<operation>\w+) operation"
    r"(?: \(reached max retries: \d+\))?: (?P<text>.*?)" + _END
)


class _Advice(list[str]):
    """Pieces of advice, each of them once."""

    def add(self, text: str) -> None:
        if text and text not in self:
            self.append(text)


def permission(operation: str) -> str:
    """Return the IAM action of an operation of the two services that are called."""
    return ("ssm:" if operation.startswith("GetParameter") else "ec2:") + operation


def _denied(operation: str, text: str) -> tuple[str, str]:
    # "User: ARN is not authorized to perform: ec2:X on resource: ARN because no identity-based policy allows …", or
    # "… with an explicit deny in a service control policy". Older regions and services leave all of it out.
    found = re.search(r"(?:User: (\S+) is )?not authorized to perform: (\S+)(?: on resource: (\S+))?", text)
    who, action, resource = found.groups() if found else (None, None, None)
    action = action or permission(operation)
    happened = f"you are not authorised for {action}" + (f" on {resource}" if resource else "")
    forbidden = re.search(r"explicit deny in an? ([a-z -]+policy)", text)
    if forbidden:
        return f"{happened}: a {forbidden[1]} denies it", "Ask whoever manages that policy"
    return happened, f"Add that to the policy of {who or 'these credentials'}; {POLICY}"


def _of_code(code: str, operation: str, text: str) -> tuple[str, str]:
    """Return the message and the advice for an error that has a code."""
    if code.removeprefix("Client.") in DENIED:
        return _denied(operation, text)
    for its_code, pattern, (happened, advice) in TEXTS:
        found = re.search(pattern, text) if its_code == code else None
        if found:
            parts = ("", *found.groups())
            return happened.format(*parts), advice.format(*parts)
    happened, advice = CODES.get(code, ("{text}", ""))
    named = re.search(r"""['"\[]+([^'"\[\]]+)['"\]]+""", text)
    words = happened.format(id=named[1] if named else "like that", text=text.rstrip("."))
    return words or f"{operation} was refused", advice


_NO_ANSWER = r"(?:Could not connect to the|Connect timeout on|Read timeout on) endpoint URL: "
_NETWORK = "this host's network, DNS and proxy (HTTPS_PROXY)"

# Errors without a code: (pattern, message in its place, advice). Those of botocore, before a request is sent, and of
# amazon.aws: botocore/exceptions.py; amazon.aws' module_utils/botocore.py and lookup/ssm_parameter.py.
# And the reasons for which an instance ended:
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html
OTHERS: tuple[tuple[str, str, str], ...] = (
    ("Unable to locate credentials", "there are no AWS credentials", GET_CREDENTIALS),
    (
        r"Partial credentials found in \S+, missing: (\w+)",
        "the AWS credentials are incomplete: there is no {1}",
        GET_CREDENTIALS,
    ),
    (
        r"The config profile \(([^)]*)\) could not be found",
        "there is no AWS profile {1} on this host",
        "`aws configure list-profiles` shows those that there are; it was named by --profile or AWS_PROFILE",
    ),
    (
        r"Passing both a profile and access tokens is not supported\.?",
        "both an AWS profile and access keys were given",
        "Unset AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE and what else names the profile",
    ),
    (
        r"(?:The SSO session associated|Error loading SSO Token|Error when retrieving token from sso).*$",
        "the SSO session of the AWS profile has expired",
        "Run `aws sso login`, with the profile if it has a name",
    ),
    (
        r"(?:The \S+ module requires a region and none was found.*$|You must specify a region\.?)",
        "no AWS region is configured",
        NAME_REGION,
    ),
    (
        r"Provided region_name '([^']*)' doesn't match a supported format\.?",
        "'{1}' is not the name of an AWS region",
        "They look like eu-central-1: check --region, AWS_REGION",
    ),
    (
        _NO_ANSWER + r'"(https://\w+\.([a-z0-9-]+)\.amazonaws\.[^"]*)"',
        "the endpoint {1} could not be reached",
        "Check that there is a region {2}, and " + _NETWORK,
    ),
    (
        _NO_ANSWER + r'"([^"]*)"',
        "the endpoint {1} could not be reached",
        "Check AWS_ENDPOINT_URL, and " + _NETWORK,
    ),
    (
        r'Connection was closed before we received a valid response from endpoint URL: "[^"]*"\.?',
        "AWS closed the connection before it answered",
        f"Check {_NETWORK}, and try again",
    ),
    (r'Failed to connect to proxy URL: "([^"]*)"', "the proxy {1} could not be reached", "Check HTTPS_PROXY"),
    (
        r"SSL validation failed for (\S+) .*$",
        "the certificate of {1} is not trusted",
        "Where a proxy of your own is in between, name its certificates in AWS_CA_BUNDLE",
    ),
    (
        r"Failed to access SSM parameter (?:path )?(\S+) \((AccessDenied)\)",
        "you are not authorised for ssm:GetParameter on {1}, which names the image [{2}]",
        f"Add that to the policy of these credentials ({POLICY}), or name an image with {OTHER_IMAGE}",
    ),
    (
        r"Failed to find SSM parameter (?:path )?(\S+) \((ResourceNotFound)\)",
        "there is no SSM parameter {1} in the region, which would name the image [{2}]",
        f"Name another in ec2_backup_image_parameter, or an image with {OTHER_IMAGE}",
    ),
    (
        r"(Client\.InternalError): Client error on launch",
        "EC2 could not make its volumes, most likely for their KMS key [{1}]",
        KMS_KEY,
    ),
    (r"(Client\.InvalidKMSKey\.InvalidState): [^.]*", "its volumes' KMS key cannot be used [{1}]", KMS_KEY),
    (r"(Client\.VolumeLimitExceeded): [^.]*", _VOLUME_LIMIT[0] + " [{1}]", _VOLUME_LIMIT[1]),
    (r"(Server\.InsufficientInstanceCapacity): [^.]*", _NO_CAPACITY[0] + " [{1}]", _NO_CAPACITY[1]),
)


def reworded(cause: str) -> str:
    """Return a cause of failure as a message for people, in one line: AWS's errors with advice, all others unchanged.

    :param cause: as ``outcome.message`` returns it.
    """
    text = WRAPPINGS.sub("", " ".join(cause.split()))
    text = UNABLE_TO_TAG.sub(r"The tags of \1 could not be set: ", ENCODED.sub("", text))
    advice = _Advice()

    def of_code(found: re.Match[str]) -> str:
        happened, todo = _of_code(found["code"], found["operation"], found["text"])
        advice.add(todo)
        lead = "" if todo or found.start() else f"EC2 refused {found['operation']}: "
        return f"{lead}{happened} [{found['code']}]"

    told = _CLIENT_ERROR.sub(of_code, text)
    if told == text:
        for pattern, happened, todo in OTHERS:
            found = re.search(pattern, text)
            if found:
                parts = ("", *found.groups())
                advice.add(todo.format(*parts))
                told = text[: found.start()] + happened.format(*parts) + text[found.end() :]
                break
    if not advice:
        return told
    told = re.sub(r"\] (?=Run )", "]. ", EMPTY_LEADS.sub("", told))
    return ". ".join([told[:1].upper() + told[1:].rstrip("."), *advice]) + "."
