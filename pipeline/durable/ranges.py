"""Copying a part of a file to the end of another one, inside the kernel where it can do that."""

from __future__ import annotations

import errno
import os
from typing import IO

from pipeline.durable import PIECE

_MOST = 1 << 30
_CANNOT = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


def copy(source: IO[bytes], target: IO[bytes], start: int, size: int) -> None:
    """Copy `size` bytes from `start` on to where `target` ends. Raises `OSError`, also where there are not so many."""
    target.flush()
    end = start + size
    while start < end:
        done = _copied(source.fileno(), target.fileno(), start, end - start)
        if not done:
            raise OSError(errno.EIO, "the file is shorter than it was")
        start += done
    target.seek(0, os.SEEK_END)


def _copied(source: int, target: int, start: int, size: int) -> int:
    """Copy some of these bytes; returns how many."""
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(source, target, min(size, _MOST), offset_src=start)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
    piece = os.pread(source, min(size, PIECE), start)
    return os.write(target, piece) if piece else 0
