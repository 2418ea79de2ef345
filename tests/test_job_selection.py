"""Which manifests the words of a command line name."""

import pytest
from jobs import write

from pipeline.errors import UsageError
from pipeline.job.selection import manifests


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


@pytest.mark.parametrize("word", ["none.yaml", "empty", "jobs/*.json", "", "a\0b", "/none/*.yaml", "x" * 300, "a**b/*"])
def test_a_word_that_names_nothing_is_wrong_usage(folder, word):
    with pytest.raises(UsageError):
        manifests([word], cwd=folder)
