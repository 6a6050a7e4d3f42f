# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``ec2-backup list``: lists the backups in a region."""

import argparse
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.catalog import price_table
from ansible_collections.ec2_backup.ebs.plugins.module_utils.flags import parse_aws_flags
from ansible_collections.ec2_backup.ebs.plugins.module_utils.runs import new_run_id
from ansible_collections.ec2_backup.ebs.plugins.module_utils.text import printable
from ec2_backup.arguments import options, settings
from ec2_backup.arguments.parser import Parser
from ec2_backup.run.supervise import Supervised, attend
from ec2_backup.show.display import watch
from ec2_backup.show.progress import binary
from ec2_backup.show.report import Report, emit_result, end_failed
from ec2_backup.status import Status, UserError, say

EPILOG = """\
examples:
  ec2-backup list --source /srv/data
  ec2-backup list --host 'web*' --json
"""

DETAILS = """\
states:
  complete     a backup
  writing      being written now
  interrupted  not a backup: writing it was interrupted. A volume that the run
               made can be removed (see `ec2-backup cleanup`); one that was
               given with -v can be written to again
  unknown      its tags do not say

A pattern's '*' matches '/' too.

USD/MONTH is the volume's list price in us-east-1, wherever it is, unless
-e ec2_backup_catalog_prices='{"gp3": 0.0952}' gives other prices per GiB.
"""

Entry = Mapping[str, Any]  # as the role catalog returns it


def source(text: str) -> str:
    """Make a path absolute, as ``backup`` does; leave a pattern unchanged."""
    if not text:
        raise argparse.ArgumentTypeError("a path must not be empty")
    return text if set(text) & set("*?[") else os.path.abspath(text)


def parser() -> Parser:
    """Return the parser of ``list``."""
    result = Parser(
        prog="ec2-backup list",
        usage="ec2-backup list [OPTION]...",
        description="List the backups in a region, the newest first.",
        epilog=EPILOG,
        details=DETAILS,
    )
    result.add_argument(
        "--source",
        metavar="PATTERN",
        type=source,
        help="only backups of this path; or a shell pattern",
    )
    result.add_argument("--host", metavar="HOST", help="only backups of this host; or a shell pattern")
    options.add_common(result)
    return result


def age(seconds: int | None) -> str:
    """Return a time for people, in its largest unit: ``3 d``."""
    if seconds is None:
        return "-"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _text(value: Any) -> str:
    return "-" if value is None else printable(value)


def _source(entry: Entry) -> str:
    return _text(":".join(part for part in (entry["source_host"], entry["source_path"]) if part) or None)


def _finished(entry: Entry) -> str:
    return entry["finished"][:16].replace("T", " ") if entry["finished"] else "-"


def _price(entry: Entry) -> str:
    return "-" if entry["price_per_month"] is None else f"{entry['price_per_month']:.2f}"


SOURCE = 1  # the column that is shortened on a narrow terminal
COLUMNS = (
    # header, whether it holds numbers, the text for an entry
    ("VOLUME", False, lambda entry: _text(entry["volume_id"])),
    ("SOURCE", False, _source),
    ("SIZE", True, lambda entry: f"{_text(entry['size_gib'])} GiB"),
    ("ARCHIVE", True, lambda entry: binary(entry["bytes"])),
    ("FINISHED (UTC)", False, _finished),
    ("AGE", True, lambda entry: age(entry["age_seconds"])),
    ("ZONE", False, lambda entry: _text(entry["zone"])),
    ("STATE", False, lambda entry: _text(entry["state"])),
    ("USD/MONTH", True, _price),
)
GAP = "  "
NARROWEST = 12  # cells that the column keeps at least


def cells(text: str) -> int:
    """Return how many cells of a terminal a text takes."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) != 0 for character in text)


def _fitting(characters: Iterable[str], width: int) -> str:
    taken = ""
    for character in characters:
        if cells(taken + character) > width:
            break
        taken += character
    return taken


def shorten(text: str, width: int) -> str:
    """Shorten a text to a number of cells by leaving its middle out."""
    if cells(text) <= width:
        return text
    head = _fitting(text, (width - 1) // 2)
    return head + "…" + _fitting(reversed(text), width - 1 - cells(head))[::-1]


def table(entries: Sequence[Entry], width: int | None = None) -> list[str]:
    """Return the lines of a table for people, its header first; none without entries.

    :param width: in cells; exceeded only if shortening the source to ``NARROWEST`` is not enough. None: no limit.
    """
    if not entries:
        return []
    rows = [[header for header, _, _ in COLUMNS], *([show(entry) for _, _, show in COLUMNS] for entry in entries)]
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    too_much = sum(widths) + len(GAP) * (len(COLUMNS) - 1) - width if width else 0
    if too_much > 0:
        widths[SOURCE] = max(min(NARROWEST, widths[SOURCE]), widths[SOURCE] - too_much)

    def line(row: Sequence[str]) -> str:
        aligned = []
        for text, broad, (_, numbers, _) in zip(row, widths, COLUMNS, strict=True):
            shown = shorten(text, broad)
            padding = " " * (broad - cells(shown))
            aligned.append(padding + shown if numbers else shown + padding)
        return GAP.join(aligned).rstrip()

    return [line(row) for row in rows]


def region(variables: Mapping[str, Any]) -> str:
    """Return the region that was searched, determined as the modules of amazon.aws do it."""
    flags = variables.get("ec2_backup_flags_aws", os.environ.get("EC2_BACKUP_FLAGS_AWS"))
    settings = {**parse_aws_flags(flags), **variables}
    named = settings.get("ec2_backup_region") or os.environ.get("AWS_REGION")
    if named:
        return str(named)
    import boto3  # here, because importing it is slow

    found = boto3.Session(profile_name=settings.get("ec2_backup_profile") or None).region_name
    return found or "the configured region"


def check_prices(prices: Any) -> None:
    """Refuse wrong prices with a short message. What is not a dictionary is refused by the role's argument spec."""
    try:
        price_table(prices if isinstance(prices, dict) else None)
    except ValueError as error:
        raise UserError(str(error), Status.USAGE) from error


def _lines(entries: Sequence[Entry]) -> list[str]:
    width = shutil.get_terminal_size().columns if sys.stdout and sys.stdout.isatty() else None
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    # A name with characters that the terminal does not have must not prevent the list.
    return [line.encode(encoding, "replace").decode(encoding) for line in table(entries, width)]


def conclude(run: Supervised, variables: Mapping[str, Any], report: Report) -> int:
    """Print the list, or the error, and return the exit status."""
    entries = run.outcome.results.get("ec2_backup_catalog")
    if run.signal is not None or run.outcome.rc != 0 or entries is None:
        return end_failed(run, report)
    if not entries and not report.as_json:
        filtered = any(variables.get(f"ec2_backup_catalog_{name}") for name in ("source", "host"))
        say(f"no backups in {region(variables)}" + (" match" if filtered else ""))
        return Status.DONE
    return emit_result(report, Status.DONE, {"volumes": entries}, _lines(entries), "the list")


def main(argv: Sequence[str]) -> int:
    """Run the command ``list``, and return the exit status."""
    arguments = parser().parse_args(argv)
    settings.check_environment()
    asked = settings.given(catalog_source=arguments.source, catalog_host=arguments.host)
    variables = settings.role_variables(arguments, asked)
    check_prices(variables.get("ec2_backup_catalog_prices"))
    with watch(arguments) as observer:
        run = attend("list", new_run_id(), variables, observer)
        observer.finish()
        return conclude(run, variables, Report("list", None, observer.phases))
