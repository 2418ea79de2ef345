"""A system call fails, or is the last one: each kind of call, at several of its turns, by strace. Then it goes on.

A failure of the disk ends in exit code 7 and a word about it, one of the network in 4; neither in a traceback, a half
file, or a second bill.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from functools import cache

import pytest
from crashing import ALL, KILLED, spread
from pictures import encoded, noise
from test_crash import RUN, SHOP, Story, Told

pytestmark = [
    pytest.mark.torture,
    pytest.mark.timeout(3600 if ALL else 300),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not here"),
]
FULL, BROKEN, FIXED, KILL = "error=ENOSPC", "error=EIO", "error=EROFS", "signal=KILL"
# By call: the story it is tried in, what happens to it, and at how many of its turns.
INJECTED = {
    "fsync": ("new", (KILL, BROKEN, FULL), 3),
    "fdatasync": ("new", (KILL, BROKEN, FULL), 3),
    "pwrite64": ("changed", (KILL, BROKEN, FULL, f"{FULL} from then on"), 2),
    "write": ("changed", (KILL, BROKEN, f"{FULL} from then on"), 2),
    "renameat": ("changed", (KILL, BROKEN, FIXED), 3),
    "unlink,unlinkat": ("changed", (KILL, BROKEN), 2),
    "ftruncate": ("new", (KILL, BROKEN, FULL), 2),
    "mkdir,mkdirat": ("new", (KILL, FULL, FIXED), 2),
    "openat": ("new", (KILL, BROKEN, "error=EMFILE"), 2),
    "sendto": ("new", (KILL,), 12),  # after an error the connection would still be there, and be waited for
    "recvfrom": ("new", (KILL, "error=ECONNRESET", "error=ETIMEDOUT"), 4),
    "connect": ("new", (KILL, "error=ECONNREFUSED", "error=ENETUNREACH", "error=ETIMEDOUT"), 1),
    "flock": ("changed", (KILL, "error=ENOLCK"), 2),
}


def changed(case):
    """Rendered; then a product is another, and one is gone: something is bought, something moves."""
    assert case.run(*RUN) == 0
    case.write("jobs/products.csv", "id,product\nmug,red mug\nbowl,sand bowl\n")


STORIES = {
    "new": Story(
        SHOP.replace("prompt: ", "images: [photo.png]\nprompt: "),
        files={"jobs/photo.png": encoded(noise((24, 24)), "PNG")},
    ),
    "changed": Story(SHOP + "output: {sidecar: true}\n", before=changed),
}


class Counted(Told):
    """What a story is like, with how often each call is made in it."""

    def __init__(self, story, top):
        super().__init__(story, top)
        with story.staged(top / "counted") as case:
            assert case.run(*story.command, strace=("-o", str(top / "log"))) == 0, case.err
        found = re.findall(
            r"^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed>)", (top / "log").read_text(errors="replace"), re.MULTILINE
        )
        self.calls = Counter(found)

    def turns(self, calls, most):
        """Some of the times that one of these calls is made, the first and the last among them."""
        count = sum(self.calls[call] for call in calls.split(","))
        return spread(range(1, count + 1), most)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the two stories are like, each found out once."""
    return cache(lambda name: Counted(STORIES[name], tmp_path_factory.mktemp("told")))


def inject(story, told, top, calls, what, turn):
    how, _, persistently = what.partition(" from")
    with story.staged(top) as case:
        when = f"inject={calls}:{how}:when={turn}{'+' if persistently else ''}"
        code = case.run(*story.command, strace=("-o", "/dev/null", "-e", f"trace={calls}", "-e", when))
        # How often it looks at the service depends on luck: it may be through before its turn comes.
        allowed = {
            0,
            3,
            4,
            KILLED if how == KILL else 7,
            2 if calls == "openat" else 7,
        }  # a manifest that cannot be read
        assert code in allowed, (code, case.err)
        assert "Traceback" not in case.err, case.err
        if code == 7 and calls != "write":  # which may have been the word about it
            assert re.search(r"^error: \S.{9}", case.err, re.MULTILINE), case.err
        story.ends(case)
        assert case.outcome() == told.outcome
    return code


CASES = [(calls, name) for calls in INJECTED for name in STORIES if ALL or INJECTED[calls][0] == name]


@pytest.mark.parametrize(("calls", "name"), CASES)
def test_whatever_call_fails_or_is_the_last_it_says_so_and_goes_on(told, tmp_path, calls, name):
    _name, kinds, most = INJECTED[calls]
    clean, wrong = told(name), []
    for what in kinds:
        for turn in clean.turns(calls, most):
            try:
                inject(STORIES[name], clean, tmp_path / "case", calls, what, turn)
            except AssertionError as error:
                wrong.append(f"{what} at {turn}: {error}")
            shutil.rmtree(tmp_path / "case")
    assert not wrong, "\n".join(wrong)
