"""The parts of one case, from inside its lab: the account and its bystanders, the source, the runs, snapshots."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import boto3
from botocore.config import Config

from lab.common import kernel
from tests.faults import processes
from tests.faults.cases import POLITE, Case, RunPlan
from tests.faults.invariants import Run, Snapshot, Volume

AL2023 = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
ZONE = "us-east-1b"
GIB = 1 << 30
SECRET = b"PRIVATE KEY-----"
CREATED = "2026-01-01T00:00:00Z"
NEVER = "2099-01-01T00:00:00Z"


@dataclasses.dataclass
class Backup:
    """A run, from its start to its end."""

    number: int
    plan: RunPlan
    source: Path
    before: Path
    """A copy of the source as it was."""
    given: str
    process: subprocess.Popen[bytes]
    stdout: Path
    stderr: Path
    gate: Path
    started: float
    signals: list[int] = dataclasses.field(default_factory=list)
    orphaned: bool = False

    def said(self) -> str:
        """What it has written so far, to stdout and stderr."""
        return self.stdout.read_text(errors="replace") + self.stderr.read_text(errors="replace")

    def run(self) -> Run:
        """The run as it ended, for the checks."""
        code = self.process.returncode
        return Run(
            status=code if code is None or code >= 0 else 128 - code,
            stdout=self.stdout.read_text(errors="replace"),
            stderr=self.stderr.read_text(errors="replace"),
            source=str(self.source),
            given=self.given,
            wrapper=self.plan.door == "wrapper",
            signals=tuple(self.signals),
            statuses=self.plan.statuses,
            may_be_orphaned=self.orphaned,
            has_stdout=self.plan.stdout == "file",
        )


class World:
    """A lab's account and machine, and the runs of a case in it."""

    def __init__(self, case: Case, directory: Path, product: Path) -> None:
        self.case, self.directory, self.product = case, directory, product
        self.state = Path(os.environ["EC2_LAB_STATE"])
        self.random = random.Random(f"{case.seed}/{case.kind}/{case.variant}/world")
        self.watch = processes.Watch()
        self.ec2: Any = boto3.client("ec2", config=Config(retries={"total_max_attempts": 3}, read_timeout=30))
        self.home, self.tmp = directory / "home", directory / "tmp"
        for path in (self.home, self.tmp, directory / "check"):
            path.mkdir()
        if case.disk:
            kernel.mount("tmpfs", str(self.tmp), "tmpfs", 0, f"size={case.disk},mode=700")
        self.runs: list[Backup] = []
        self._groups = self._group_names()
        self._make_bystanders()
        self.given: list[str] = []
        """The volume that is given to each run, or an empty string."""
        for plan in case.runs:
            self.given.append(self._given_for(plan))
        # The calls so far were made by no run.
        self._calls_before = len((self.state / "calls.jsonl").read_text().splitlines())

    # -- the account

    def set_faults(self, faults: dict[str, Any]) -> None:
        """Set the faults of the lab from now on; none, if empty."""
        path = self.state / "faults.json"
        path.with_suffix(".new").write_text(json.dumps(faults))
        path.with_suffix(".new").rename(path)

    def calls(self) -> list[dict[str, Any]]:
        """The API calls of the runs so far."""
        lines = (self.state / "calls.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines[self._calls_before :]]

    def image(self, volume_id: str) -> Path:
        """The raw bytes of a volume."""
        return self.state / "volumes" / f"{volume_id}.img"

    def _make_volume(self, tags: dict[str, str]) -> str:
        made = self.ec2.create_volume(
            Size=1,
            AvailabilityZone=ZONE,
            VolumeType="gp3",
            TagSpecifications=[{"ResourceType": "volume", "Tags": tag_list(tags)}] if tags else [],
        )
        return str(made["VolumeId"])

    def _make_bystanders(self) -> None:
        """Somebody else's instance, somebody else's running backup, a plain volume, and an earlier backup."""
        image = boto3.client("ssm").get_parameter(Name=AL2023)["Parameter"]["Value"]
        other = {"ec2-backup:run-id": "20260101t000000z-0badcafe", "ec2-backup:status": "writing"}
        self._instances: list[str] = []
        for tags in ({"Name": "somebody else's"}, {**other, "ec2-backup:expires": NEVER}):
            made = self.ec2.run_instances(
                ImageId=image,
                InstanceType="t3.nano",
                MinCount=1,
                MaxCount=1,
                InstanceInitiatedShutdownBehavior="terminate",
                TagSpecifications=[{"ResourceType": kind, "Tags": tag_list(tags)} for kind in ("instance", "volume")],
            )
            self._instances.append(made["Instances"][0]["InstanceId"])
        complete = {"ec2-backup:run-id": "20260101t000000z-0ldbac00", "ec2-backup:status": "complete"}
        self._volumes = {self._make_volume(tags): "" for tags in ({"Name": "precious"}, complete)}
        for volume in self._volumes:
            with self.image(volume).open("r+b") as file:
                for offset in (0, GIB // 2, GIB - 65536):
                    file.seek(offset)
                    file.write(self.random.randbytes(65536))
            self._volumes[volume] = digest_of_data(self.image(volume))
        roots = [self._roots(name) for name in self._instances]
        self._others = {*self._volumes, *(volume for root in roots for volume in root)}
        self._root_names = {volume for root in roots for volume in root}

    def _roots(self, instance_id: str) -> list[str]:
        found = self.ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [instance_id]}])
        return [volume["VolumeId"] for volume in found["Volumes"]]

    def _group_names(self) -> set[str]:
        return {group["GroupName"] for group in self.ec2.describe_security_groups()["SecurityGroups"]}

    # -- the runs

    def start(self, plan: RunPlan) -> Backup:
        """Start one backup, and do not wait for it."""
        number = len(self.runs)
        source = make_source(self.directory / f"source-{number}", self.case.large, self.random)
        before = self.directory / "check" / f"before-{number}"
        subprocess.run(["cp", "-a", "--reflink=auto", source, before], check=True)
        given = self.given[number]
        gate = self.directory / f"gate-{number}"
        gate.mkdir()
        out, err = self.directory / f"stdout-{number}", self.directory / f"stderr-{number}"
        argv = self._argv(plan, source, given, gate)
        with open(out, "wb") as stdout, open(err, "wb") as stderr:
            process = subprocess.Popen(
                argv,
                cwd=self.directory,
                env=self._environment(number),
                stdin=subprocess.DEVNULL,
                stdout=broken_pipe() if plan.stdout == "broken" else stdout,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=reset_signals,
            )
        self.runs.append(Backup(number, plan, source, before, given, process, out, err, gate, time.monotonic()))
        return self.runs[-1]

    def _given_for(self, plan: RunPlan) -> str:
        if plan.volume == "new":
            return ""
        if plan.volume == "same":
            return self.given[0]
        tags: dict[str, str] = {}
        earlier = b""
        if plan.volume == "used":
            earlier = tar_of(self.directory / "check", self.random)
            tags = {
                "ec2-backup:run-id": "20260101t000000z-ea171e70",
                "ec2-backup:status": "complete",
                "ec2-backup:source": "elsewhere:/earlier",
                "ec2-backup:bytes": str(len(earlier)),
                "ec2-backup:sha256": hashlib.sha256(earlier).hexdigest(),
                "ec2-backup:finished": CREATED,
            }
        volume = self._make_volume(tags)
        with self.image(volume).open("r+b") as file:
            file.write(earlier)
        while self.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] != "available":
            time.sleep(0.05)  # EC2 has no event for that
        return volume

    def _argv(self, plan: RunPlan, source: Path, given: str, gate: Path) -> list[str]:
        local_filter = plan.local_filter
        if plan.gate:
            position, rate, hold = int(plan.gate.part * self.case.large), plan.gate.rate, str(int(plan.gate.hold))
            program = Path(__file__).with_name("gate.py")
            words = [sys.executable, "-S", str(program), str(gate), str(position), str(rate), hold]
            local_filter = shlex.join(words)
        if plan.door == "wrapper":
            argv = [sys.executable, str(self.product / "ec2_backup_runner.py"), "--verbose"]
            argv += [word for variable in plan.variables for word in ("-e", variable)]
            argv += ["-v", given] if given else []
            argv += ["-l", local_filter] if local_filter else []
            argv.append(str(source))
        else:
            given_variables = {
                "ec2_backup_source": str(source),
                **({"ec2_backup_volume_id": given} if given else {}),
                **({"ec2_backup_local_filter": local_filter} if local_filter else {}),
                **dict(variable.split("=", 1) for variable in plan.variables),
            }
            argv = ["ansible-playbook", "ec2_backup.ebs.backup", "-e", json.dumps(given_variables)]
        if plan.weak:
            argv = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--", *argv]
        if plan.stdout == "closed":
            argv = ["sh", "-c", 'exec "$@" >&-', "sh", *argv]
        return argv

    def _environment(self, number: int) -> dict[str, str]:
        result = {
            **os.environ,
            **self.case.environment,
            "HOME": str(self.home),
            "TMPDIR": str(self.tmp),
            processes.MARKER: str(number),
        }
        for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "EC2_BACKUP_VERBOSE", "PYTHONPATH"):
            result.pop(name, None)
        shadow = shadow_of(self.product)
        if shadow:
            result |= {"PYTHONPATH": str(shadow), "ANSIBLE_COLLECTIONS_PATH": str(shadow)}
        return result

    def cleanup(self, run_id: str, seconds: float) -> tuple[int, str]:
        """Run ``ec2-backup cleanup`` for a run, as its error message says; its status and output."""
        argv = [sys.executable, str(self.product / "ec2_backup_runner.py"), "cleanup", "--run-id", run_id]
        environment = {**self._environment(-1), "AWS_MAX_ATTEMPTS": "4"}
        done = subprocess.run(
            argv,
            env=environment,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
        return done.returncode, done.stdout.decode(errors="replace")

    def run_ids(self) -> list[str]:
        """The run IDs that the runs have tagged anything with."""
        return sorted(
            {
                str(call["parameters"][key.replace(".Key", ".Value")])
                for call in self.calls()
                if call["action"] in ("CreateSecurityGroup", "RunInstances")
                for key, value in call["parameters"].items()
                if key.endswith(".Key") and value == "ec2-backup:run-id"
            }
        )

    # -- snapshots

    def look(self) -> Snapshot:
        """A quick snapshot: no large data is read, and the bystanders are not checked."""
        return self._snapshot(closely=False)

    def snapshot(self) -> Snapshot:
        """A full snapshot."""
        return self._snapshot(closely=True)

    def _snapshot(self, closely: bool) -> Snapshot:
        instances = {
            found["InstanceId"]: found["State"]["Name"]
            for reservation in self.ec2.describe_instances()["Reservations"]
            for found in reservation["Instances"]
        }
        volumes = {found["VolumeId"]: found for found in self.ec2.describe_volumes()["Volumes"]}
        now = Snapshot(
            runs=tuple(run.run() for run in self.runs),
            instances={name: state for name, state in instances.items() if name not in self._instances},
            volumes={
                name: self._look_at(found, closely)
                for name, found in volumes.items()
                if name not in self._others and not is_root(found)
            },
            given=tuple(sorted({*self.given} - {""})),
            groups=tuple(sorted(self._group_names() - self._groups)),
            processes=tuple(map(str, self.watch.ours())),
            api_down=self.case.api_down,
            winners=self.case.winners,
        )
        if not closely:
            return now
        return dataclasses.replace(
            now,
            bystanders=dict(self._judge_bystanders(instances, volumes)),
            files=tuple(self._files_left()),
            secrets=tuple(self._secrets()),
        )

    def _judge_bystanders(self, instances: dict[str, str], volumes: dict[str, Any]) -> Iterator[tuple[str, str]]:
        for name in self._instances:
            state = instances.get(name, "gone")
            # A run that a signal ended at once may be over before the bystander is up.
            yield name, "" if state in ("pending", "running") else f"a bystander is {state}"
        for name in self._root_names:
            yield name, "" if name in volumes else "the root volume of a bystander is gone"
        for name, digest in self._volumes.items():
            state = volumes[name]["State"] if name in volumes else "gone"
            if state != "available":
                yield name, f"a bystander is {state}"
            else:
                yield name, "" if digest_of_data(self.image(name)) == digest else "a bystander's bytes have changed"

    def _look_at(self, found: dict[str, Any], closely: bool) -> Volume:
        tags = {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])}
        name = found["VolumeId"]
        run = next((run for run in self.runs if tags.get("ec2-backup:source", "").endswith(f":{run.source}")), None)
        complete = closely and tags.get("ec2-backup:status") == "complete"
        length = int(tags.get("ec2-backup:bytes", "0"))
        return Volume(
            state=found["State"],
            tags=tags,
            attached=bool(found["Attachments"]),
            source=str(run.source) if run else "",
            sha256=digest_of(self.image(name), length) if complete else "",
            differences=tuple(self._compare(run, name)) if complete and run else (),
        )

    def _compare(self, run: Backup, volume_id: str) -> list[str]:
        """How a volume's archive differs from its source. With 0, what changed must be as it was or as it is."""
        copy = Path(tempfile.mkdtemp(dir=self.directory / "check"))
        try:
            done = recover(self.image(volume_id), copy)
            if done:
                return [done]
            changing = self.case.changing if run.number == 0 else ()
            was = differences(run.before, copy)
            found = [f"{words} {path}" for path, words in was.items() if not below(path, changing)]
            if changing and run.process.returncode == 0:
                now = differences(run.source, copy)
                found += [f"neither as before nor as after: {was[path]} {path}" for path in set(was) & set(now)]
            return found
        finally:
            shutil.rmtree(copy)

    def _files_left(self) -> Iterator[str]:
        for path in sorted(self.tmp.iterdir()):
            if path.name != "filler":
                yield str(path.relative_to(self.directory))
        for path in self.home.rglob("*"):
            if path.is_file() and SECRET in path.read_bytes():
                yield f"a key: {path.relative_to(self.directory)}"

    def _secrets(self) -> Iterator[str]:
        for path in [*(run.stdout for run in self.runs), *(run.stderr for run in self.runs)]:
            if SECRET in path.read_bytes():
                yield f"a private key is in {path.name}"

    def end(self) -> None:
        """End what still runs."""
        processes.end_all(self.watch.ours)
        for run in self.runs:
            run.process.wait()


# ---- helpers --------------------------------------------------------------------------------------------------------


def shadow_of(product: Path) -> Path | None:
    """The directory in which a copy of the checkout is a collection (product.py); None for the checkout itself."""
    shadow = product / ".shadow"
    return shadow if shadow.is_dir() else None


def is_root(volume: dict[str, Any]) -> bool:
    """Whether it is the root volume of an instance: it is deleted with the instance, and not checked by itself."""
    return bool(volume["Attachments"]) and volume["Attachments"][0]["Device"] == "/dev/xvda"


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    """Tags as boto3 wants them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def broken_pipe() -> int:
    """The writing end of a pipe whose reading end is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def make_source(root: Path, large: int, draw: random.Random) -> Path:
    """A directory with one large file, and small ones that tar reads before and after it."""
    for name in ("a", "z"):
        (root / name).mkdir(parents=True)
        for number in range(6):
            (root / name / f"file-{number}").write_bytes(draw.randbytes(draw.randrange(20_000)))
    (root / "m-large").write_bytes(draw.randbytes(large))
    (root / "z-last").write_bytes(draw.randbytes(1000))
    return root


def tar_of(directory: Path, draw: random.Random) -> bytes:
    """An archive of one file, for the earlier backup on a volume."""
    path = directory / "earlier"
    path.write_bytes(draw.randbytes(100_000))
    return subprocess.run(["tar", "-cC", directory, "earlier"], stdout=subprocess.PIPE, check=True).stdout


def data_of(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of what is in a sparse file; a hole and zeros are the same."""
    size, offset = os.fstat(file.fileno()).st_size, 0
    while offset < size:
        try:
            offset = os.lseek(file.fileno(), offset, os.SEEK_DATA)
        except OSError:  # no more data
            return
        end = min(os.lseek(file.fileno(), offset, os.SEEK_HOLE), offset + (1 << 20))
        data = os.pread(file.fileno(), end - offset, offset)
        if data.strip(b"\0"):
            yield offset, data
        offset = end


def digest_of_data(path: Path) -> str:
    """A digest of a volume's content, without reading its holes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for offset, data in data_of(file):
            digest.update(offset.to_bytes(8, "big") + data)
    return digest.hexdigest()


def digest_of(path: Path, length: int) -> str:
    """SHA-256 of a volume's first bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while length and (data := file.read(min(1 << 20, length))):
            digest.update(data)
            length -= len(data)
    return digest.hexdigest()


def recover(image: Path, target: Path) -> str:
    """Recover by hand: the volume's bytes through tar. Returns tar's complaint, or nothing."""
    with image.open("rb") as volume:
        done = subprocess.run(
            ["tar", "--extract", "--acls", "--xattrs", "--numeric-owner", "--same-permissions"],
            stdin=volume,
            cwd=target,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    return f"tar cannot read it: {done.stderr.decode(errors='replace')[-200:]}" if done.returncode else ""


def differences(source: Path, copy: Path) -> dict[str, str]:
    """What rsync would change to make the copy equal: its code by path."""
    if not source.exists():
        return {".": "the source is gone"}
    done = subprocess.run(
        ["rsync", "-naicHAX", "--numeric-ids", "--delete", f"{source}/", f"{copy}/"], stdout=subprocess.PIPE, check=True
    )
    lines = [line.partition(" ") for line in done.stdout.decode(errors="replace").splitlines()]
    return {os.path.normpath(path.strip()): code for code, _, path in lines}


def below(path: str, names: tuple[str, ...]) -> bool:
    """Whether a path is one of these, or below one of them other than ``.``."""
    return any(path == name or (name != "." and path.startswith(f"{name}/")) for name in names)


def reset_signals() -> None:
    """Reset SIGINT and SIGQUIT: a shell starts its background jobs, which a campaign may be, with both ignored."""
    for name in POLITE:
        signal.signal(number_of(name), signal.SIG_DFL)


def wait_all(runs: list[Backup], deadline: float) -> bool:
    """Wait for the runs' ends, until the deadline (of time.monotonic); whether all have ended."""
    for run in runs:
        try:
            run.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
    return True


def number_of(name: str) -> int:
    """A signal's number."""
    return int(signal.Signals[name])
