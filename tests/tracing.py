"""What strace saw a run do to its files, in order, and what is left of it when the power fails.

A kill loses nothing that was written; a power cut loses what no sync has brought to the disk. Every effect on a file or
a folder is an `Op`; the sync of its file or folder covers it. `remains` tells what is left when others are lost.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CALLS = (
    "openat,write,pwrite64,ftruncate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,"
    "fsync,fdatasync,syncfs,sendto"
)
WORDS = ("-y", "-xx", "-s", "4000000", "-e", f"trace={CALLS}")

_LINE = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")
_HALF = re.compile(r"^(\d+) +(.*) <unfinished \.\.\.>$")
_REST = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_OPEN = re.compile(r"(\d+)<((?:\\x[0-9a-f]{2})+)>")


@dataclass(slots=True)
class Op:
    """One effect. `path` is what it is about, `of` the file or folder whose sync covers it."""

    kind: str
    path: str
    of: str = ""
    data: bytes = b""
    at: int = 0
    inode: int = 0
    leaves: str = ""
    """The name that a renamed file had before."""
    is_covered: bool = False


def calls(log: Path) -> Iterable[tuple[str, str, int]]:
    """Name, arguments and result of each call that succeeded, in the order they ended."""
    halves: dict[str, str] = {}
    for line in log.read_text(errors="replace").splitlines():
        if half := _HALF.match(line):
            halves[half[1]] = line.removesuffix(" <unfinished ...>")
            continue
        rest = _REST.match(line)
        whole = _LINE.match(halves.pop(rest[1]) + rest[2] if rest else line)
        if whole and int(whole[3]) >= 0:
            yield whole[1], whole[2], int(whole[3])


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


@dataclass
class Trace:
    """The effects of a run below `top`, in order."""

    ops: list[Op] = field(default_factory=list)

    @classmethod
    def of(cls, log: Path, top: Path) -> Trace:
        return _Reader(top).read(log)


class _Reader:
    def __init__(self, top: Path) -> None:
        self._top = str(top)
        self._trace = Trace()
        self._inodes: dict[str, int] = {}
        self._sizes: dict[int, int] = {}
        self._count = 0

    def read(self, log: Path) -> Trace:
        for name, arguments, result in calls(log):
            paths = [_bytes(text).decode() for _fd, text in _OPEN.findall(arguments)]
            texts = [_bytes(text) for text in _TEXT.findall(arguments)]
            getattr(self, f"_{name.rstrip('2').removesuffix('at')}", self._other)(name, arguments, paths, texts, result)
        return self._trace

    def _add(self, kind: str, path: str, of: str, **more: object) -> None:
        if path.startswith(self._top) or kind == "send":
            self._trace.ops.append(Op(kind, path, of, **more))  # type: ignore[arg-type]

    @staticmethod
    def _named(paths: list[str], texts: list[bytes]) -> list[str]:
        names = [text.decode() for text in texts]
        return [
            name if name.startswith("/") else f"{path}/{name}"
            for path, name in zip(paths or names, names, strict=False)
        ]

    def _other(self, *_told: object) -> None:
        pass

    def _open(self, _name: str, arguments: str, paths: list[str], texts: list[bytes], _result: int) -> None:
        [path] = self._named(paths[:1], texts[:1]) or [texts[0].decode()]
        if "O_CREAT" in arguments and path not in self._inodes:
            self._count += 1
            self._inodes[path], self._sizes[self._count] = self._count, 0
            self._add("name", path, path.rpartition("/")[0], inode=self._count)

    def _write(self, _name: str, _arguments: str, paths: list[str], texts: list[bytes], _result: int) -> None:
        inode = self._inodes.get(paths[0])
        if inode:
            self._add("data", paths[0], paths[0], data=texts[0], at=self._sizes[inode], inode=inode)
            self._sizes[inode] += len(texts[0])

    def _pwrite64(self, _name: str, arguments: str, paths: list[str], texts: list[bytes], _result: int) -> None:
        inode = self._inodes.get(paths[0])
        if inode:
            at = int(arguments.rpartition(",")[2])
            self._add("data", paths[0], paths[0], data=texts[0], at=at, inode=inode)

    def _ftruncate(self, _name: str, arguments: str, paths: list[str], _texts: list[bytes], _result: int) -> None:
        inode = self._inodes.get(paths[0])
        if inode:
            self._add("cut", paths[0], paths[0], at=int(arguments.rpartition(",")[2]), inode=inode)

    def _rename(self, _name: str, _arguments: str, paths: list[str], texts: list[bytes], _result: int) -> None:
        old, new = self._named(paths, texts)
        inode = self._inodes.pop(old, 0)
        self._inodes[new] = inode
        above, below = old.rpartition("/")[0], new.rpartition("/")[0]
        self._add("name", new, below, inode=inode, leaves=old)
        if above != below:  # in one folder the two are one change
            self._add("gone", old, above)

    def _unlink(self, _name: str, _arguments: str, paths: list[str], texts: list[bytes], _result: int) -> None:
        [path] = self._named(paths, texts)
        self._inodes.pop(path, None)
        self._add("gone", path, path.rpartition("/")[0])

    _rmdir = _unlink

    def _mkdir(self, _name: str, _arguments: str, paths: list[str], texts: list[bytes], _result: int) -> None:
        [path] = self._named(paths, texts)
        self._add("folder", path, path.rpartition("/")[0])

    def _syncfs(self, name: str, arguments: str, _paths: list[str], texts: list[bytes], result: int) -> None:
        for path in {path for op in self._trace.ops for path in (op.path, op.of)}:
            self._fsync(name, arguments, [path], texts, result)

    def _fsync(self, _name: str, _arguments: str, paths: list[str], _texts: list[bytes], _result: int) -> None:
        for op in self._trace.ops:
            op.is_covered = op.is_covered or op.of == paths[0] or self._is_of(op, paths[0])
        self._add("sync", paths[0], "")

    _fdatasync = _fsync

    def _is_of(self, op: Op, path: str) -> bool:
        """Whether an effect is on the file that has this name now."""
        return op.kind in {"data", "cut"} and op.inode == self._inodes.get(path)

    def _sendto(self, _name: str, _arguments: str, _paths: list[str], texts: list[bytes], _result: int) -> None:
        head = texts[0].split(b" HTTP/", 1)[0].decode(errors="replace")
        if re.match(r"(GET|POST|DELETE|PUT|PATCH) ", head):
            self._add("send", head, "")


def remains(trace: Trace, survives: Callable[[Op], bool]) -> dict[str, bytes | None]:
    """Files with their bytes, and folders (`None`), when of what is not covered only that is left which `survives`."""
    names: dict[str, int | None] = {}
    contents: dict[int, bytearray] = {}
    for op in (op for op in trace.ops if op.is_covered or survives(op)):
        data = contents.setdefault(op.inode, bytearray())
        match op.kind:
            case "name":
                names[op.path] = op.inode
                names.pop(op.leaves if op.leaves.rpartition("/")[0] == op.of else "", None)
            case "gone":
                names.pop(op.path, None)
            case "folder":
                names[op.path] = None
            case "cut":
                del data[op.at :]
                data.extend(bytes(op.at - len(data)))
            case "data":
                data.extend(bytes(max(0, op.at - len(data))))
                data[op.at : op.at + len(op.data)] = op.data
    left = {path: None if inode is None else bytes(contents.get(inode, b"")) for path, inode in names.items()}
    return {path: data for path, data in left.items() if _is_reachable(path, left, trace)}


def _is_reachable(path: str, left: dict[str, bytes | None], trace: Trace) -> bool:
    """Whether all folders above it are there, of those that this run made."""
    made = {op.path for op in trace.ops if op.kind == "folder"}
    return all(str(above) in left for above in Path(path).parents if str(above) in made)
