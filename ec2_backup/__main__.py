# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``ec2-backup`` and ``python -m ec2_backup``: handles Ctrl-C also while the other modules are imported."""

import sys


def main() -> int:
    """Run the command line, and return the exit status."""
    try:
        from ec2_backup.cli import main as command_line
    except KeyboardInterrupt:
        from ec2_backup.show.report import interrupted
        from ec2_backup.status import speak_json, wants_json

        speak_json(wants_json(sys.argv[1:]))
        return interrupted("backup")
    return command_line()


if __name__ == "__main__":
    sys.exit(main())
