"""What is told of a volume, from its tags alone."""

import datetime
from typing import Any

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.catalog import (
    entries,
    price_per_month,
    price_table,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.plan import tag_value
from tests.unit.entries import entry

NOW = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.UTC)
PAST, FUTURE = "2026-11-22T11:59:59Z", "2026-11-22T12:00:01Z"
COMPLETE = {
    "run-id": "r1",
    "status": "complete",
    "source": "web1:/srv/data",
    "bytes": "1500000000",
    "sha256": "0" * 64,
    "finished": "2026-11-20T12:00:00Z",
}
WRITING = {"status": "writing", "source": "web1:/srv/data"}


def volume(name: str = "vol-1", tags: Any = COMPLETE, **more: Any) -> dict[str, Any]:
    """A volume as amazon.aws.ec2_vol_info returns it; the tags without their prefix, ``None`` for a missing one."""
    named = None if tags is None else {f"ec2-backup:{key}": value for key, value in tags.items() if value is not None}
    return {
        "id": name,
        "tags": named,
        "attachment_set": [],
        "create_time": "2026-11-01T10:00:00.123000+00:00",
        "encrypted": True,
        "iops": 3000,
        "region": "us-east-1",
        "size": 3,
        "snapshot_id": "",
        "status": "available",
        "throughput": 125,
        "type": "gp3",
        "zone": "us-east-1a",
        **more,
    }


def attached(status: str = "attached") -> dict[str, Any]:
    return {"attachment_set": [{"instance_id": "i-1", "status": status}], "status": "in-use"}


def names(volumes: list[dict[str, Any]], **filters: Any) -> list[str]:
    return [entry["volume_id"] for entry in entries(volumes, NOW, **filters)]


def test_a_complete_backup_is_told_in_full():
    found = volume()
    found["tags"]["Name"] = "the data"
    told = entry(volume_id="vol-1", name="the data", created="2026-11-01T10:00:00Z", age_seconds=2 * 86400)
    assert entries([found], NOW) == [told]


@pytest.mark.parametrize(
    ("tags", "more", "state"),
    [
        (WRITING, attached(), "writing"),
        (WRITING, attached("attaching"), "writing"),
        ({**WRITING, "expires": FUTURE}, attached(), "writing"),
        ({**WRITING, "expires": FUTURE}, {"status": "creating"}, "writing"),
        ({**WRITING, "expires": "soon"}, attached(), "writing"),
        ({**WRITING, "expires": PAST}, attached(), "interrupted"),
        (WRITING, {}, "interrupted"),
        (WRITING, attached("detaching"), "interrupted"),
        (COMPLETE, attached(), "complete"),
        ({**COMPLETE, "status": None}, {}, "unknown"),
        ({**COMPLETE, "status": "fine"}, attached(), "unknown"),
    ],
)
def test_the_state_follows_from_the_status_the_attachment_and_the_expiry(tags, more, state):
    (entry,) = entries([volume(tags=tags, **more)], NOW)
    assert entry["state"] == state


def test_what_is_being_overwritten_has_nothing_of_an_earlier_backup():
    (entry,) = entries([volume(tags={**COMPLETE, "status": "writing"}, **attached())], NOW)
    assert (entry["bytes"], entry["finished"], entry["age_seconds"]) == (None, None, None)


def test_volumes_that_are_no_backups_are_not_told_of():
    """The root volume of a run's instance has the run's tags, as everything that a launch makes."""
    root = volume("vol-1", {**WRITING, "run-id": "r1", "expires": FUTURE}, **attached(), snapshot_id="snap-1")
    going = volume("vol-2", status="deleting")
    foreign = [volume("vol-3", None), volume("vol-4", {}), volume("vol-5", {"run-id": "r1"})]
    restored = volume("vol-6", snapshot_id="snap-2")
    assert names([root, going, *foreign, restored]) == ["vol-6"]


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({"bytes": "many"}, {"bytes": None}),
        ({"bytes": "-1"}, {"bytes": None}),
        ({"bytes": "٣"}, {"bytes": None}),
        ({"bytes": None}, {"bytes": None}),
        ({"finished": "yesterday"}, {"finished": None, "age_seconds": None}),
        ({"finished": ""}, {"finished": None, "age_seconds": None}),
        ({"finished": FUTURE}, {"finished": FUTURE, "age_seconds": 0}),
        ({"run-id": None}, {"run_id": None}),
        ({"source": "/srv/a:b"}, {"source_host": None, "source_path": "/srv/a:b"}),
        ({"source": "web1:/srv/a:b"}, {"source_host": "web1", "source_path": "/srv/a:b"}),
        ({"source": "web1"}, {"source_host": None, "source_path": "web1"}),
        ({"source": "web1:/srv/da…"}, {"source_host": "web1", "source_path": "/srv/da…"}),
        ({"source": "web1:"}, {"source_host": "web1", "source_path": None}),
        ({"source": ":"}, {"source_host": None, "source_path": None}),
        ({"source": ""}, {"source_host": None, "source_path": None}),
    ],
)
def test_tags_that_are_missing_or_edited_are_told_as_far_as_they_make_sense(tags, told):
    (entry,) = entries([volume(tags={**COMPLETE, **tags})], NOW)
    assert {key: entry[key] for key in told} == told
    assert entry["state"] == "complete"


def test_the_newest_comes_first_and_what_is_unfinished_counts_from_its_making():
    def at(name, day, **more):
        return volume(name, {**COMPLETE, "finished": f"2026-11-{day}T00:00:00Z"}, **more)

    unfinished = volume("vol-5", WRITING, create_time=datetime.datetime(2026, 11, 12, tzinfo=datetime.UTC))
    undated = volume("vol-6", WRITING, create_time=None)
    volumes = [undated, at("vol-4", 11), at("vol-2", 13), unfinished, at("vol-1", 13), at("vol-3", 12)]
    want = ["vol-1", "vol-2", "vol-3", "vol-5", "vol-4", "vol-6"]
    assert names(volumes) == want
    assert names(volumes[::-1]) == want


@pytest.mark.parametrize(
    ("filters", "want"),
    [
        ({"source": "/srv/data"}, ["a", "b"]),
        ({"source": "/srv"}, []),
        ({"source": "/srv/*"}, ["a", "b", "c"]),
        ({"source": "*/[x]"}, ["c"]),
        ({"source": "/etc/[x]"}, ["d"]),
        ({"host": "web1"}, ["a", "c", "d"]),
        ({"host": "web?"}, ["a", "b", "c", "d"]),
        ({"host": "WEB1"}, []),
        ({"source": "/srv/data", "host": "web2"}, ["b"]),
        ({}, ["a", "b", "c", "d", "e"]),
    ],
)
def test_source_and_host_are_names_or_patterns(filters, want):
    sources = {"a": "web1:/srv/data", "b": "web2:/srv/data", "c": "web1:/srv/data/x", "d": "web1:/etc/[x]", "e": ""}
    assert names([volume(key, {**COMPLETE, "source": text}) for key, text in sources.items()], **filters) == want


def test_a_source_that_did_not_fit_its_tag_is_found_by_its_whole_name():
    long = "/srv/" + "x" * 300
    volumes = [
        volume("vol-1", {**COMPLETE, "source": tag_value("web1:" + long)}),
        volume("vol-2", {**COMPLETE, "source": tag_value("web1:/srv/a\nb")}),
    ]
    assert names(volumes, source=long) == ["vol-1"]
    assert names(volumes, source="/srv/a\nb") == ["vol-2"]


@pytest.mark.parametrize(
    ("changes", "price"),
    [
        ({"size": 100}, 8.00),
        ({"size": 100, "iops": 4000, "throughput": 225}, 8.00 + 5.00 + 4.00),
        ({"size": 1, "throughput": None, "iops": None}, 0.08),
        ({"size": 100, "type": "gp2"}, 10.00),
        ({"size": 100, "type": "standard", "iops": None}, 5.00),
        ({"size": 500, "type": "st1"}, 22.50),
        ({"size": 500, "type": "sc1"}, 7.50),
        ({"size": 100, "type": "io1", "iops": 1000}, 12.50 + 65.00),
        ({"size": 100, "type": "io2", "iops": 32000}, 12.50 + 2080.00),
        ({"size": 100, "type": "io2", "iops": 64000}, 12.50 + 2080.00 + 1456.00),
        ({"size": 100, "type": "io2", "iops": 65000}, 12.50 + 2080.00 + 1456.00 + 31.85),
        ({"type": "io9"}, None),
        ({"type": None}, None),
    ],
)
def test_a_volume_is_priced_by_its_size_and_what_is_provisioned(changes, price):
    assert price_per_month(volume(**changes), price_table()) == price


def test_prices_that_are_given_are_the_only_ones():
    prices = {"gp3": "0.1", "gp2": 0.2}
    told = entries([volume("vol-1"), volume("vol-2", type="st1"), volume("vol-3", iops=4000)], NOW, prices=prices)
    assert [entry["price_per_month"] for entry in told] == [0.3, None, None]


@pytest.mark.parametrize("price", ["cheap", None, -1, "nan", "inf", [1]])
def test_a_price_that_makes_no_sense_is_refused(price):
    with pytest.raises(
        ValueError, match=r"ec2_backup_catalog_prices has .* for gp3: give a number, in USD per month\."
    ):
        entries([], NOW, prices={"gp3": price})
