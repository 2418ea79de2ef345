"""The manifests that words of a command line name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import UsageError
from pipeline.job.globs import GlobError, is_glob, matching, near, why_none
from pipeline.job.problems import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_ENDINGS = {".yaml", ".yml"}


def manifests(words: Sequence[str], *, cwd: Path) -> list[Path]:
    """JOB arguments: a manifest, a directory (its `*.yaml` and `*.yml`, not below), or a glob.

    Names that start with `_` are bases, not jobs: left out, unless one is named itself. Each manifest
    comes once, in the order of the words; raises `UsageError` for a word that names nothing.
    """
    found: dict[Path, None] = {}
    for word in words:
        found.update(dict.fromkeys(_named(word, cwd)))
    return list(found)


def _named(word: str, cwd: Path) -> list[Path]:
    if "\0" in word or not word:
        raise UsageError(f"{quoted(word)} names no manifest")
    try:
        return _found(word, cwd)
    except GlobError as error:
        raise UsageError(str(error), hint=error.hint) from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{quoted(word)} cannot name a manifest: {why}") from None


def _found(word: str, cwd: Path) -> list[Path]:
    path = cwd / word
    if path.is_dir():
        jobs = sorted(one for one in path.iterdir() if one.suffix in _ENDINGS and _is_job(one))
        if not jobs:
            raise UsageError(f"the folder {quoted(word)} holds no job", hint="a job is a file such as spring.yaml")
        return jobs
    if path.exists():
        return [path]
    if is_glob(word):
        if jobs := [cwd / name for name in matching(word, cwd) if _is_job(cwd / name)]:
            return jobs
        raise UsageError(f"no job matches {quoted(word)}", hint=why_none(word, cwd)[1])
    message = f"there is no manifest {quoted(word)}{near(path)}"
    raise UsageError(message, hint="`pipeline init` makes a first one")


def _is_job(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(("_", "."))
