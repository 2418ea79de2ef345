"""`python -m pipeline`, and the console script."""

import sys


def main() -> None:
    from pipeline.cli import run

    sys.exit(run())


if __name__ == "__main__":
    main()
