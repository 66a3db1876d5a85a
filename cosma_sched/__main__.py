"""``python -m cosma_sched`` is the command ``cosma-sched``."""

from __future__ import annotations

import sys

from cosma_sched.cli import main

if __name__ == "__main__":
    sys.exit(main())
