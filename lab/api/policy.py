# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An IAM policy, and whether it allows an API call: the part of IAM that the actions of an EC2 backup need.

Which resources an action uses, and which keys its conditions may have, is from the Service Authorization Reference
(https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html); how a policy is evaluated,
from https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.common.settings import SettingsError

Context = Mapping[str, list[str]]
"""The condition keys of a request and their values."""

ACCOUNT = "123456789012"
PREFIXES = {
    "i": "instance",
    "vol": "volume",
    "sg": "security-group",
    "snap": "snapshot",
    "subnet": "subnet",
    "vpc": "vpc",
    "ami": "image",
    "eni": "network-interface",
}
TAG_ON_CREATE = ("RunInstances", "CreateSecurityGroup")


@dataclass(frozen=True)
class Request:
    """One permission that a call needs: an action on a resource. A call may need several."""

    action: str
    resource: str = "*"
    context: Context = field(default_factory=dict)


# ---- Which permissions a call needs ---------------------------------------------------------------------------------


def values(parameters: Mapping[str, Any], pattern: str) -> list[str]:
    """Return the distinct values of the parameters whose names match; r"ResourceId\\.\\d+" matches ``ResourceId.N``."""
    return list(dict.fromkeys(str(value) for name, value in parameters.items() if re.fullmatch(pattern, name)))


def tags(parameters: Mapping[str, Any], prefix: str) -> dict[str, str]:
    """Return the tags in the parameters ``{prefix}.N.Key`` and ``{prefix}.N.Value``."""
    found = {}
    for name, key in parameters.items():
        if re.fullmatch(re.escape(prefix) + r"\.\d+\.Key", name):
            found[str(key)] = str(parameters.get(name[: -len("Key")] + "Value", ""))
    return found


def created_tags(parameters: Mapping[str, Any], kind: str) -> dict[str, str]:
    """Return the tags that a call gives to the resources of a kind that it creates."""
    for name, value in parameters.items():
        if re.fullmatch(r"TagSpecification\.\d+\.ResourceType", name) and value == kind:
            return tags(parameters, name[: -len("ResourceType")] + "Tag")
    return {}


def tag_context(wanted: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the condition keys of the tags that a call sets."""
    if not wanted:
        return {}
    return {"aws:TagKeys": list(wanted), **{f"aws:RequestTag/{key}": [value] for key, value in wanted.items()}}


class Reader:
    """Finds the permissions that calls to one region need.

    :param tags_of: returns a resource's tags by its ID.
    """

    def __init__(self, region: str, tags_of: Callable[[str], Mapping[str, str]]) -> None:
        self.region = region
        self.tags_of = tags_of

    def arn(self, kind: str, name: str) -> str:
        account = "" if kind == "image" else ACCOUNT
        return f"arn:aws:ec2:{self.region}:{account}:{kind}/{name}"

    def existing(self, action: str, name: str, context: Context | None = None) -> Request:
        """Return the permission for an action on a resource that exists."""
        owned = {f"aws:ResourceTag/{key}": [value] for key, value in self.tags_of(name).items()}
        kind = PREFIXES.get(name.partition("-")[0], "unknown")
        return Request(action, self.arn(kind, name), {**owned, **(context or {})})

    def requests(self, service: str, operation: str, parameters: Mapping[str, Any]) -> list[Request]:
        """Return all permissions that a call needs."""
        action = f"{service}:{operation}"
        if action == "sts:GetCallerIdentity":
            return []  # https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
        if service == "ssm":
            name = str(parameters.get("Name", "")).lstrip("/")
            owner = "" if name.startswith("aws/service/") else ACCOUNT
            return [Request(action, f"arn:aws:ssm:{self.region}:{owner}:parameter/{name}")]
        if operation in TAG_ON_CREATE:
            return [*self._making(action, operation, parameters), *self._tagging(operation, parameters)]
        if operation in ("CreateTags", "DeleteTags"):
            context = tag_context(tags(parameters, "Tag"))
            return [self.existing(action, name, context) for name in values(parameters, r"ResourceId\.\d+")]
        if not operation.startswith("Describe"):
            names = values(parameters, r"(?:InstanceId|VolumeId|GroupId)(?:\.\d+)?")
            if names:
                return [self.existing(action, name) for name in names]
        return [Request(action)]

    def _making(self, action: str, operation: str, parameters: Mapping[str, Any]) -> Iterable[Request]:
        made = ("instance", "volume") if operation == "RunInstances" else ("security-group",)
        for kind in made:
            yield Request(action, self.arn(kind, "*"), tag_context(created_tags(parameters, kind)))
        if operation == "RunInstances":
            yield Request(action, self.arn("network-interface", "*"))
        if "KeyName" in parameters:
            yield Request(action, self.arn("key-pair", str(parameters["KeyName"])))
        used = r".*\b(?:SubnetId|SecurityGroupId\.\d+|ImageId|SnapshotId|VpcId)"
        for name in values(parameters, used):
            yield self.existing(action, name)

    def _tagging(self, operation: str, parameters: Mapping[str, Any]) -> Iterable[Request]:
        for kind in values(parameters, r"TagSpecification\.\d+\.ResourceType"):
            context = {**tag_context(created_tags(parameters, kind)), "ec2:CreateAction": [operation]}
            yield Request("ec2:CreateTags", self.arn(kind, "*"), context)


# ---- Whether it is allowed ------------------------------------------------------------------------------------------


def _some(wanted: list[str], have: list[str], like: bool) -> bool:
    return any(
        fnmatch.fnmatchcase(value, pattern) if like else value == pattern for value in have for pattern in wanted
    )


def _all(wanted: list[str], have: list[str]) -> bool:
    return all(_some(wanted, [value], like=True) for value in have)


# Operator: (values in the policy, values in the request) → whether the condition holds. A key that the request lacks
# has no values; then only negated operators and ForAllValues hold.
OPERATORS: Mapping[str, Callable[[list[str], list[str]], bool]] = {
    "Null": lambda wanted, have: (wanted == ["true"]) == (not have),
    "StringEquals": lambda wanted, have: _some(wanted, have, like=False),
    "StringNotEquals": lambda wanted, have: not _some(wanted, have, like=False),
    "StringLike": lambda wanted, have: _some(wanted, have, like=True),
    "ForAllValues:StringLike": _all,
}


def _list(value: Any) -> list[str]:
    return [str(item) for item in (value if isinstance(value, list) else [value])]


def _holds(statement: Mapping[str, Any], context: Context) -> bool:
    return all(
        OPERATORS[operator](_list(wanted), list(context.get(key, [])))
        for operator, keys in statement.get("Condition", {}).items()
        for key, wanted in keys.items()
    )


class Policy:
    """An IAM policy whose statements all have the effect Allow."""

    def __init__(self, text: str) -> None:
        """Read a policy's JSON.

        :raises ValueError: it is not a policy, or has what the lab does not support.
        """
        try:
            self.statements: list[Mapping[str, Any]] = json.loads(text)["Statement"]
        except (KeyError, TypeError) as error:
            raise ValueError("it is not an IAM policy") from error
        for statement in self.statements:
            unknown = set(statement) - {"Sid", "Effect", "Action", "Resource", "Condition"}
            unknown |= set(statement.get("Condition", {})) - set(OPERATORS)
            if unknown or statement["Effect"] != "Allow":
                raise ValueError(f"the lab does not support {sorted(unknown) or statement['Effect']}")

    def allows(self, request: Request) -> bool:
        """Return whether a statement allows a request."""
        return any(
            _some(_list(statement["Action"]), [request.action], like=True)
            and _some(_list(statement["Resource"]), [request.resource], like=True)
            and _holds(statement, request.context)
            for statement in self.statements
        )

    def refused(self, requests: Iterable[Request]) -> Request | None:
        """Return the first request that is not allowed, or None."""
        return next((request for request in requests if not self.allows(request)), None)


def load(name: str) -> Policy | None:
    """Return the policy in a file, or None if ``name`` is empty.

    :raises SettingsError: it cannot be read, or is not a policy that the lab supports.
    """
    if not name:
        return None
    try:
        return Policy(Path(name).read_text())
    except (OSError, ValueError) as error:
        raise SettingsError(f"EC2_LAB_POLICY is {name!r}, which cannot be used: {error}") from error


def refusal(request: Request) -> str:
    """Return the message with which AWS refuses a request."""
    where = "" if request.resource == "*" else f" on resource: {request.resource}"
    text = (
        f"User: arn:aws:iam::{ACCOUNT}:user/lab is not authorized to perform: {request.action}{where} because no "
        f"identity-based policy allows the {request.action} action"
    )
    if request.action.startswith("ssm:"):
        return text
    encoded = " Encoded authorization failure message: bGFi-" + "x" * 200 if where else ""
    return f"You are not authorized to perform this operation. {text}.{encoded}"
