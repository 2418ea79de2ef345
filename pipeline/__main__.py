"""`python -m pipeline`, and the console script."""

import os
import signal
import sys
from types import FrameType


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    # Only now, as it takes a tenth of a second in which one may be interrupted.
    from pipeline.cli import run, streams  # noqa: PLC0415 - as said
    from pipeline.cli.signals import Interrupted  # noqa: PLC0415

    streams.steady()
    try:
        code = run()
    except Interrupted as interrupted:  # once more, on the way out
        code = 128 + interrupted.number
    if code > _SIGNALLED:
        # A call on its way in another thread would hold up the end for as long as it takes.
        streams.flush()
        os._exit(code)
    sys.exit(code)


_SIGNALLED = 128


def _leave(number: int, _frame: FrameType | None) -> None:
    """Before the command is known, and after it has ended, there is nothing to finish."""
    os._exit(128 + number)


if __name__ == "__main__":
    main()
