from __future__ import annotations


class Table:
    name: str
    on: tuple[str, ...]
    columns: tuple[str, ...]

    def at(self, column: str) -> int | None:
        raise NotImplementedError

    def value(self, key: tuple[str, ...], at: int) -> str:
        raise NotImplementedError


def load(name, path, on, place, *, delimiter, encoding):
    raise NotImplementedError
