"""The command that tells all of one thing: of an image, by key or file, or of a template."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import findings, opening, signposts
from pipeline.cli.screen import usd
from pipeline.cli.tables import amount, print_json
from pipeline.errors import JobError, UsageError
from pipeline.job.problems import escaped
from pipeline.record import HAS_IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pipeline.cli.options import Options
    from pipeline.job.expand import Request
    from pipeline.job.problems import Place
    from pipeline.journal import Journal, Record


@click.command("show")
@click.argument("what", metavar="KEY|FILE|template:NAME")
@click.option("--request", "wants_request", is_flag=True, help="The request as it was sent.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_obj
def show_command(options: Options, what: str, wants_request: bool, as_json: bool) -> int:
    """All that is known of an image: prompt, inputs, settings and where each was written, attempts, usage, cost."""
    if what.startswith("template:"):
        return _show_template(what.removeprefix("template:"), as_json=as_json)
    shown = _shown(options, what, wants_request=wants_request)
    if shown.sent is not None:
        sys.stdout.buffer.write(shown.sent)
        return 0
    if as_json:
        attempts = [{**one, "cost": amount(one["cost"])} for one in shown.attempts]
        told = {**shown.told, "job": shown.job, "attempts": attempts, **_origins(shown.told, shown.request)}
        print_json({**told, "next": _next(options, shown)})
    else:
        click.echo(_text(shown, _next(options, shown)))
    return 0


@dataclass(frozen=True, slots=True)
class _Shown:
    """What there is to show of a request."""

    job: str
    told: Mapping[str, Any]
    """Its record, or the one it would have."""
    attempts: Sequence[Mapping[str, Any]]
    request: Request | None
    """As the manifest asks for it now; None when it no longer asks for exactly this."""
    manifest: str | None = None
    """The file the job is written in."""
    sent: bytes | None = None


def _shown(options: Options, what: str, *, wants_request: bool) -> _Shown:
    """Raises `UsageError` for a key nobody knows, in the journal or in a manifest."""
    from pipeline import journal as journals

    if journals.is_there(options.state):
        with journals.opened(options.state, outputs=options.outputs) as journal:
            found = _find(journal, options, what)
            if found is not None:
                sent = _sent(journal, options, found) if wants_request else None
                attempts = journal.batches.attempts_of(found.job, found.key)
                manifest = journal.manifest_of(found.job)
                request = _asked(options, [Path(manifest)] if manifest else [], found.key, found.fingerprint)
                return _Shown(found.job, json.loads(found.line), attempts, request and request[0], manifest, sent)
    return _unmade(options, what)


def _unmade(options: Options, what: str) -> _Shown:
    """A request that a manifest asks for, and that no run has seen yet."""
    from pipeline import record
    from pipeline.job import named

    words = [opening.DEFAULT_JOBS] if Path(opening.DEFAULT_JOBS).is_dir() else []
    known = _asked(options, named.manifests(words, cwd=Path.cwd()), what, None)
    if known is None:
        raise UsageError(
            f"nothing is known of {what!r}{_near(options, what)}", hint="`pipeline ls items` lists the keys of a job"
        )
    request, job, manifest = known
    model = options.models().find(request.ask.model)
    service = options.expected_service()
    told = record.draft(request, model_id=model.id if model else request.ask.model, service=service)
    return _Shown(job, {**told, "reason": "not asked for yet: no run has seen it"}, (), request, str(manifest))


def _near(options: Options, what: str) -> str:
    from pipeline import journal as journals
    from pipeline.job.problems import meant

    if not journals.is_there(options.state):
        return ""
    with journals.opened(options.state, outputs=options.outputs) as journal:
        pages = (page for job in journal.jobs() for page in journal.records.pages(job, "wanted"))
        return meant(what, [row.key for page in pages for row in page[:500]])


def _asked(
    options: Options, manifests: Sequence[Path], key: str, fingerprint: str | None
) -> tuple[Request, str, Path] | None:
    """The request of a key, as the first of some manifests asks for it, its job, and that manifest.

    Stops at the row that has it.
    """
    from pipeline.job import expand, language

    for path in manifests:
        try:
            job = language.load(path, root=Path.cwd())
            for request in expand.expand(job, models=options.models(), today=options.today, warn=lambda _problem: None):
                if request.key == key and fingerprint in {None, request.fingerprint}:
                    return request, job.name, path
        except JobError:  # a manifest that is broken today has no say in what was made
            continue
    return None


def _find(journal: Journal, options: Options, what: str) -> Record | None:
    path = Path(what)
    inside = path.resolve().is_relative_to(options.outputs.resolve()) and path.exists()
    for job in journal.jobs():
        if inside:
            relative = path.resolve().relative_to(options.outputs.resolve())
            if relative.parts[0] == job:
                base = "/".join(relative.parts[1:])
                if found := _at(journal, job, base):
                    return found
        elif rows := journal.records.of_key(job, what):
            return rows[0]
    return None


def _at(journal: Journal, job: str, path: str) -> Record | None:
    """The record whose files lie at a path; `x.part2.jpg` and `x.md` are of the same one as `x.jpg`."""
    folder, slash, name = path.rpartition("/")
    return journal.records.at_path(job, f"{folder}{slash}{name.partition('.')[0]}")


def _sent(journal: Journal, options: Options, found: Record) -> bytes:
    batch = journal.batches.by_id(found.batch) if found.batch is not None else None
    if batch is None or batch.requests_path is None:
        raise UsageError(
            f"{found.key!r} has not been sent from here, or its request file was cleaned away",
            hint="`pipeline compile` writes all requests",
        )
    mark = json.dumps(found.wire_key).encode()
    with (options.state / batch.requests_path).open("rb") as stream:
        for line in stream:
            if line[:200].partition(b":")[2].startswith(mark):
                return line
    raise UsageError(f"{batch.requests_path} does not hold {found.key!r} any more")


# ------------------------------------------------------------------------------------------ in words


_SET = "retry --set"


def _otherwise(told: Mapping[str, Any], request: Request | None) -> list[str]:
    """The settings that a record has from `retry --set`, in place of the job's."""
    from pipeline.record import otherwise

    return otherwise(told, model=request.ask.model, settings=request.ask.settings()) if request else []


def _origins(told: Mapping[str, Any], request: Request | None) -> dict[str, Any]:
    """Where each setting was written, which row it is, and which version of which template."""
    if request is None:
        return {"provenance": {}, "row": None, "template_version": None}
    return {
        "provenance": {
            **{word: _place(place, request) for word, place in request.provenance.items()},
            **dict.fromkeys(_otherwise(told, request), _SET),
        },
        "row": request.where,
        "template_version": request.template_sha256 or None,
    }


def _next(options: Options, shown: _Shown) -> str | None:
    manifest, here = Path(shown.manifest or "JOB"), Path.cwd()
    job = manifest.relative_to(here) if manifest.is_relative_to(here) else manifest
    return signposts.next_step(shown.told, str(job), os.path.relpath(options.outputs / shown.job))


def _text(shown: _Shown, next_step: str | None) -> str:
    told, request = shown.told, shown.request
    lines = [
        _line("key", told["key"]),
        _line("job", shown.job),
        _line("status", f"{told['status']}{': ' + told['reason'] if told['reason'] else ''}"),
        *([_line("next", next_step)] if next_step else []),
        *(_line("file", _file(file)) for file in told["files"]),
        *(
            [_line("file", "not kept: with `keep: true` in this turn it is written")]
            if _is_unkept(told, request)
            else []
        ),
        _line("row", request.where if request else "the job asks for something else by now, or for nothing"),
        *_settings(told, request),
        _line("template", _template(told, request)),
        _line("prompt", f"{told['prompt']}{_from(request, 'prompt')}"),
        *(_line("image", f"{one['path']}  sha256 {one['sha256'][:12]}…") for one in told["inputs"]),
        *(
            _line("var", f"{name} = {value}{_from(request, f'vars.{name}') if _is_told(request, name) else ''}")
            for name, value in (told["vars"] or {}).items()
        ),
        _line("cost", f"${told['cost']['amount']} at prices of {told['cost']['prices']}" if told["cost"] else "-"),
        *(_line(name, told_of) for name, told_of in findings.findings(told["grounding"])),
        _line("asked", told.get("fingerprint") or (request.fingerprint if request else "-")),
    ]
    for one in shown.attempts:
        outcome = f"{one['status'] or 'on its way'}{': ' + one['reason'] if one['reason'] else ''}"
        where = one["batch"] or (one["lane"] if one["lane"] != "batch" else "-")
        is_free = one["cost"] is None and one["status"] not in HAS_IMAGE  # nobody said that it costs anything
        cost = "-" if is_free else usd(one["cost"])
        lines.append(_line("attempt", f"{one['attempt']}  {where}  {outcome}  {cost}"))
    return "\n".join(lines)


def _is_unkept(told: Mapping[str, Any], request: Request | None) -> bool:
    """Whether it is a turn of a conversation that was answered, and whose image only leads to the next."""
    return request is not None and not request.keeps and told["status"] in HAS_IMAGE and not told["files"]


_BELOW = "\n" + " " * 19


def _settings(told: Mapping[str, Any], request: Request | None) -> Iterator[str]:
    """The model and the settings, with where each came from."""
    others = _otherwise(told, request)
    wished = {"model": request.ask.model, **request.ask.settings()} if request else {}
    asked = {"model": f"{told['model']} → {told['model_id']}", **told["settings"]}
    for name in dict.fromkeys([*asked, *others]):
        value = _value(asked[name]) if name in asked else "-"
        instead = f"   ← {_SET}; the job says {_value(wished[name]) if name in wished else 'nothing'}"
        yield _line(name, f"{value}{instead if name in others else _from(request, name)}")


def _line(name: str, value: Any) -> str:
    """A fact and its name; of a value of several lines, the others stand below the first."""
    lines = [escaped(line) for line in str(value).splitlines() or [""]]
    return f"{name:>17}  {_BELOW.join(lines)}"


def _file(file: Mapping[str, Any]) -> str:
    size = f"  {file['width']}x{file['height']}" if file["width"] else ""
    return f"{file['path']}{size}  {file['bytes']:,} bytes"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _from(request: Request | None, word: str) -> str:
    """Where a setting came from, for people."""
    if request is None:
        return ""
    told = request.provenance.items()
    places = [_place(place, request) for name, place in told if name == word or name.startswith(f"{word}.")]
    return f"   ← {', '.join(dict.fromkeys(places))}" if places else "   (default)"


def _is_told(request: Request | None, name: str) -> bool:
    return request is not None and f"vars.{name}" in request.provenance


def _place(place: Place, request: Request) -> str:
    """Where a setting was written; rows of a catalog that set the same share one place, and each means its own."""
    return request.where if place.source.folder is None else str(place)


def _template(told: Mapping[str, Any], request: Request | None) -> str:
    if not told["template"]:
        return "-"
    if request is None:
        return str(told["template"])
    return f"{told['template']}, version {request.template_sha256[:12]}{_from(request, 'template')}"


# ----------------------------------------------------------------------------------------- templates


def templates_here() -> Iterator[dict[str, Any]]:
    """The templates a job here can name: the project's own, then those that come along."""
    from pipeline.job import templates
    from pipeline.job.problems import Place, Source

    here = Path.cwd()
    for path, is_shipped in templates.listed([here / opening.DEFAULT_JOBS, here]):
        try:
            known = templates.load(path, path.stem, Place(Source(str(path))))
            required = [name for name, default in known.variables.items() if default is None]
            description = known.description
        except JobError as error:
            required, description = [], f"broken: {error.problems[0].message}"
        yield {
            "name": path.stem,
            "description": description,
            "needs": " ".join(f"[{name}]" for name in required) or "-",
            "path": "comes along" if is_shipped else path.relative_to(here).as_posix(),
        }


def _show_template(name: str, *, as_json: bool) -> int:
    from pipeline.job import templates
    from pipeline.job.problems import Place, Source, meant

    here = Path.cwd()
    known = {path.stem: path for path, _shipped in templates.listed([here / opening.DEFAULT_JOBS, here])}
    path = known.get(name) or known.get(Path(name).stem)
    if path is None:
        raise UsageError(
            f"there is no template '{name}'{meant(name, known)}", hint="`pipeline ls templates` lists them"
        )
    if not as_json:
        click.echo(path.read_text(encoding="utf-8"), nl=False)
        return 0
    found = templates.load(path, path.stem, Place(Source(str(path))))
    print_json(
        {
            "name": path.stem,
            "description": found.description,
            "variables": dict(found.variables),
            "settings": {word: said.value for word, said in found.layer.items() if word != "images"},
            "version": found.sha256,
            "shipped": templates.is_shipped(path),
            "text": path.read_text(encoding="utf-8"),
        }
    )
    return 0
