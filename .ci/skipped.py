"""Fail when a test was skipped without an excuse: `skipped.py JUNIT_XML PYPROJECT`.

An excuse is a line in `[tool.pipeline.may-skip]` of pyproject.toml: the id of the test, and the reason.

    "tests/test_disk.py::test_full" = "needs a file system of its own, which only root can mount"
"""

from __future__ import annotations

import sys
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def main(arguments: Sequence[str]) -> int:
    """Say what is wrong with a run of the tests; 1 if anything is."""
    report, settings = map(Path, arguments)
    excuses = tomllib.loads(settings.read_text(encoding="utf-8"))["tool"]["pipeline"]["may-skip"]
    found = list(complaints(ET.parse(report).getroot(), excuses))  # noqa: S314 - pytest wrote it a moment ago
    for complaint in found:
        print(complaint, file=sys.stderr)
    return 1 if found else 0


def complaints(report: ET.Element, excuses: Mapping[str, str]) -> Iterator[str]:
    """Every skipped test without an excuse, every excuse without a reason; and a run without tests."""
    for test, reason in excuses.items():
        if not isinstance(reason, str) or not reason.strip():
            yield f"may-skip names {test} without a reason"
    cases = list(report.iter("testcase"))
    if not cases:
        yield "no test was run"
    for case in cases:
        skipped = case.find("skipped")
        if skipped is not None and _id(case) not in excuses:
            yield f"{_id(case)} was skipped: {skipped.get('message')}"


def _id(case: ET.Element) -> str:
    """The id of a test as pytest writes it: file, classes if any, name; or a file that was skipped as a whole."""
    file, name = case.get("file", ""), case.get("name", "")
    module = file.removesuffix(".py").replace("/", ".")
    if name == module:
        return file
    classes = case.get("classname", "").removeprefix(module).strip(".").split(".")
    return "::".join([file, *filter(None, classes), name])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
