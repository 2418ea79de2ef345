"""The JavaScript SDK, unmodified, drives the same service: what it sees is what the Python SDK sees.

It is a package for Node: `npm install --prefix FOLDER @google/genai@2` (the last one for Node 20). It is looked for in
the folder that GENAI_JAVASCRIPT_FOLDER names, and in .venv/npm of the repository. Nothing here reaches a network.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from local_wire import MODEL, PRO

from pipeline.local import serving

ROOT = Path(__file__).parent.parent
SCRIPT = Path(__file__).parent / "data" / "javascript.mjs"


def folder():
    """Where the package is installed, or None."""
    places = [os.environ.get("GENAI_JAVASCRIPT_FOLDER"), ROOT / ".venv" / "npm"]
    found = (Path(place) for place in places if place and (Path(place) / "node_modules/@google/genai").is_dir())
    return next(found, None) if shutil.which("node") else None


FOLDER = folder()


@pytest.mark.skipif(FOLDER is None, reason="npm install --prefix .venv/npm @google/genai@2")
def test_the_javascript_sdk_goes_all_the_way(tmp_path):
    with serving(tmp_path / "state", latency_s=0, pictures="plain") as url:
        done = subprocess.run(
            ["node", str(SCRIPT), str(FOLDER), url, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)

    file = seen["file"]
    assert (file["displayName"], file["mimeType"], file["state"]) == ("owls", "application/jsonl", "ACTIVE")
    assert (seen["fileShown"], int(seen["large"])) == (True, 9 << 20)
    assert (seen["created"]["state"], seen["created"]["displayName"]) == ("JOB_STATE_PENDING", "owls")
    output = f"files/batch-{seen['created']['name'].removeprefix('batches/')}"
    assert seen["done"] == {"state": "JOB_STATE_SUCCEEDED", "fileName": output}
    answers = {answer.pop("key"): answer for answer in seen["answers"]}
    assert answers == {"a": {"finishReason": "STOP"}, "b": {"finishReason": "STOP"}, "c": {"code": 13}}
    assert sorted((one["key"], *one["kinds"]) for one in seen["inlined"]) == [
        ("x", "text", "image"),
        ("y", "text", "image"),
    ]
    assert (seen["batches"], seen["files"]) == (2, 2)
    assert (seen["gone"]["status"], seen["fileGone"]["status"]) == (404, 403)

    assert seen["first"] == ["thought text", "thought image", "text", "image"]
    assert seen["usage"]["candidatesTokensDetails"] == [{"modality": "IMAGE", "tokenCount": 1120}]
    assert seen["second"] == ["text", "image"], "its signature came back whole"
    assert "missing a thought_signature" in seen["unsigned"]["message"]
    assert seen["counted"] == seen["used"] > 1120
    assert (seen["wrong"]["status"], "9K" in seen["wrong"]["message"]) == (400, True)
    assert seen["model"] == f"models/{MODEL}"
    assert set(seen["models"]) == {f"models/{name}" for name in (MODEL, PRO, "gemini-3.1-flash-lite-image")}
