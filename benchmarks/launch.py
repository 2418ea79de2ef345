"""Start a command from a process that is smaller than any contender, and tell how it was.

launch.py REPORT COMMAND…     writes: seconds, ru_maxrss, exit code

The kernel counts the memory of whoever starts a process as that of the process: it was its copy for a moment.
"""

import os
import sys
import time

_report, _command = sys.argv[1], sys.argv[2:]
_started = time.perf_counter()
_pid = os.posix_spawn(_command[0], _command, os.environ)
_, _status, _usage = os.wait4(_pid, 0)
_took = time.perf_counter() - _started
with open(_report, "w") as _stream:  # noqa: PTH123 - nothing is loaded that need not be
    _stream.write(f"{_took} {_usage.ru_maxrss} {os.waitstatus_to_exitcode(_status)}")
