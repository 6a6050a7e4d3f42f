"""Entry point of `python -m lab` and of `lab/run` (`python .../lab`, which has no package of its own yet)."""

from __future__ import annotations

import os
import sys

if not __package__:
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from lab.cli import main

sys.exit(main(sys.argv[1:]))
