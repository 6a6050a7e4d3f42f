"""Plays a case in a lab of its own, and reads its verdict."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults import cases
from tests.faults.inject import CLEANUP_SECONDS, WATCHDOG_SLACK, Verdict

CHECKOUT = Path(__file__).resolve().parents[2]


def play(case: cases.Case, product: Path = CHECKOUT, keep: Path | None = None) -> Verdict:
    """Play a case in a fresh lab. With `keep`, what a case with violations left behind is moved there."""
    directory = Path(tempfile.mkdtemp(prefix="ec2-faults-"))
    coordinates = [str(case.seed), case.kind, str(case.variant), str(directory), str(product)]
    argv = [str(CHECKOUT / "lab" / "run"), sys.executable, "-m", "tests.faults.inject", *coordinates]
    log = directory / "log"
    try:
        with log.open("wb") as stderr:
            done = subprocess.run(
                argv,
                cwd=CHECKOUT,
                env={**os.environ, **case.lab, "EC2_LAB_STATE": str(directory / "state")},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                timeout=case.seconds + case.idle + WATCHDOG_SLACK + 2 * CLEANUP_SECONDS,
                check=False,
            )
        verdict = Verdict(**json.loads(done.stdout))
    except (ValueError, subprocess.TimeoutExpired):
        said = log.read_text(errors="replace").strip()[-600:]
        verdict = Verdict([f"the_campaign_itself: {said or 'it took too long'}"])
    if keep and verdict.violations:
        target = keep / f"{case.kind}-{case.seed}-{case.variant}"
        shutil.rmtree(target, ignore_errors=True)
        for unneeded in [*directory.glob("source-*"), directory / "check", directory / "state" / "volumes"]:
            shutil.rmtree(unneeded, ignore_errors=True)
        shutil.copytree(directory, target, symlinks=True, ignore_dangling_symlinks=True)
        verdict.notes.append(f"kept: {target}")
    shutil.rmtree(directory, ignore_errors=True)
    return verdict
