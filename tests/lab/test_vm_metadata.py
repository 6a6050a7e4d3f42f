"""The instance metadata service. The pages that lab/vm/metadata.py names describe what it must do."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lab.vm import metadata

FACTS = metadata.Facts(
    id="i-0123456789abcdef0",
    type="t3.small",
    image="ami-1",
    architecture="x86_64",
    account="123456789012",
    region="us-east-1",
    zone="us-east-1a",
    address="172.31.1.1",
    public_address="172.31.1.1",
    public_name="ec2-172-31-1-1.compute-1.amazonaws.com",
    mac="02:00:00:00:00:01",
    interface="eni-1",
    subnet="subnet-1",
    vpc="vpc-1",
    reservation="r-1",
    launched="2026-11-23T05:00:00Z",
    groups={"sg-1": "one", "sg-2": "two"},
    disks=("sdf",),
    key_name="mine",
    key="ssh-ed25519 AAAA mine",
    user_data=b"#cloud-config\n",
)
TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"


class Client:
    """Sends requests of one instance."""

    def __init__(self, facts: metadata.Facts | None = FACTS, tokens: metadata.Tokens | None = None) -> None:
        self.facts, self.tokens = facts, tokens or metadata.Tokens()

    def ask(self, path: str, method: str = "GET", **headers: str) -> metadata.Reply:
        known = {name.replace("_", "-"): value for name, value in headers.items()}
        return metadata.answer(method, path, known.get, self.facts, self.tokens)

    def text(self, path: str) -> str:
        reply = self.ask(path)
        assert reply.status == 200, path
        return reply.body.decode()

    def token(self, seconds: str = "60") -> str:
        reply = self.ask("/latest/api/token", "PUT", **{TTL: seconds})
        assert reply.status == 200
        return reply.body.decode()


def test_the_root_lists_the_versions_and_all_have_the_same_values() -> None:
    client = Client()
    listed = client.text("/").splitlines()
    assert {"latest", "2009-04-04", "2018-09-24", "2021-03-23"} <= set(listed)
    assert {client.text(f"/{version}/meta-data/instance-id") for version in listed} == {FACTS.id}
    assert client.ask("/2050-01-01/meta-data/instance-id").status == 404
    assert client.text("/latest") == "dynamic\nmeta-data\nuser-data"


def test_a_directory_is_listed_with_or_without_a_slash_at_the_end() -> None:
    client = Client()
    assert client.text("/latest/meta-data") == client.text("/latest/meta-data/")
    assert {"instance-id", "placement/", "network/"} <= set(client.text("/latest/meta-data/").splitlines())
    assert client.text("/latest/meta-data/network/interfaces/macs/") == f"{FACTS.mac}/"


def test_a_key_is_listed_by_its_number_and_name() -> None:
    client = Client()
    assert client.text("/latest/meta-data/public-keys/") == "0=mine"
    assert client.text("/latest/meta-data/public-keys/0/") == "openssh-key"
    assert client.text("/latest/meta-data/public-keys/0/openssh-key") == "ssh-ed25519 AAAA mine"
    assert Client(replace(FACTS, key="", key_name="")).ask("/latest/meta-data/public-keys/").status == 404


def test_the_volumes_of_the_last_start_are_listed() -> None:
    client = Client()
    assert client.text("/latest/meta-data/block-device-mapping/").splitlines() == ["ami", "ebs1", "root"]
    assert client.text("/latest/meta-data/block-device-mapping/ebs1") == "sdf"


def test_user_data_is_unchanged_and_gives_404_if_there_is_none() -> None:
    binary = b"\x1f\x8b\x00\xff"
    assert Client(replace(FACTS, user_data=binary)).ask("/latest/user-data").body == binary
    nothing = Client(replace(FACTS, user_data=None))
    assert nothing.ask("/latest/user-data").status == 404
    assert "user-data" not in nothing.text("/latest/")


def test_private_names_are_in_the_domain_of_the_region() -> None:
    assert Client().text("/latest/meta-data/local-hostname") == "ip-172-31-1-1.ec2.internal"
    assert metadata.domain("eu-central-1") == "eu-central-1.compute.internal"


def test_the_identity_document_is_json() -> None:
    document = json.loads(Client().text("/latest/dynamic/instance-identity/document"))
    assert (document["instanceId"], document["region"]) == (FACTS.id, "us-east-1")
    assert document["kernelId"] is None


def test_tags_are_there_only_if_the_launch_enabled_them() -> None:
    tagged = replace(FACTS, tags={"Name": "a b"})
    assert Client(tagged).text("/latest/meta-data/tags/instance/Name") == "a b"
    assert Client().ask("/latest/meta-data/tags/instance/").status == 404


def test_whether_a_token_is_needed_depends_on_the_instances_options() -> None:
    assert Client().ask("/latest/meta-data/").status == 200
    strict = Client(replace(FACTS, tokens_required=True))
    assert strict.ask("/latest/meta-data/").status == 401
    reply = strict.ask("/latest/meta-data/", **{TOKEN: strict.token()})
    assert reply.status == 200
    assert reply.headers == {TTL: "60"}


def test_a_token_is_valid_for_one_instance_until_it_expires() -> None:
    now = [0.0]
    tokens = metadata.Tokens(lambda: now[0])
    token = Client(tokens=tokens).token("60")
    other = Client(replace(FACTS, id="i-other"), tokens)
    assert other.ask("/latest/meta-data/", **{TOKEN: token}).status == 401, "refused although no token is needed"
    now[0] = 59.0
    assert Client(tokens=tokens).ask("/latest/meta-data/", **{TOKEN: token}).status == 200
    now[0] = 60.0
    assert Client(tokens=tokens).ask("/latest/meta-data/", **{TOKEN: token}).status == 401


@pytest.mark.parametrize("seconds", ["", "0", "21601", "-1", "soon"])
def test_a_token_is_refused_for_an_invalid_time(seconds: str) -> None:
    assert Client().ask("/latest/api/token", "PUT", **{TTL: seconds}).status == 400


def test_a_token_is_refused_to_a_request_through_a_proxy() -> None:
    assert Client().ask("/latest/api/token", "PUT", **{TTL: "60", "X_Forwarded_For": "10.0.0.1"}).status == 403


def test_requests_are_refused_if_the_service_is_off_or_the_caller_is_no_instance() -> None:
    assert Client(None).ask("/latest/meta-data/").status == 404
    assert Client(replace(FACTS, enabled=False)).ask("/latest/meta-data/").status == 403
    assert Client().ask("/latest/meta-data/", "POST").status == 405
