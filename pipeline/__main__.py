"""`python -m pipeline`, and the console script."""

import sys

from pipeline.cli import run


def main() -> None:
    sys.exit(run())


if __name__ == "__main__":
    main()
