"""`pipeline serve`, but that nobody draws: the answers of the batches it takes are written by content.py."""

from __future__ import annotations

import sys

from pipeline.cli import run
from pipeline.local import press

press._UNDRAWN = "SELECT * FROM batch WHERE FALSE"  # noqa: SLF001 - a service for others need not be able to do this

if __name__ == "__main__":
    sys.exit(run(["serve", *sys.argv[1:]]))
