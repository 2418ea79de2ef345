"""The commands one starts with: init, schema, serve."""

from __future__ import annotations

import json
import signal
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import duration
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.cli.options import Options


@click.command("init")
@click.argument("folder", default=".", metavar="[DIR]")
@click.option("--make", "wants_make", is_flag=True, help="Not there yet: a GNU make fragment.")
@click.pass_obj
def init_command(options: Options, folder: str, wants_make: bool) -> int:
    """Start a project: jobs/, templates/, outputs/ and one job that works. What is there already stays."""
    from pipeline.durable import Folder

    if wants_make:
        raise UsageError("`init --make` is not there yet in this version", hint="`pipeline run` in a recipe does it")
    top = Folder(Path(folder)).make()
    for target, content in _first_files().items():
        if top.status(target) is not None:
            click.echo(f"{target} is there already; it stays as it is", err=True)
            continue
        with top.replacing(target) as stream:
            stream.write(content)
        click.echo(str(Path(folder) / target))
    if not options.quiet:
        click.echo("next: pipeline --service local run jobs/first.yaml   (no key needed)", err=True)
    return 0


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
