"""`lab/run`: its exit status, its signals, and that nothing is left when it ends, for whatever reason."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.harness import FAST, RUN, running_lab, wait_for

LAUNCH = """
import json, sys
from pathlib import Path
from tests.lab.harness import Lab
import os
class Here:
    pid = os.getpid()
lab = Lab(Here(), dict(os.environ), Path(sys.argv[1]))
instance = lab.launch(BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "VolumeType": "gp3"}}])
lab.login(instance)
print(instance, flush=True)
sys.stdin.read()
"""


def start(
    *command: str,
    state: Path | None = None,
) -> subprocess.Popen[str]:
    environment = {**os.environ, **FAST, "PYTHONPATH": str(RUN.parent.parent)}
    environment.pop("EC2_LAB_STATE", None)
    if state:
        environment["EC2_LAB_STATE"] = str(state)
    return subprocess.Popen(
        [RUN, *command],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*command: str, state: Path | None = None) -> tuple[int, str, str]:
    with start(*command, state=state) as process:
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


def leftovers(mark: str) -> list[str]:
    """Descriptions of the processes, loop devices and mounts that have `mark` in their command, variables or path."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if mark.encode() in text and process.name != str(os.getpid()):
            found.append(f"process {process.name}: {text[:200]!r}")
    loops = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout.splitlines()
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return found + [line for line in loops + mounts if mark in line]


def test_the_exit_status_is_that_of_the_command_and_the_lab_prints_nothing() -> None:
    assert run("sh", "-c", "cat; echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")


def test_a_command_that_a_signal_ends_gives_128_plus_its_number() -> None:
    assert run("sh", "-c", "kill -TERM $$")[0] == 128 + signal.SIGTERM


def test_a_command_that_is_not_found_gives_127() -> None:
    status, out, err = run("no-such-command")
    assert (status, out, err) == (127, "", "lab/run: error: no-such-command: not found\n")


def test_wrong_usage_and_wrong_settings_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run()[0] == 2
    (tmp_path / "calls.jsonl").touch()
    status, _, err = run("true", state=tmp_path)
    assert status == 2
    assert "is not empty" in err
    monkeypatch.setenv("EC2_LAB_DEVICES", "scsi")
    status, _, err = run("true")
    assert (status, err) == (2, "lab/run: error: EC2_LAB_DEVICES is 'scsi': set it to nitro or xen\n")


def test_without_root_the_message_asks_for_it() -> None:
    command = [sys.executable, "-c", "import os; from lab.cli import main; os.setuid(65534); print(main(['true']))"]
    result = subprocess.run(command, cwd=RUN.parent.parent, capture_output=True, text=True, check=False)
    assert result.stdout == "69\n"
    assert "needs root" in result.stderr


def test_a_state_directory_that_the_user_named_is_kept_and_any_other_is_removed(tmp_path: Path) -> None:
    named = tmp_path / "state"
    assert run("sh", "-c", 'echo "$EC2_LAB_STATE"', state=named)[1] == f"{named}\n"
    assert (named / "calls.jsonl").exists()
    mine = Path(run("sh", "-c", 'test -d "$EC2_LAB_STATE/volumes" && echo "$EC2_LAB_STATE"')[1].strip())
    assert mine.name.startswith("ec2-lab-")
    assert not mine.exists()


def test_signals_are_passed_on_to_the_command(tmp_path: Path) -> None:
    script = 'trap "echo caught; exit 3" TERM; echo ready; while :; do sleep 0.05; done'
    with start("sh", "-c", script) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.stdout.readline() == "caught\n"
        assert process.wait(10) == 3


def test_a_command_cannot_reach_the_users_own_account() -> None:
    variables = json.loads(
        run("env", "AWS_PROFILE=", sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))")[1]
    )
    assert variables["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
    assert variables["AWS_CONFIG_FILE"] == variables["AWS_SHARED_CREDENTIALS_FILE"] == "/dev/null"
    assert variables["AWS_REGION"] == variables["AWS_DEFAULT_REGION"] == "us-east-1"


@pytest.mark.parametrize("how", ["end", "TERM", "KILL"])
def test_nothing_is_left_after_the_lab_has_ended(tmp_path: Path, how: str) -> None:
    state = tmp_path / "state"
    with start("python", "-c", LAUNCH, str(tmp_path), state=state) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("i-"), process.stderr and process.stderr.read()
        assert any("loop" in line for line in leftovers(str(state)[-20:]) + leftovers(str(state)))
        if how == "end":
            assert process.stdin
            process.stdin.close()
        else:
            process.send_signal(getattr(signal, f"SIG{how}"))
        process.wait(20)
    wait_for(lambda: not leftovers(str(state)), f"all of the lab to be gone; there was {leftovers(str(state))}", 5)


def test_two_labs_run_at_once_and_do_not_see_each_other(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with running_lab(tmp_path / "a") as first, running_lab(tmp_path / "b") as second:
        with first.network():
            one = first.launch()
            address = first.login(one)
            name = first.ssh(address, "hostname; touch mine").stdout
        with second.network():
            two = second.launch()
            assert second.login(two) == address, "each lab has a network of its own, so both use the same address"
            assert second.ssh(address, "hostname; ls").stdout == name
            assert len(second.ec2.describe_instances()["Reservations"]) == 1
