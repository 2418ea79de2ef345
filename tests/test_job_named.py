"""Which manifests the words of a command line name."""

import pytest
from jobs import write

from pipeline.errors import UsageError
from pipeline.job.named import manifests


@pytest.fixture
def folder(tmp_path):
    for name in ("jobs/b.yaml", "jobs/a.yml", "jobs/_base.yaml", "jobs/.x.yaml", "jobs/notes.md", "jobs/sub/c.yaml"):
        write(tmp_path, name, "prompt: x")
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["jobs/b.yaml"], ["jobs/b.yaml"]),
        (["jobs"], ["jobs/a.yml", "jobs/b.yaml"]),
        (["jobs/"], ["jobs/a.yml", "jobs/b.yaml"]),
        (["jobs/*.yaml"], ["jobs/b.yaml"]),
        (["jobs/**/*.yaml"], ["jobs/b.yaml", "jobs/sub/c.yaml"]),
        (["jobs/_base.yaml"], ["jobs/_base.yaml"]),
        (["jobs/notes.md"], ["jobs/notes.md"]),
        (["jobs/b.yaml", "jobs"], ["jobs/b.yaml", "jobs/a.yml"]),
        ([], []),
    ],
)
def test_a_word_is_a_manifest_a_folder_or_a_glob(folder, words, found):
    assert [path.relative_to(folder).as_posix() for path in manifests(words, cwd=folder)] == found


@pytest.mark.parametrize(
    ("word", "message", "hint"),
    [
        (
            "jobs/*.YAML",
            "no job matches 'jobs/*.YAML'",
            "there is 'jobs/_base.yaml': names are compared with their case",
        ),
        ("jobs/{a,b}.yaml*", "no job matches", "braces are no pattern here; list both globs, or use *"),
        (
            "jobs/bb.yaml",
            "there is no manifest 'jobs/bb.yaml'; did you mean 'b.yaml'?",
            "`pipeline init` makes a first one",
        ),
        ("job/b.yaml", "' is not there; did you mean 'jobs'?", "`pipeline init` makes a first one"),
        ("*/../*.yaml", "'*/../*.yaml' has '..' behind a wildcard", "write it before the first wildcard"),
    ],
)
def test_what_was_meant_is_told(folder, word, message, hint):
    with pytest.raises(UsageError) as caught:
        manifests([word], cwd=folder)
    assert message in str(caught.value)
    assert caught.value.hint == hint


@pytest.mark.parametrize("word", ["none.yaml", "empty", "jobs/*.json", "", "a\0b", "/none/*.yaml", "x" * 300, "a**b/*"])
def test_a_word_that_names_nothing_is_wrong_usage(folder, word):
    with pytest.raises(UsageError):
        manifests([word], cwd=folder)
