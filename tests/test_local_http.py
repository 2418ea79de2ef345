"""Keys, the ledger, the clock and plain HTTP of the embedded service."""

from __future__ import annotations

import ast
import json
import socket
import time
from pathlib import Path

from local_wire import HOUR, MODEL, Wire, ask, picture_of

import pipeline.local
from pipeline.local import catalog, serving
from pipeline.local.press import Press
from pipeline.local.state import State

# Models and keys


def test_models_unknown_or_shut_down_are_named(wire):
    for model in ("gemini-3.1-flash-image", "gemini-2.5-flash-image", "gemini-3-pro-image-preview", "gemini-dream"):
        for method, body in (("generateContent", ask()), ("batchGenerateContent", {"batch": {}})):
            code, status, message = wire.refused("POST", f"/v1beta/models/{model}:{method}", body)
            assert (code, status) == (404, "NOT_FOUND")
            assert f"models/{model} " in message


def test_a_clock_put_back_brings_a_model_back(wire):
    now = wire.ok("POST", "/_local/clock", {"advance_s": 0})["now"]
    wire.advance(catalog._MODELS["gemini-2.5-flash-image"].shut_down_at - now - HOUR)
    response = wire.ok(
        "POST", "/v1/models/gemini-2.5-flash-image:generateContent", ask(imageConfig={"aspectRatio": "2:3"})
    )
    image, _ = picture_of(response)
    assert (image.format, image.size) == ("PNG", (832, 1248))
    assert "thoughtsTokenCount" not in response["usageMetadata"]


# The ledger, HTTP and the end


def test_the_ledger_holds_every_accepted_call_in_order(wire, tmp_path):
    name = wire.batch({"a": ask(), "b": ask()})
    wire.ended(name)
    wire.refused("GET", "/v1beta/files/none")
    wire.ok("POST", f"/v1beta/models/{MODEL}:generateContent", ask())
    wire.ok("POST", f"/v1beta/{name}:cancel", b"")
    wire.ok("DELETE", f"/v1beta/{name}")
    ledger = wire.ok("GET", "/_local/ledger")
    ops = ["files.upload", "batches.create", "generateContent", "batches.cancel", "batches.delete"]
    assert [entry["op"] for entry in ledger] == ops
    created = ledger[1]
    assert created.pop("at")
    assert created == {
        "op": "batches.create",
        "name": name,
        "displayName": "owls",
        "fileName": ledger[0]["name"],
        "model": MODEL,
        "requests": 2,
    }
    written = (tmp_path / "state" / "ledger.jsonl").read_text().splitlines()
    assert [json.loads(line)["op"] for line in written] == ops


def test_a_ledger_line_without_its_call_is_cut_off(tmp_path):
    with serving(tmp_path) as url:
        Wire(url).upload(b"x")
    with (tmp_path / "ledger.jsonl").open("a") as stream:
        stream.write('{"op": "killed before it was done"}\n{"op":')
    with serving(tmp_path) as url:
        assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 1
        Wire(url).upload(b"x")
        ledger = Wire(url).ok("GET", "/_local/ledger")
    assert [entry["op"] for entry in ledger] == ["files.upload"] * 2
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 2


def test_what_is_no_proper_call_gets_a_proper_error(wire):
    assert wire.refused("GET", "/v1beta/nowhere")[:2] == (404, "NOT_FOUND")
    assert wire.refused("PATCH", "/v1beta/batches/x", {})[0] == 404
    assert wire.refused("POST", f"/v1beta/models/{MODEL}:generateContent", b"{")[0] == 400
    assert wire.refused("POST", f"/v1beta/models/{MODEL}:generateContent", b"[]")[0] == 400
    assert wire.refused("POST", f"/v1beta/models/{MODEL}:generateContent", b"[" * 100_000)[0] == 400
    assert wire.refused("BREW", "/v1beta/files")[0] == 501
    assert "20971520" in wire.refused("POST", f"/v1beta/models/{MODEL}:generateContent", b" " * 20_971_521)[2]
    assert wire.refused("POST", "/_local/clock", {"advance_s": "x"})[0] == 400


def test_a_client_that_hangs_up_disturbs_nobody(wire, capfd):
    port = int(wire.url.rsplit(":", 1)[1])
    head = b"POST /v1/models/x:generateContent HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    for sent in (b"", b"GET /v1/files HTTP/1.1\r\n", head + b"\r\n{", b"nonsense\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(sent)
    wire.ok("GET", "/v1/files")
    assert capfd.readouterr() == ("", "")


def test_it_stops_at_once_in_the_middle_of_its_work(tmp_path):
    with serving(tmp_path, latency_s=0) as url:
        name = Wire(url).batch({str(n): ask(f"owl {n}") for n in range(3000)})
        while not any(path.stat().st_size for path in (tmp_path / "batches").glob("*.out")):
            time.sleep(0.005)
        assert Wire(url).ok("GET", f"/v1beta/{name}")["metadata"]["state"] == "BATCH_STATE_RUNNING"
    [drawn] = (tmp_path / "batches").glob("*.out")
    assert drawn.read_bytes().count(b"\n") < 3000, "what it has not drawn, it draws another time"

    state = State(tmp_path)
    stopped = Press(state)
    stopped.stop()
    before = state.row("SELECT * FROM batch")
    stopped._turn(before)
    after = state.row("SELECT * FROM batch")
    state.close()
    assert tuple(after) == tuple(before), "stopped while it reads the input, it has not understood it as shorter"


def test_it_shares_nothing_with_the_other_side_of_the_wire():
    for path in Path(pipeline.local.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 1 or not (node.module or "").startswith("pipeline"), path
                assert node.level < 2, path
            elif isinstance(node, ast.Import):
                assert not any(name.name.startswith(("pipeline", "google")) for name in node.names), path
