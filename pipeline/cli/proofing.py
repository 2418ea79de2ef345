"""The command that renders a few requests now, through the interactive API, before the rest is bought by batch."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import flags, opening
from pipeline.cli.ending import first_code, shown_path
from pipeline.cli.money import Call, gate
from pipeline.cli.options import duration
from pipeline.cli.screen import MICRO, Screen, plural, usd
from pipeline.cli.spending import pixel_checks, run_with
from pipeline.cli.tables import plan_table
from pipeline.record import HAS_IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pipeline.cli.opening import OpenJob
    from pipeline.cli.options import Options
    from pipeline.journal import Batch, Record
    from pipeline.reconcile import Run
    from pipeline.reconcile.calls import Arrived


_COUNT = 3


def _seconds(_ctx: click.Context, _param: click.Parameter, text: str) -> float:
    return duration(text, "--wait")


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a proof was asked to show."""

    count: int
    every_template: bool
    keep: bool


@click.command("proof")
@click.argument("job", metavar="JOB")
@click.option("-n", "count", default=_COUNT, type=click.IntRange(1, 1000), metavar="N", help="How many (3).")
@click.option("--every-template", is_flag=True, help="At least one of each template, if that are more.")
@click.option("--keep", is_flag=True, help="Make them the job's results: no run asks for them again.")
@flags.max_cost
@flags.yes
@click.option(
    "--wait", default="5m", callback=_seconds, metavar="TIME", help="Patience while the service wants fewer calls (5m)."
)
@click.pass_obj
def proof_command(
    options: Options, job: str, count: int, every_template: bool, keep: bool, max_cost: int | None, yes: bool,
    wait: float,
) -> int:  # fmt: skip
    """Render a few images now, at the standard price, into proof/ of the job's folder.

    They are as different as the job has them, and the same ones each time; what an earlier proof brought is shown
    again for nothing. The job's results stay as they are, unless --keep makes these the first of them.
    """
    options = opening.decided(options)
    call = Call(sends=True, wait_s=wait, poll_s=None, max_cost=max_cost, yes=yes, lane="interactive")
    wish, service, models = _Wish(count, every_template, keep), str(options.service), options.models()
    screen = Screen(options)
    with opening.opened([job], options, models, service, lane=call.lane) as opened:
        if not opened.jobs:
            raise opened.locked[0]
        with opening.service(options, screen.say) as api, pixel_checks() as pixels:
            run = run_with(options, api, models, service, screen, pixels, call)
            proofs = [_Proof(run, one, wish, screen, options) for one in opened.jobs]
            for proof in proofs:
                proof.choose()
                for line in proof.table().splitlines():
                    screen.say(line)
            gate(options, [proof.job for proof in proofs if proof.chosen], call, service, models)
            codes = [proof.render(patience_s=wait) for proof in proofs]
        return first_code([*codes, *(error.exit_code for error in opened.locked)])


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A request that is shown."""

    key: str
    fingerprint: str
    wave: int
    """How many turns are asked for before it."""
    follows: str
    """The key of the last of them; empty where there is none."""


class _Proof:
    """The proof of one job."""

    def __init__(self, run: Run, job: OpenJob, wish: _Wish, screen: Screen, options: Options) -> None:
        from pipeline.outputs import Proofs
        from pipeline.reconcile import Work

        self.job = job
        self.chosen: list[_Chosen] = []
        self._run, self._wish, self._screen, self._options = run, wish, screen, options
        self._left = 0
        self._work = Work(job.job, job.journal, job.tree, run.state, run.service, None, sends=False)
        self._bought: dict[str, Batch] = {}
        """The call that has brought its picture already, by key."""
        self._proofs = Proofs(job.tree)
        self._arrived: list[Arrived] = []
        self._paths: dict[str, list[str]] = {}
        """Where the files of each are, by key."""

    # ---------------------------------------------------------------------------------------- before

    def choose(self) -> None:
        """Choose what is shown, and narrow the plan to it."""
        from pipeline import plan
        from pipeline.reconcile import calls

        job, wanted = self.job, self.job.journal.wanted
        if calls.settle(self._run, self._work):
            job.plan = job.compared()
        self._left = job.plan.requests
        places = plan.chosen(wanted.candidates(), self._wish.count, every_template=self._wish.every_template)
        for place in places:
            self._choose(place)
        job.plan = plan.narrowed(job.journal, job.job, job.plan, [one.key for one in self.chosen], self._bought)

    def _choose(self, place: int) -> None:
        """Choose a request and the turns after it; what an earlier proof brought for the first of them is here."""
        from pipeline.reconcile import calls

        wanted, before, is_here = self.job.journal.wanted, "", True
        for turn, at in enumerate([place, *wanted.after(wanted.at(place)[0])]):
            key, fingerprint, max_age_s = wanted.at(at)
            self.chosen.append(_Chosen(key, fingerprint, turn, before))
            batch = calls.shown(self._run, self._work, fingerprint) if is_here else None
            is_here = batch is not None and batch not in self._bought.values() and self._is_young(batch, max_age_s)
            if batch is not None and is_here:
                self._bought[key] = batch
            before = key

    def _is_young(self, batch: Batch, max_age_s: float | None) -> bool:
        return max_age_s is None or self._run.clock.time() - batch.planned_at <= max_age_s

    def table(self) -> str:
        """What this will cost, for people."""
        if not self.chosen:
            return f"{self.job.job.name}: nothing is left to be rendered; `pipeline plan` says why"
        return plan_table(self.job.plan, self._run.models, self._options.today, self._run.service, "interactive")

    # ---------------------------------------------------------------------------------------- render

    def render(self, *, patience_s: float) -> int:
        """Buy what is not here yet, and show all of it; returns the exit code."""
        from pipeline import reconcile
        from pipeline.reconcile import calls, turns

        if not self.chosen:
            return 0
        if self._wish.keep:
            reconcile.apply(self._work, self._run.service)
        was_cut = True  # by an error or a signal, which has its own words
        try:
            with self._screen.progress():
                for wave in range(1 + max(one.wave for one in self.chosen)):
                    to_ask: list[Record] = []
                    for record in self._records(wave):
                        if record.key in self._bought:
                            take = calls.keep if self._wish.keep else calls.look
                            self._show(take(self._run, self._work, record, self._bought[record.key]))
                        else:
                            to_ask.append(record)
                    self._screen.show(self._line())
                    calls.ask(self._run, self._work, to_ask, self._show, keeps=self._wish.keep, patience_s=patience_s)
            turns.go_on(self._work)
            was_cut = False
        finally:
            self._proofs.write()
            reconcile.finish(self._work)
            self._conclude(was_cut=was_cut)
        return self._code()

    def _code(self) -> int:
        return 3 if any(one.told["status"] != "done" for one in self._arrived) else 0

    def _records(self, wave: int) -> Iterator[Record]:
        """What is asked for in a wave: the records that wait to be sent, or drafts that are written nowhere.

        A turn that goes on from one without an answer is not among them.
        """
        journal, name = self.job.journal, self.job.job.name
        answered = {one.told["key"] for one in self._arrived if one.told["status"] in HAS_IMAGE}
        for one in self.chosen:
            if one.wave != wave or (one.follows and one.follows not in answered):
                continue
            if self._wish.keep:
                record = journal.records.get(name, one.key, one.fingerprint)
            else:
                record = journal.wanted.draft(name, self._run.service, one.key, one.fingerprint)
            assert record is not None, "it was chosen from what is wanted"
            yield record

    def _show(self, arrived: Arrived) -> None:
        told, is_kept = arrived.told, arrived.contents is None
        there = self._proofs.copy(told) if arrived.contents is None else self._proofs.show(told, arrived.contents)
        self._arrived.append(replace(arrived, contents=None))  # pictures are not kept in memory
        files = [path.removeprefix("proof/") for path in there] if is_kept else there
        paths = [shown_path(self.job.tree.folder.path / path) for path in files]
        self._paths[told["key"]] = paths
        outcome = "" if told["status"] == "done" else f"{told['status']}: {told['reason']}"
        is_new = arrived.seconds is not None
        took = f"{arrived.seconds:.1f} s · {usd(_cost(told))}" if is_new else "from an earlier proof"
        self._screen.tell(
            "rendered", job=self.job.job.name, key=told["key"], status=told["status"],
            where=paths[0] if paths else told["key"], outcome=" · ".join(part for part in (outcome, took) if part),
            seconds=arrived.seconds, cost=told.get("cost"),
        )  # fmt: skip
        self._screen.show(self._line())

    def _line(self) -> str:
        return f"{len(self._arrived)} of {plural(len(self.chosen), 'image')} · {{age}}"

    # ------------------------------------------------------------------------------------------- end

    def _conclude(self, *, was_cut: bool) -> None:
        """Print where the pictures are, what they came to, and what to type next."""
        code, hint = self._code(), "" if was_cut else self._hint()
        if self._options.quiet:
            if code and not was_cut:
                click.echo(f"{self.job.job.name}: {self._words()}; {hint}", err=True)
            return
        if not sys.stdout.isatty():  # on a terminal each was told of already
            for path in (path for one in self.chosen for path in self._paths.get(one.key, ())):
                click.echo(path)
        bought = [one for one in self._arrived if one.seconds is not None]
        spent = usd(sum(_cost(one.told) or 0 for one in bought))
        money = f"would cost {spent}" if self._run.service == "local" else spent
        where = shown_path(self.job.tree.folder.path / ("" if self._wish.keep else "proof"))
        self._screen.say(f"{self.job.job.name}: {self._words()} · {money} · {where}")
        if hint:
            self._screen.say(f"hint: {hint}")

    def _words(self) -> str:
        counts = Counter(one.told["status"] for one in self._arrived)
        words = [f"{count} {word}" for word, count in sorted(counts.items(), key=lambda one: one[0] != "done")]
        missing = len(self.chosen) - len(self._arrived)
        return ", ".join([*words, *([f"{missing} not asked for yet"] if missing else [])])

    def _hint(self) -> str:
        """What to type next, for the same selection."""
        job = f"{shown_path(self.job.job.path)} {self._options.selection.written}".rstrip()
        done = sum(one.told["status"] == "done" for one in self._arrived)
        if not done:
            return f"say it in other words, then `pipeline proof {job}` once more"
        if self._wish.keep:
            left = self._left - done
            return f"`pipeline run {job}` renders the other {left:,} by batch" if left else ""
        flags = [f"-n {self._wish.count}"] if self._wish.count != _COUNT else []
        words = " ".join([job, *flags, *(["--every-template"] if self._wish.every_template else []), "--keep"])
        run = f"`pipeline run {job}` renders all {self._left:,} by batch"
        return f"{run}; `pipeline proof {words}` makes these the first results, for nothing"


def _cost(told: Mapping[str, Any]) -> int | None:
    """What a request came to, in millionths of a USD."""
    cost = told.get("cost")
    return int(Decimal(cost["amount"]) * MICRO) if cost else None
