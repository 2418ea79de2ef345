"""Reference images: found, recognised by their first bytes, and hashed once."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import stat
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.job.ask import Image
from pipeline.job.problems import quoted
from pipeline.job.sources import fixed_part, is_glob

if TYPE_CHECKING:
    from collections.abc import Sequence

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_PNG, _JPEG, _LFS = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"version https://git-lfs"
_HEIC = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"}
_HEIF = {b"mif1", b"msf1", b"heif"}
_SLICE = 1 << 20
_HEAD = 32


class ImageError(ValueError):
    """A reference image that cannot be sent, and what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class MissingImageError(ImageError):
    """A reference image that is not there."""


def reference(text: str, folder: Path, *, home: Path | None = None, below: Sequence[Path] = ()) -> Image:
    """The image a path names, relative to `folder`; `Image.shown` is relative to `home`, the manifest's folder.

    With `below`, its real place must lie in one of those folders: a path made from data leads nowhere else.
    """
    if _URL.match(text):
        raise ImageError(f"{quoted(text)} is a URL", "download the image, and name the file")
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
        sha256, mime = _digest(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise _why(text, error) from None
    except ValueError as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{quoted(text)} cannot be a path: {error}") from None
    if mime.startswith("!"):
        raise ImageError(*_not_an_image(text, mime))
    return Image(path, _seen_from(home or folder, folder, text), sha256, mime, status.st_size)


def _seen_from(home: Path, folder: Path, text: str) -> str:
    if folder == home or Path(text).is_absolute():
        return Path(text).as_posix()
    return Path(os.path.relpath(folder / text, home)).as_posix()


def matching(pattern: str, folder: Path) -> list[str]:
    """The files a glob names, relative to `folder`, by relative path in code-point order; hidden ones only if meant."""
    if _URL.match(pattern):
        raise ImageError(f"{quoted(pattern)} is a URL", "download the images, and name the files")
    top, rest = fixed_part(pattern)
    try:
        # Not Path.glob, for which a name that a glob spells out in full need not exist.
        found = glob.glob(rest, root_dir=folder / top, recursive=True) if rest else [""]  # noqa: PTH207
        if not rest and not (folder / top).exists():
            found = []
        names = sorted(name for name in found if not (folder / top / name).is_dir())
    except (OSError, ValueError) as error:
        raise ImageError(f"{quoted(pattern)} is no glob: {error}") from None
    return [(top / name).as_posix() for name in names]


def escaped(text: str) -> str:
    """A value for use inside a glob, where it means itself."""
    return glob.escape(text)


def _check_kind(text: str, mode: int, size: int) -> None:
    if stat.S_ISDIR(mode):
        raise ImageError(f"{quoted(text)} is a folder", "name one image file")
    if not stat.S_ISREG(mode):
        raise ImageError(f"{quoted(text)} is no regular file", "name one image file")
    if not size:
        raise ImageError(f"{quoted(text)} is empty", "was it copied whole?")


def _why(text: str, error: OSError) -> ImageError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        hint = "for several images say {glob: …}" if is_glob(text) else "paths are relative to the file that names them"
        return MissingImageError(f"there is no image {quoted(text)}", hint)
    return ImageError(f"cannot read {quoted(text)}: {error.strerror}")


def _not_an_image(text: str, mime: str) -> tuple[str, str]:
    if mime == "!lfs":
        return f"{quoted(text)} is a Git LFS pointer, not the image", "run git lfs pull"
    return f"{quoted(text)} is no png, jpeg, webp, heic or heif", "convert it to one of them"


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, changed_ns: int) -> tuple[str, str]:  # noqa: ARG001 - they make the cache notice a change
    """The sha256 and the MIME type of a file; a type that starts with `!` is none."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
        digest.update(head)
        while block := stream.read(_SLICE):
            digest.update(block)
    return digest.hexdigest(), mime_of(head) or ("!lfs" if head.startswith(_LFS) else "!unknown")


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
