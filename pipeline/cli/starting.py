"""The commands one starts with: init, schema, serve."""

from __future__ import annotations

import hashlib
import json
import signal
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import duration

if TYPE_CHECKING:
    from pipeline.cli.options import Options
    from pipeline.durable import Folder


@click.command("init")
@click.argument("folder", default=".", metavar="[DIR]")
@click.option("--make", "wants_make", is_flag=True, help="A fragment for GNU make: `make images`.")
@click.option("--systemd", "wants_systemd", is_flag=True, help="A service and a timer for the nights.")
@click.option("--lfs", "wants_lfs", is_flag=True, help="Images go to Git LFS (.gitattributes).")
@click.pass_obj
def init_command(options: Options, folder: str, wants_make: bool, wants_systemd: bool, wants_lfs: bool) -> int:
    """Start a project: jobs/, templates/, outputs/ and one job that works. What is there already stays.

    In a project that has jobs, --make, --systemd and --lfs write their files only.
    """
    from pipeline.cli import recipes
    from pipeline.durable import Folder

    top = Folder(Path(folder))
    wanted = [
        *([recipes.make(top.path)] if wants_make else ()),
        *([recipes.systemd(top.path)] if wants_systemd else ()),
        *([recipes.lfs(top.path, options.outputs)] if wants_lfs else ()),
    ]
    files: dict[str, bytes] = {} if wanted and _has_jobs(top.path) else _first_files()
    for recipe in wanted:
        files |= recipe.files
    top.make()
    for target, content in files.items():
        _put(top, target, content, "" if options.quiet else str(Path(folder) / target))
    if not options.quiet:
        first = "pipeline --service local run jobs/first.yaml   (no key needed)"
        is_new = "jobs/first.yaml" in files
        for step in [*([first] if is_new else ()), *(step for recipe in wanted for step in recipe.next_steps)]:
            click.echo(f"next: {step}", err=True)
    return 0


def _has_jobs(top: Path) -> bool:
    return any((top / "jobs").glob("*.y*ml"))


def _put(top: Folder, target: str, content: bytes, shown: str) -> None:
    if top.status(target) is None:
        top.sweep_beside(target)
        with top.replacing(target) as stream:
            stream.write(content)
        if shown:
            click.echo(shown)
    elif shown and not _is_same(top, target, content):
        click.echo(f"{target} is there already; it stays as it is", err=True)


def _is_same(top: Folder, target: str, content: bytes) -> bool:
    return top.sha256(target) == hashlib.sha256(content).hexdigest()


def _first_files() -> dict[str, bytes]:
    """What a new project starts with; the schema is for editors, which find it by the first line of the job."""
    from pipeline.job.schema import schema

    scaffold = resources.files("pipeline.cli").joinpath("scaffold")
    files = {
        target: scaffold.joinpath(name).read_bytes()
        for name, target in (
            ("first.yaml", "jobs/first.yaml"),
            ("products.csv", "jobs/products.csv"),
            ("packshot.md", "templates/packshot.md"),
            ("outputs.gitignore", "outputs/.gitignore"),
        )
    }
    return {**files, "jobs/job.schema.json": json.dumps(schema("job"), ensure_ascii=False, indent=1).encode() + b"\n"}


@click.command("schema")
@click.argument("what", type=click.Choice(["job", "record"]), default="job")
def schema_command(what: str) -> int:
    """Print the JSON Schema of job manifests or of records."""
    from pipeline.job.schema import schema

    click.echo(json.dumps(schema(what), ensure_ascii=False, indent=2))
    return 0


@click.command("serve")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, help="Port on 127.0.0.1 (8765).")
@click.option("--state", "folder", metavar="DIR", help="Where its files and batches live (<outputs>/.local-service).")
@click.option("--latency", default="2s", metavar="TIME", help="How long a batch takes (2s).")
@click.option("--pictures", type=click.Choice(["drawn", "plain"]), default="drawn", help="What it draws (drawn).")
@click.option("--faults", metavar="FILE", help="Rehearse trouble: a list of rules (docs/faults.md).")
@click.pass_obj
def serve_command(
    options: Options, port: int, folder: str | None, latency: str, pictures: str, faults: str | None
) -> int:
    """Serve the local Gemini-compatible service until it is interrupted; any client can talk to it."""
    from pipeline.cli.opening import serving

    state = Path(folder) if folder else options.outputs / ".local-service"
    latency_s = duration(latency, "--latency")
    with serving(state, port=port, latency_s=latency_s, pictures=pictures, faults=faults) as url:
        click.echo(url)
        click.echo(f"export GOOGLE_GEMINI_BASE_URL={url} GEMINI_API_KEY=local-service-needs-no-key", err=True)
        while True:
            signal.pause()
