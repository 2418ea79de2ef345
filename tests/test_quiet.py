"""`-q`: nothing on success, on either stream; on failure one line for each job at most, with what to type next."""

from __future__ import annotations

import pytest

from pipeline.durable import Folder, locked

RUN = ("-q", "run", "jobs", "--poll", "0.1s")


def only_line(ended):
    assert ended.out == ""
    [line] = ended.err.splitlines()
    return line


def test_success_says_nothing(shop):
    for words in (RUN, RUN, ("-q", "submit", "jobs"), ("-q", "collect"), ("-q", "retry", "jobs"), ("-q", "validate")):
        ended = shop(*words)
        assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_many_mistakes_in_many_manifests_are_one_line(shop):
    shop.write("jobs/a.yaml", "promt: x\nsise: 2K\n")
    shop.write("jobs/b.yaml", "prompt: x\n")
    ended = shop(*RUN)
    assert ended.code == 2
    assert only_line(ended) == (
        "error: jobs/a.yaml:1:1: unknown key 'promt' in a job; did you mean 'prompt'? (and 1 more);"
        " the same command without -q shows all of it"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run",), "Missing argument 'JOB…'; see `pipeline run --help`"),
        (("run", "jobs", "--wat"), "No such option '--wat'"),
        (("run", "jobs", "--wait", "soon"), "write it like 90s"),
        (("wat",), "`pipeline --help` lists them"),
        (("run", "jobs/none.yaml"), "`pipeline init` makes a first one"),
    ],
)
def test_a_slip_on_the_command_line_is_one_line(shop, words, said):
    ended = shop("-q", *words)
    assert ended.code == 2
    assert said in only_line(ended)


def test_a_service_that_is_not_there_is_one_line(shop, monkeypatch):
    monkeypatch.setattr("pipeline.gemini.connection._wait", lambda _state: 0)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:9")
    ended = shop("-q", "submit", "jobs")
    assert ended.code == 4
    assert "run the same command again; nothing is lost" in only_line(ended)


def test_what_is_pending_is_one_line_for_each_job(slow_shop):
    slow_shop.write("jobs/barn.yaml", "prompt: a barn\n")
    slow_shop.delivers()
    ended = slow_shop("-q", "submit", "jobs", "--fail-if-pending")
    assert ended.code == 4
    hint = "batches are at work: `pipeline collect jobs/{}.yaml` or the same command again fetches what is ready"
    assert ended.err.splitlines() == [
        f"barn: 1 pending; {hint.format('barn')}",
        f"shop: 6 pending; {hint.format('shop')}",
    ]


def test_a_job_that_another_run_holds_is_named_and_the_others_go_on(shop):
    shop.write("jobs/barn.yaml", "prompt: a barn\n")
    with locked(Folder(shop.outputs / ".pipeline"), "locks/shop.lock", what="the job"):
        ended = shop(*RUN)
    assert ended.code == 75
    lines = ended.err.splitlines()
    assert lines[0].startswith("another run works on the job 'shop' (process ")
    assert lines[1:] == []
    assert {record["status"] for record in shop.records("barn").values()} == {"done"}
