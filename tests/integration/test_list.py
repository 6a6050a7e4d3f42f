"""The list of backups: what it shows of real ones, and which calls it makes."""

import json
from typing import Any

import pytest

from tests.integration.conftest import Done, Lab
from tests.integration.test_cleanup import FUTURE, launch
from tests.unit.test_json import check


def listed(lab: Lab, *options: str, **environment: str) -> list[dict[str, Any]]:
    """The volumes that ``list --json`` prints."""
    done = lab.backup("list", "--json", *options, **environment)
    assert (done.rc, done.stderr) == (0, ""), done
    answer = json.loads(done.stdout)
    check(answer)
    volumes: list[dict[str, Any]] = answer["volumes"]
    return volumes


def names(lab: Lab, *options: str) -> list[str]:
    """The IDs of the volumes that ``list --json`` prints."""
    return [volume["volume_id"] for volume in listed(lab, *options)]


def tag(lab: Lab, volume: str, **tags: str) -> None:
    """Tag a volume as ec2-backup does."""
    named = [{"Key": f"ec2-backup:{key}", "Value": value} for key, value in tags.items()]
    lab.api("create_tags", Resources=[volume], Tags=named)


def looks(lab: Lab) -> int:
    """How many calls of any kind there were so far."""
    return len((lab.state / "calls.jsonl").read_text().splitlines())


def statistic(done: Done) -> list[dict[str, Any]]:
    """Read what a playbook returned in its statistics from its output."""
    (line,) = [line for line in done.stdout.splitlines() if line.strip().startswith("RUN: ")]
    found: list[dict[str, Any]] = json.loads(line.partition("RUN: ")[2])["ec2_backup_catalog"]
    return found


def test_real_backups_are_listed_and_those_that_broke_off_are_shown_as_such(lab, tmp_path):
    source = tmp_path / "data"
    source.mkdir()
    (source / "file").write_text("x")
    lab.make_volume()  # a bystander
    done = lab.backup("--json", source)
    assert (done.rc, done.stderr) == (0, "")
    backup = json.loads(done.stdout)
    check(backup)  # against the schema
    complete = backup["volume_id"]
    broken = lab.make_volume()
    tag(lab, broken, status="writing", source="db1:/var/lib/db")
    _, written = launch(lab, "r1", FUTURE)  # its root volume has the same tags

    before = looks(lab)
    found = listed(lab)
    assert looks(lab) == before + 1
    assert lab.calls("DescribeVolumes")[-1]["error"] is None

    states = {volume["volume_id"]: volume["state"] for volume in found}
    assert states == {written: "writing", broken: "interrupted", complete: "complete"}
    (told,) = [volume for volume in found if volume["volume_id"] == complete]
    tags = {entry["Key"]: entry["Value"] for entry in lab.volumes()[complete]["Tags"]}
    assert told == {
        **told,
        "source_path": str(source),
        "bytes": int(tags["ec2-backup:bytes"]),
        "finished": tags["ec2-backup:finished"],
        "run_id": tags["ec2-backup:run-id"],
        "name": tags["Name"],
        "zone": lab.volumes()[complete]["AvailabilityZone"],
        "size_gib": 1,
        "volume_type": "gp3",
        "encrypted": True,
        "volume_state": "available",
        "price_per_month": 0.08,
    }
    assert 0 <= told["age_seconds"] < 300
    for field in ("bytes", "run_id", "zone", "size_gib"):
        assert backup[field] == told[field]
    assert backup["source"] == {"host": told["source_host"], "path": str(source)}
    assert (backup["sha256"], backup["region"]) == (tags["ec2-backup:sha256"], "us-east-1")
    assert {"launching", "streaming", "committing"} <= backup["phases"].keys()

    assert names(lab, "--source", str(source)) == [complete]
    assert names(lab, "--source", "/var/*", "--host", "db1") == [broken]
    assert names(lab, "--host", str(told["source_host"])) == [complete]

    table = lab.backup("list", "-e", 'ec2_backup_catalog_prices={"gp3": 1}')
    assert (table.rc, table.stderr) == (0, "")
    header, *lines = table.stdout.splitlines()
    assert " ".join(header.split()) == "VOLUME SOURCE SIZE ARCHIVE FINISHED (UTC) AGE ZONE STATE USD/MONTH"
    assert [line.split()[0] for line in lines] == [volume["volume_id"] for volume in found]
    (line,) = [line for line in lines if line.startswith(complete)]
    assert f" {told['source_host']}:{source} " in line
    assert line.endswith(" 1.00")


@pytest.fixture
def quick(make_lab) -> Lab:
    """A lab with short waiting times."""
    lab: Lab = make_lab(EC2_LAB_VOLUME_CREATING="0")
    return lab


def test_the_playbook_lists_however_many_there_are_and_whatever_their_tags_hold(quick):
    lab = quick
    none = lab.backup("list", "--source", "*")
    assert (none.rc, none.stdout, none.stderr) == (0, "", "ec2-backup: no backups in us-east-1 match\n")

    odd = ["", ":", "web1", "/srv/a:b", "web1:/srv/{{ 1 + 1 }}", "web1:/srv/" + "x" * 200 + "…"]
    sources = {lab.make_volume(): text for text in [*odd, *(f"web{i}:/srv" for i in range(20))]}
    for volume, text in sources.items():
        tag(lab, volume, source=text, status="complete", finished="2026-01-02T03:04:05Z", bytes="?")

    before = looks(lab)
    output = ["ANSIBLE_SHOW_CUSTOM_STATS=1", "ANSIBLE_CALLBACK_RESULT_FORMAT=json"]
    done = lab.run("env", *output, "ansible-playbook", "--check", "ec2_backup.ebs.list")
    assert done.rc == 0, done.stdout + done.stderr
    assert looks(lab) == before + 1
    assert [entry["volume_id"] for entry in statistic(done)] == sorted(sources)
    assert "{{ 1 + 1 }}" in done.stdout
    assert all(f"{volume} complete: " in done.stdout for volume in sources)

    lab.break_api({"action": "DescribeVolumes", "always": True, "code": "UnauthorizedOperation"})
    failed = lab.backup("list")
    assert (failed.rc, failed.stdout) == (1, "")
    assert "could not be listed: you are not authorised for ec2:DescribeVolumes" in failed.stderr
    assert failed.stderr.count("\n") == 1
