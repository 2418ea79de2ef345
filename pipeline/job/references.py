"""Reference images: found, recognised by their first bytes, and looked through once: are they whole, and their hash."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.job import frames, globs
from pipeline.job.ask import Image
from pipeline.job.problems import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BYTES = 100_000_000
"""Of one image."""
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_LFS = b"version https://git-lfs"
_LONGEST_POINTER = 1024
_OID = re.compile(rb"^oid sha256:([0-9a-f]{64})$", re.MULTILINE)
_SIZE = re.compile(rb"^size (\d{1,12})$", re.MULTILINE)
_BY_NAME = {".png": "image/png", ".webp": "image/webp", ".heic": "image/heic", ".heif": "image/heif"}
_HEIC = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"}
_HEIF = {b"mif1", b"msf1", b"heif"}
_HEAD = 32


class ImageError(ValueError):
    """A reference image that cannot be sent, and what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def told(self) -> tuple[str, str]:
        """The message and the hint in full; may look around for what was meant, so only for what will be shown."""
        return str(self), self.hint


class MissingImageError(ImageError):
    """A reference image that is not there."""

    def __init__(self, message: str, hint: str, folder: Path, text: str, *, is_glob: bool = False) -> None:
        super().__init__(message, hint)
        self._folder = folder
        self._text = text
        self._is_glob = is_glob

    def told(self) -> tuple[str, str]:
        """The message with a near name, or why a glob finds nothing."""
        if self._is_glob:
            message, hint = globs.why_none(self._text, self._folder)
            return message, hint or self.hint
        near = "" if globs.is_glob(self._text) else globs.near(self._folder / self._text)
        return f"{self}{near}", self.hint


def reference(text: str, folder: Path, *, home: Path | None = None, below: Sequence[Path] = ()) -> Image:
    """The image a path names, relative to `folder`; `Image.shown` is relative to `home`, the manifest's folder.

    With `below`, its real place must lie in one of those folders: a path made from data leads nowhere else.
    """
    _refuse_url(text)
    path = folder / text
    try:
        if below:
            real = path.resolve()
            if not any(real.is_relative_to(top) for top in below):
                raise ImageError(
                    f"{quoted(text)} leads out of the project",
                    "a path with a placeholder stays below the project folder",
                )
        status = path.stat()
        _check_kind(text, status.st_mode, status.st_size)
        facts = _facts(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise _why(text, folder, error) from None
    except ValueError as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{quoted(text)} cannot be a path: {error}") from None
    if facts.wrong:
        raise ImageError(f"{quoted(text)} {facts.wrong}", facts.hint)
    shown = _seen_from(home or folder, folder, text)
    if facts.points_to is not None:
        return Image(path, shown, facts.sha256, facts.mime, facts.points_to, is_pointer=True)
    return Image(path, shown, facts.sha256, facts.mime, status.st_size)


def _refuse_url(text: str) -> None:
    if globs.is_url(text):
        raise ImageError(f"{quoted(text)} is a URL", "download the image, and name the file")


def _seen_from(home: Path, folder: Path, text: str) -> str:
    if folder == home or Path(text).is_absolute():
        return Path(text).as_posix()
    return Path(os.path.relpath(folder / text, home)).as_posix()


def matching(
    pattern: str, folder: Path, *, below: Sequence[Path] = (), folders: globs.Folders | None = None
) -> list[str]:
    """The files a glob names, as `globs.matching` does; raises `ImageError` for one that cannot be followed."""
    _refuse_url(pattern)
    try:
        return globs.matching(pattern, folder, below=below, folders=folders)
    except globs.GlobError as error:
        raise ImageError(str(error), error.hint) from None


def none_matches(pattern: str, folder: Path) -> MissingImageError:
    """The error for a glob that finds nothing where there must be something."""
    hint = "where there may be none, say optional: true"
    return MissingImageError(f"no file matches {quoted(pattern)}", hint, folder, pattern, is_glob=True)


def _check_kind(text: str, mode: int, size: int) -> None:
    if stat.S_ISDIR(mode):
        raise ImageError(f"{quoted(text)} is a folder", "name one image file")
    if not stat.S_ISREG(mode):
        raise ImageError(f"{quoted(text)} is no regular file", "name one image file")
    if not size:
        raise ImageError(f"{quoted(text)} is empty", "was it copied whole?")
    if size > MAX_BYTES:
        message, hint = _too_large(size)
        raise ImageError(f"{quoted(text)} {message}", hint)


def _too_large(size: int) -> tuple[str, str]:
    return f"has {size / 1e6:,.0f} MB; an image has at most {MAX_BYTES // 1_000_000}", "scale it down"


def _why(text: str, folder: Path, error: OSError) -> ImageError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        is_glob = globs.is_glob(text)
        hint = "for several images say {glob: …}" if is_glob else "paths are relative to the file that names them"
        return MissingImageError(f"there is no image {quoted(text)}", hint, folder, text)
    return ImageError(f"cannot read {quoted(text)}: {error.strerror}")


class _Facts(NamedTuple):
    """What a file is."""

    sha256: str
    mime: str
    wrong: str = ""
    """Why it cannot be sent, to be read after its name."""
    hint: str = ""
    points_to: int | None = None
    """Of a Git LFS pointer: how many bytes the image has that it stands for."""


@lru_cache(maxsize=4096)
def _facts(path: Path, size: int, changed_ns: int) -> _Facts:  # noqa: ARG001 - they make the cache notice a change
    """What a file is, from its bytes."""
    data = path.read_bytes()
    mime = mime_of(data[:_HEAD])
    if not mime:
        if data.startswith(_LFS):
            return _pointed(data, path)
        return _Facts("", "", "is no png, jpeg, webp, heic or heif", "convert it to one of them")
    try:
        frames.check(data, mime)
    except frames.FrameError as error:
        return _Facts("", mime, str(error), error.hint)
    return _Facts(hashlib.sha256(data).hexdigest(), mime)


def _pointed(data: bytes, path: Path) -> _Facts:
    """What a Git LFS pointer stands for; nobody can tell whether that is whole before it is there."""
    found = pointer(data)
    if found is None:
        return _Facts("", "", "is a damaged Git LFS pointer", "run git lfs pull")
    sha256, size = found
    if size > MAX_BYTES:
        return _Facts("", "", *_too_large(size))
    return _Facts(sha256, _BY_NAME.get(path.suffix.lower(), "image/jpeg"), points_to=size)


def pointer(data: bytes) -> tuple[str, int] | None:
    """The sha256 and the size of what a Git LFS pointer stands for; None for anything else."""
    if not data.startswith(_LFS) or len(data) > _LONGEST_POINTER:
        return None
    oid, size = _OID.search(data), _SIZE.search(data)
    return (oid[1].decode(), int(size[1])) if oid and size else None


def mime_of(head: bytes) -> str:
    """The MIME type by the first bytes of a file; empty when it is none that can be sent."""
    if head.startswith(_PNG):
        return "image/png"
    if head.startswith(_JPEG):
        return "image/jpeg"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC | _HEIF:
        return "image/heic" if head[8:12] in _HEIC else "image/heif"
    return ""
