# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Entry point of ``python -m lab``, and of ``lab/run``, which runs this directory."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a directory: the checkout is not on sys.path yet
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from lab.cli import main

sys.exit(main(sys.argv[1:]))
