# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a backup costs this machine: `make bench-control [N=3] [BASE=revision]`; docs/benchmarks.md tells about it.

Backs 2 MiB up N times, each time in a fresh lab in which an instance takes 1 s to run and 2 s more until its sshd
answers. With --base another revision takes turns with this checkout (A B A B …). Prints the least, the median and the
most of each figure. It asserts nothing: the figures are for people to compare.

CPU seconds are those of the wrapper and all its descendants (Ansible, modules, ssh, tar; see tests/bench/measured.py),
so neither the lab's server nor the instances count. Module processes are the Python interpreters that ran an Ansible
module (tests/bench/hooks/python). The boot that is taken off the wall time is what the lab is told to take,
3 s, no matter what a run does meanwhile; the stream is the time that its module reports.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tests.bench.checkouts import CHECKOUT, GitError, checked_out

PENDING, BOOT = 1.0, 2.0  # seconds
FILES, FILE_BYTES = 32, 64 * 1024  # 2 MiB
HOOKS = Path(__file__).with_name("hooks")
MEASURED = Path(__file__).with_name("measured.py")
HERE = "this checkout"


class BenchError(Exception):
    """Why there is nothing to print, for people."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What one backup took."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds of all local processes."""
    stream: float
    """Seconds of the wall time in which the archive went over."""
    modules: tuple[tuple[str, float], ...]
    """The module processes: name and CPU seconds, in the order of their ends."""
    calls: Mapping[str, int]
    """How often each action of the API was called."""

    @property
    def overhead(self) -> float:
        """Seconds of wall time without boot and stream."""
        return self.wall - PENDING - BOOT - self.stream


def parse(report: str, records: str, calls: str) -> Run:
    """What one backup took, from what was written meanwhile.

    :param report: measured.py's JSON.
    :param records: the hooks' lines of JSON.
    :param calls: the lab's calls.jsonl.
    """
    whole = json.loads(report)
    lines = [json.loads(line) for line in records.splitlines()]
    return Run(
        wall=whole["wall"],
        cpu=whole["cpu"],
        stream=sum(line["stream"] for line in lines if "stream" in line),
        modules=tuple((line["module"], line["cpu"]) for line in lines if "module" in line),
        calls=collections.Counter(json.loads(line)["action"] for line in calls.splitlines()),
    )


# ---- one run --------------------------------------------------------------------------------------------------------


def environment(directory: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a run: nobody's settings, the lab's times, the hooks."""
    kept = {key: value for key, value in environ.items() if not key.startswith(("EC2_LAB_", "EC2_BACKUP_", "ANSIBLE_"))}
    return {
        **kept,
        "EC2_LAB_STATE": str(directory / "lab"),
        "EC2_LAB_PENDING": str(PENDING),
        "EC2_LAB_BOOT": str(BOOT),
        "XDG_CONFIG_HOME": str(directory / "no-settings"),
        "XDG_STATE_HOME": str(directory / "logs"),
        "PYTHONPATH": str(HOOKS / "python"),
        "ANSIBLE_CALLBACK_PLUGINS": str(HOOKS / "callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "bench_stream",
        "EC2_BACKUP_BENCH_RECORDS": str(directory / "records.jsonl"),
    }


def backup(checkout: Path, source: Path) -> Run:
    """Back a directory up with a checkout's product, in a fresh lab of this checkout.

    :raises BenchError: the lab or the backup failed.
    """
    with tempfile.TemporaryDirectory(prefix="ec2-backup-bench-") as name:
        directory = Path(name)
        product = [checkout / ".venv" / "bin" / "python", checkout / "ec2_backup_runner.py", source]
        (directory / "records.jsonl").touch()
        done = subprocess.run(
            [CHECKOUT / "lab" / "run", sys.executable, MEASURED, directory / "report.json", *product],
            env=environment(directory, os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0 or not done.stdout.startswith("vol-"):
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise BenchError(f"a backup ended with status {done.returncode}: {' / '.join(said[-3:])}")
        read = [directory / "report.json", directory / "records.jsonl", directory / "lab" / "calls.jsonl"]
        return parse(*(file.read_text() for file in read))


def take_turns(checkouts: Mapping[str, Path], count: int) -> dict[str, list[Run]]:
    """Back up ``count`` times with each checkout, one after the other, and say how it went."""
    runs: dict[str, list[Run]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory(prefix="ec2-backup-bench-source-") as name:
        source = Path(name)
        data = random.Random(1)
        for number in range(FILES):
            (source / f"file{number:02}").write_bytes(data.randbytes(FILE_BYTES))
        for number in range(count):
            for which, checkout in checkouts.items():
                run = backup(checkout, source)
                runs[which].append(run)
                print(
                    f"run {number + 1} of {count}, {which}: {run.wall:.1f} s wall, {run.cpu:.1f} s CPU",
                    file=sys.stderr,
                    flush=True,
                )
    return runs


# ---- the table ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure of all runs, a list of values a checkout."""

    title: str
    values: Sequence[Sequence[float]]
    decimals: int = 1


FIGURES: tuple[tuple[str, Callable[[Run], float], int], ...] = (
    ("wall time, s", lambda run: run.wall, 1),
    ("  without boot and stream, s", lambda run: run.overhead, 1),
    ("CPU time of all local processes, s", lambda run: run.cpu, 1),
    ("module processes", lambda run: len(run.modules), 0),
    ("API calls", lambda run: sum(run.calls.values()), 0),
)


def rows(runs: Sequence[Sequence[Run]]) -> list[Row]:
    """The figures, then the API calls by action, then the CPU time of the module processes by module."""
    result = [
        Row(title, [[figure(run) for run in several] for several in runs], decimals)
        for title, figure, decimals in FIGURES
    ]
    for action in sorted({action for several in runs for run in several for action in run.calls}):
        result.append(Row(f"  {action}", [[run.calls.get(action, 0) for run in several] for several in runs], 0))
    result.append(Row("CPU time of module processes, s", [[_cpu(run) for run in several] for several in runs]))
    for module in sorted({module for several in runs for run in several for module, _ in run.modules}):
        result.append(Row(f"  {module}", [[_cpu(run, module) for run in several] for several in runs], 2))
    return result


def _cpu(run: Run, module: str | None = None) -> float:
    return sum(cpu for name, cpu in run.modules if module in (None, name))


def ratio(values: Sequence[Sequence[float]]) -> str:
    """The first checkout's median divided by the second's; empty if there is no second, ``-`` if its median is 0."""
    if len(values) < 2:
        return ""
    here, base = (statistics.median(each) for each in values)
    return f"{here / base:.2f}" if base else "-"


def table(names: Sequence[str], shown: Iterable[Row]) -> str:
    """The rows for people: least, median and most for each checkout, and the ratio of the medians."""
    heads = "".join(f"  {name[:24]:>26}" for name in names)
    lines = [
        f"{'':36}{heads}{'   ratio' if len(names) > 1 else ''}",
        f"{'':36}" + f"  {'min':>8} {'median':>8} {'max':>8}" * len(names),
    ]
    for row in shown:
        text = f"{row.title:36}"
        for values in row.values:
            spread = (min(values), statistics.median(values), max(values))
            text += "  " + " ".join(f"{value:8.{row.decimals}f}" for value in spread)
        last = ratio(row.values)
        lines.append(f"{text}{last:>8}" if last else text)
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------------------------------


def positive(word: str) -> int:
    """A number of runs, as argparse wants it.

    :raises argparse.ArgumentTypeError: it is none.
    """
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is not a number of runs: give 1 or more")
    return int(word)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m tests.bench.control", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--runs", type=positive, default=3, metavar="N", help="how many backups (default: 3)")
    result.add_argument("--base", default="", metavar="REVISION", help="compare with this revision; git's names for it")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print. The exit status: 0, or 1 if something could not be run."""
    asked = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # remove the worktree then too
    busy, processors = os.getloadavg()[0], len(os.sched_getaffinity(0))
    try:
        with contextlib.ExitStack() as stack:
            checkouts = {HERE: CHECKOUT}
            if asked.base:
                checkouts[asked.base] = stack.enter_context(checked_out(asked.base))
            runs = take_turns(checkouts, asked.runs)
    except (BenchError, GitError, OSError) as error:
        print(f"bench-control: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    print(
        f"Backups of {FILES * FILE_BYTES / 2**20:.0f} MiB, {asked.runs} with each checkout; an instance takes "
        f"{PENDING:.0f} s to run, and {BOOT:.0f} s more until its sshd answers.\n"
        f"Load of this machine before: {busy:.1f} on {processors} processors.\n"
    )
    print(table(list(runs), rows(list(runs.values()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
