"""The fault campaign: ``python -m tests.faults --count N --seed S``; docs/faults.md describes it."""

from __future__ import annotations

import argparse
import collections
import itertools
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults import cases, product, stage
from tests.faults.cases import Case
from tests.faults.inject import Verdict


def chosen(arguments: argparse.Namespace) -> Iterator[Case]:
    """The cases asked for."""
    if arguments.case is not None:
        yield cases.make(arguments.seed, arguments.only, arguments.case)
        return
    every: Iterator[Case] = cases.campaign(arguments.seed)
    if arguments.only:
        every = (cases.make(arguments.seed, arguments.only, variant) for variant in itertools.count())
    yield from itertools.islice(every, arguments.first, arguments.first + arguments.count)


def reproduce(case: Case, plant: str | None) -> str:
    """The command that repeats a case."""
    planted = f" PLANT={plant}" if plant else ""
    return f"make faults SEED={case.seed} ONLY={case.kind} CASE={case.variant}{planted}"


def line(index: int, case: Case, verdict: Verdict) -> str:
    """One case, in one line."""
    statuses = "/".join("hung" if status is None else str(status) for status in verdict.statuses) or "none"
    word = f"{len(verdict.violations)} VIOLATIONS" if verdict.violations else "missed" if verdict.missed else "ok"
    return (
        f"{index:4} {case.kind:25} {case.variant:3}  {case.moment:32} exit {statuses:8} {verdict.seconds:6.1f} s"
        f"  {word}   [{case.detail}]"
    )


def table(results: Iterable[tuple[Case, Verdict]]) -> str:
    """A table: how many cases of each kind were tried, missed and violated."""
    tried: dict[str, list[Verdict]] = collections.defaultdict(list)
    for case, verdict in results:
        tried[case.kind].append(verdict)
    tried["all"] = [verdict for them in tried.values() for verdict in them]
    rows = [
        (kind, len(them), sum(v.missed for v in them), sum(bool(v.violations) for v in them))
        for kind, them in sorted(tried.items(), key=lambda item: (item[0] == "all", item[0]))
    ]
    head = f"{'fault':27}{'tried':>8}{'missed':>8}{'violated':>10}"
    return "\n".join([head, "-" * len(head), *("{:27}{:8}{:8}{:10}".format(*row) for row in rows)])


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m tests.faults", description="Break backups, and check what is left."
    )
    result.add_argument("--count", type=int, default=200, metavar="N", help="how many cases (default: 200)")
    result.add_argument("--first", type=int, default=0, metavar="I", help="the first of them (default: 0)")
    result.add_argument(
        "--seed", type=int, default=1, metavar="S", help="decides everything about the cases (default: 1)"
    )
    result.add_argument("--only", choices=sorted(cases.KINDS), metavar="KIND", help="only cases of this kind")
    result.add_argument("--case", type=int, metavar="K", help="only this one of the kind, as the report names it")
    result.add_argument("--jobs", type=int, default=2, metavar="J", help="how many at a time (default: 2)")
    result.add_argument(
        "--plant", choices=sorted(product.PLANTS), help="break the product first: the campaign must notice it"
    )
    result.add_argument("--product", type=Path, default=stage.CHECKOUT, help="the checkout to test (default: this one)")
    result.add_argument("--keep", type=Path, metavar="DIR", help="keep what cases with violations leave, in DIR")
    result.add_argument("--list", action="store_true", help="show the cases and play none")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; the exit status is 1 if an invariant was broken."""
    arguments = parser().parse_args(argv)
    if arguments.case is not None and not arguments.only:
        parser().error("--case needs --only")
    asked = list(chosen(arguments))
    if arguments.list:
        for index, case in enumerate(asked, arguments.first):
            print(f"{index:4} {case.kind:25} {case.variant:3}  {case.moment:32} [{case.detail}]")
        return 0
    began = time.monotonic()
    results: list[tuple[Case, Verdict]] = []
    with product.ready(arguments.product, arguments.plant) as tested, ThreadPoolExecutor(arguments.jobs) as pool:
        played = pool.map(lambda case: stage.play(case, tested, arguments.keep), asked)
        for index, (case, verdict) in enumerate(zip(asked, played, strict=True), arguments.first):
            results.append((case, verdict))
            print(line(index, case, verdict), flush=True)
            for words in verdict.violations:
                print(f"       ! {words}", flush=True)
            if verdict.violations:
                for note in verdict.notes:
                    print(f"       . {note}", flush=True)
    broken = [(case, verdict) for case, verdict in results if verdict.violations]
    print(f"\n{table(results)}\n\n{len(results)} cases in {time.monotonic() - began:.0f} s")
    for case, _ in broken:
        print(f"again: {reproduce(case, arguments.plant)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
