"""What `init` writes for make, systemd and Git LFS, filled in for the project at hand."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.job.slugs import slug

_MAKEFILES = ("GNUmakefile", "makefile", "Makefile")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Files by their path in the project, and what to do with them."""

    files: dict[str, bytes]
    next_steps: tuple[str, ...]


def make(top: Path) -> Recipe:
    """A fragment for GNU make, and a Makefile that includes it where there is none."""
    files = {"pipeline.mk": _text("pipeline.mk").encode()}
    there = next((name for name in _MAKEFILES if (top / name).exists()), None)
    if there is None:
        return Recipe({**files, "Makefile": _text("Makefile").encode()}, ("make images",))
    if re.search(r"^-?include\s.*\bpipeline\.mk\b", (top / there).read_text(errors="replace"), re.MULTILINE):
        return Recipe(files, ("make images",))
    return Recipe(files, (f"add this line to {there}: include pipeline.mk", "make images"))


def lfs(top: Path, outputs: Path) -> Recipe:
    """Which files Git LFS keeps. A `.gitattributes` that is there stays: the lines it lacks are told."""
    if outputs.is_absolute() or ".." in outputs.parts or re.search(r"[\s\"*?\[\]!#\\]", outputs.as_posix()):
        raise UsageError(
            f"init --lfs: the outputs folder {str(outputs)!r} cannot stand in .gitattributes",
            hint="name one inside the project, without spaces: --outputs outputs",
        )
    text = _text("gitattributes").replace("@OUTPUTS@", outputs.as_posix())
    steps = ("git lfs install", "git add .gitattributes, then commit; images added from now on go to Git LFS")
    path = top / ".gitattributes"
    if not path.exists():
        return Recipe({".gitattributes": text.encode()}, steps)
    own = {" ".join(line.split()) for line in path.read_text(errors="replace").splitlines()}
    lacking = [line for line in text.splitlines() if not line.startswith("#") and line not in own]
    told = (f"add to .gitattributes: {line}" for line in lacking)
    return Recipe({}, (*told, *steps))


def systemd(top: Path) -> Recipe:
    """A service and its timer for the user's own systemd, with the absolute paths of this project."""
    folder = str(top)
    if any(not char.isprintable() for char in folder):
        raise UsageError("init --systemd: a unit cannot name this folder", hint="move the project to a plain path")
    name = f"images-{slug(top.name) or 'project'}"
    words = {
        "@PROJECT@": _specifiers(top.name),
        "@FOLDER@": _specifiers(folder),
        "@COMMAND@": " ".join(map(_word, [*command(), "-C", folder])),
    }
    files = {}
    for kind in ("service", "timer"):
        text = _text(f"images.{kind}")
        for mark, value in words.items():
            text = text.replace(mark, value)
        files[f"systemd/{name}.{kind}"] = text.encode()
    units = [shlex.quote(f"{folder}/systemd/{name}.{kind}") for kind in ("service", "timer")]
    steps = (
        "put the key, alone, into ~/.config/image-batch-pipeline/key and chmod 600 it",
        f"systemctl --user link {' '.join(units)}",
        f"systemctl --user enable --now {name}.timer",
        "loginctl enable-linger   (so that it also runs while you are not logged in)",
    )
    return Recipe(files, steps)


def command() -> list[str]:
    """How this very installation is called by those who have no PATH: the script of its environment, or Python."""
    script = Path(sys.executable).parent / "pipeline"
    return [str(script)] if script.is_file() else [sys.executable, "-m", "pipeline"]


def _text(name: str) -> str:
    return resources.files("pipeline.cli").joinpath("scaffold", name).read_text(encoding="utf-8")


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")


def _word(text: str) -> str:
    """A word of ExecStart: quoted where it must be, and with nothing in it that systemd would fill in."""
    plain = _specifiers(text).replace("$", "$$")
    if re.fullmatch(r"[\w@%+=:,./$-]+", plain):
        return plain
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
