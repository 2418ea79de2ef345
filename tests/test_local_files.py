"""The File API of the embedded service."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from io import BytesIO

import pytest
from local_wire import HOUR, Wire, chunk, sdk

from pipeline.local import serving


@pytest.fixture
def wire(tmp_path):
    with serving(tmp_path / "state", latency_s=0, pictures="plain") as url:
        yield Wire(url)


def test_an_upload_goes_in_chunks_and_forgives_one_sent_twice(wire):
    headers = {
        "X-Goog-Upload-Protocol": "resumable",
        "X-Goog-Upload-Command": "start",
        "X-Goog-Upload-Header-Content-Length": "10",
        "X-Goog-Upload-Header-Content-Type": "text/plain",
    }
    code, _, told = wire("POST", "/upload/v1beta/files", {"file": {"display_name": "ten"}}, headers=headers)
    url = told["X-Goog-Upload-URL"]
    assert (code, told["X-Goog-Upload-Status"]) == (200, "active")
    assert url.startswith(f"{wire.url}/upload/v1beta/files?")
    assert chunk(wire, url, b"0123", 0)[2]["X-Goog-Upload-Status"] == "active"
    assert chunk(wire, url, b"0123", 0)[2]["X-Goog-Upload-Status"] == "active"
    code, answer, told = chunk(wire, url, b"89", 8)
    assert (code, told["X-Goog-Upload-Status"]) == (400, "final")
    assert "offset 8" in answer["error"]["message"]
    code, answer, told = chunk(wire, url, b"4567890", 4, "upload, finalize")
    assert (code, told["X-Goog-Upload-Status"]) == (400, "final"), "more than announced"
    code, answer, told = chunk(wire, url, b"456789", 4, "upload, finalize")
    assert (code, told["X-Goog-Upload-Status"]) == (200, "final")
    assert chunk(wire, url, b"456789", 4, "upload, finalize")[1] == answer
    file = answer["file"]
    digest = hashlib.sha256(b"0123456789").hexdigest()
    assert re.fullmatch(r"files/[a-z0-9]{12}", file["name"])
    assert base64.b64decode(file["sha256Hash"]).decode() == digest
    assert file["uri"] == f"https://generativelanguage.googleapis.com/v1beta/{file['name']}"
    assert {key: file[key] for key in ("displayName", "mimeType", "sizeBytes", "state", "source")} == {
        "displayName": "ten",
        "mimeType": "text/plain",
        "sizeBytes": "10",
        "state": "ACTIVE",
        "source": "UPLOADED",
    }
    assert chunk(wire, f"{wire.url}/upload/v1beta/files?upload_id=none", b"", 0)[0] == 404


def test_an_empty_file_and_one_of_several_chunks_arrive_whole(tmp_path):
    with serving(tmp_path / "state") as url, sdk(url) as client:
        for size in (0, 1, 8 << 20, (8 << 20) + 1, 20 << 20):
            content = os.urandom(1024) * (size // 1024) + b"x" * (size % 1024)
            file = client.files.upload(file=BytesIO(content), config={"mime_type": "text/plain"})
            assert file.size_bytes == size
            assert base64.b64decode(file.sha256_hash).decode() == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", ["-a", "a-", "A", "a_b", "a/b", "a" * 41])
def test_a_file_name_has_rules(wire, name):
    headers = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
    start = {"file": {"name": f"files/{name}", "mimeType": "text/plain"}}
    assert wire.refused("POST", "/upload/v1beta/files", start, headers=headers)[:2] == (400, "INVALID_ARGUMENT")


def test_a_file_name_is_taken_once_and_free_again_when_the_file_is_gone(wire):
    headers = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
    start = {"file": {"name": "files/" + "a" * 40, "mimeType": "text/plain"}}
    wire.upload(b"x", name="files/" + "a" * 40)
    assert wire.refused("POST", "/upload/v1beta/files", start, headers=headers)[:2] == (409, "ALREADY_EXISTS")
    wire.ok("DELETE", "/v1beta/files/" + "a" * 40)
    wire.upload(b"x", name="files/" + "a" * 40)
    wire.advance(49 * HOUR)
    wire.upload(b"x", name="files/" + "a" * 40)


def test_a_file_is_kept_for_two_days(wire):
    file = wire.upload(b"x", name="here")
    wire.advance(47 * HOUR)
    assert wire.ok("GET", "/v1beta/files/here") == file
    wire.advance(2 * HOUR)
    words = "You do not have permission to access the File here or it may not exist."
    assert wire.refused("GET", "/v1beta/files/here") == (403, "PERMISSION_DENIED", words)
    assert wire.refused("DELETE", "/v1beta/files/here") == (403, "PERMISSION_DENIED", words)
    assert wire.ok("GET", "/v1beta/files") == {}


def test_a_file_too_large_is_refused_before_it_is_sent(wire):
    headers = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
    start = {"file": {"mimeType": "text/plain", "sizeBytes": str(2 * 1024**3 + 1)}}
    assert wire.refused("POST", "/upload/v1beta/files", start, headers=headers)[0] == 400


def test_what_was_uploaded_is_not_for_download(wire):
    wire.upload(b"x", name="mine")
    assert wire.refused("GET", "/v1beta/files/mine:download?alt=media")[:2] == (400, "INVALID_ARGUMENT")
    assert wire.refused("GET", "/v1beta/files/other:download?alt=media")[0] == 403
