#!/usr/bin/env python3
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The front door of a checkout: `ec2-backup`, from the virtual environment that `make` made here."""

import os
import sys

if __name__ == "__main__":
    here = os.path.dirname(os.path.realpath(__file__))
    python = os.path.join(here, ".venv", "bin", "python")
    if os.path.exists(python) and os.path.realpath(sys.prefix) != os.path.realpath(os.path.join(here, ".venv")):
        os.execv(python, [python, *sys.argv])
    try:
        from ec2_backup.__main__ import main

        sys.exit(main())
    except ImportError as error:
        sys.exit(f"ec2-backup: error: {error}: run `make` in {here} first, or `pip install {here}`")
    except KeyboardInterrupt:
        print("ec2-backup: error: ended by SIGINT", file=sys.stderr)
        sys.exit(130)
