"""Three nights of cron, by the lines of docs/nights.md: a changed catalog, passes that meet, a machine that stops."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest
from conftest import KEY, ROOT

NIGHTS = (ROOT / "docs" / "nights.md").read_text(encoding="utf-8")
CRONTAB = re.search(r"^```crontab\n(.*?)^```$", NIGHTS, re.MULTILINE | re.DOTALL)[1]
HOUR = 3600.0


@dataclass
class Cron:
    """Runs the lines of the crontab as cron does: from `/`, by sh, with next to no environment, into a pipe."""

    project: object
    service: object

    def __post_init__(self):
        folder = self.project.folder
        home = self.project.write("home/key", f"{KEY}\n")
        home.chmod(0o600)
        script = self.project.write(
            ".venv/bin/pipeline",
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            "from pipeline.__main__ import main\nmain()\n",
        )
        script.chmod(0o755)
        text = CRONTAB.replace("/srv/shop", str(folder)).replace(
            "/home/me/.config/image-batch-pipeline", str(home.parent)
        )
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        self.environment = dict(line.split("=", 1) for line in lines if re.match(r"\w+=", line))
        self.night, self.half_hourly = (line.split(None, 5)[5] for line in lines if not re.match(r"\w+=", line))

    def _words(self, line, more):
        environment = {"PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LOGNAME": "me", **self.environment, **more}
        environment |= {"GOOGLE_GEMINI_BASE_URL": self.service.url, "PYTHONDONTWRITEBYTECODE": "1"}
        return ["env", "-i", *(f"{name}={value}" for name, value in environment.items()), "/bin/sh", "-c", line]

    def start(self, line, **more):
        words = self._words(line, more)
        return subprocess.Popen(
            words, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )

    def __call__(self, line, **more):
        """The exit code, and what cron would mail."""
        process = self.start(line, **more)
        mail, _ = process.communicate(timeout=60)
        return process.returncode, mail.decode()


@pytest.fixture
def cron(slow_shop, slow_service):
    return Cron(slow_shop, slow_service)


def git(folder, *words):
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "HOME": str(folder)}
    who = ["-c", "user.name=shop", "-c", "user.email=shop@example.org"]
    done = subprocess.run(
        ["git", *who, *words],
        cwd=folder,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def commit(folder):
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "morning")


def bought(service):
    """How many images each batch was asked for."""
    return [entry["requests"] for entry in service.ledger()]


SILENT = (0, "")
KILLED = {-9, 137}


@pytest.mark.torture
def test_three_nights_buy_every_image_once(cron, slow_shop, slow_service):
    shop, service = slow_shop, slow_service
    shutil.copy(ROOT / "pipeline/cli/scaffold/outputs.gitignore", shop.write("outputs/.gitignore", ""))
    shop.write(".gitignore", "/home/\n/.venv/\n")
    git(shop.folder, "init", "-q")
    commit(shop.folder)

    # The first night: a half-hourly pass meets the night's own, which is still at work.
    first = cron.start(cron.night)
    lock = shop.outputs / ".pipeline/locks/shop.lock"
    while not (lock.is_file() and lock.read_text().startswith("process ")):
        assert first.poll() is None
    pid = int(lock.read_text().split()[1])
    os.kill(pid, signal.SIGSTOP)  # it takes its time
    code, mail = cron(cron.half_hourly)
    os.kill(pid, signal.SIGCONT)
    assert code == 75
    assert mail.count("\n") == 1
    assert mail.startswith(f"error: another run works on the job 'shop' (process {pid}); wait for it to end")
    assert first.communicate(timeout=60) == (b"", None)
    assert first.returncode == 0
    assert bought(service) == [6]

    # The batch is through; the machine goes down while its images are put in their places, and comes up again.
    service.advance(21 * HOUR)
    code, mail = cron(cron.half_hourly, PIPELINE_CRASH_AT="publish:renamed:2")
    assert code in KILLED, mail
    assert cron(cron.half_hourly) == SILENT
    assert len(shop.records()) == 6
    commit(shop.folder)

    # The second night: a row is new, one says something else, one is gone; the machine goes down behind the create.
    shop.write("jobs/products.csv", "id,product\nmug,blue mug\nvase,green glass vase\njug,tin jug\n")
    code, mail = cron(cron.night, PIPELINE_CRASH_AT="create:after:1")
    assert code in KILLED, mail
    assert cron(cron.half_hourly) == SILENT
    assert bought(service) == [6, 4]
    service.advance(21 * HOUR)
    assert cron(cron.half_hourly) == SILENT
    changed = git(shop.folder, "status", "--porcelain", "-uall", "outputs").split("\n")
    assert {line.split("/")[-1].split(".")[0] for line in changed if line.endswith(".jpg")} == {
        f"{name}-{shape}" for name in ("vase", "jug") for shape in ("1x1", "4x5")
    }
    commit(shop.folder)

    # The third night: nothing is to be done, and nothing is.
    ledger, before = service._call("/_local/ledger"), shop.tree()
    for line in (cron.night, cron.half_hourly):
        assert cron(line) == SILENT
        service.advance(HOUR)
    assert service._call("/_local/ledger") == ledger
    assert shop.tree() == before
    assert git(shop.folder, "status", "--porcelain") == ""
    assert bought(service) == [6, 4]
    assert {record["status"] for record in shop.records().values()} == {"done"}


@pytest.mark.parametrize(
    ("manifest", "environment", "code", "said"),
    [
        pytest.param("promt: x\n", {}, 2, "did you mean 'prompt'?", id="manifest"),
        pytest.param("prompt: x\n", {"PIPELINE_KEY_FILE": ""}, 2, "set GEMINI_API_KEY", id="no key"),
        pytest.param("prompt: x\n", {"PIPELINE_KEY_FILE": "/nowhere"}, 2, "PIPELINE_KEY_FILE: /nowhere", id="key file"),
        pytest.param("prompt: x\nbudget: 0.001\n", {}, 5, "raise `budget`", id="budget"),
    ],
)
@pytest.mark.some(2)
def test_what_goes_wrong_at_night_is_mailed_in_one_line(cron, manifest, environment, code, said):
    cron.project.write("jobs/shop.yaml", manifest)
    cron.environment |= environment
    ended, mail = cron(cron.night)
    assert ended == code
    assert mail.count("\n") == 1
    assert mail.startswith("error: ")
    assert said in mail
    assert KEY not in mail
