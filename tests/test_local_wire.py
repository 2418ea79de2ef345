"""What wire.md's checklist asks of an emulator, by its numbers: HTTP, uploads, files and downloads (lines 1 to 15).

A test is named `test_08_<line>_<law>`. The unmodified SDK drives what it can say; the rest is sent by hand.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import re
from email.utils import parsedate_to_datetime
from io import BytesIO
from types import SimpleNamespace

import pytest
from google.genai import Client, _api_client, errors, types
from google.oauth2.credentials import Credentials
from local_wire import HOUR, KEY, MODEL, PRO, Wire, ask, chunk, inline, lines, photo, sdk
from test_local_faults import rehearsed

from pipeline.local import serving

CREATE = f"/v1beta/models/{MODEL}:batchGenerateContent"
GENERATE = f"/v1beta/models/{MODEL}:generateContent"
START = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}


def connected(wire):
    return http.client.HTTPConnection(wire.url.removeprefix("http://"), timeout=20)


# Routing


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1alpha"])
def test_08_01_every_version_is_the_same_service(wire, version):
    with Client(api_key=KEY, http_options=types.HttpOptions(base_url=wire.url, api_version=version)) as client:
        content = lines({"a": ask("LOCAL:NOIMAGE")})
        file = client.files.upload(file=BytesIO(content), config={"mime_type": "application/jsonl"})
        assert wire.ok("GET", f"/v1beta/{file.name}")["sizeBytes"] == str(len(content))
        job = client.batches.create(model=MODEL, src=file.name)
        wire.ended(job.name)
        assert [one.name for one in client.batches.list()] == [job.name]
        output = client.batches.get(name=job.name).dest.file_name
        downloaded = client.files.download(file=output)
        assert json.loads(downloaded)["key"] == "a"
        request = connected(wire)
        request.request("GET", f"/download/{version}/{output}:download?alt=media", headers={"x-goog-api-key": KEY})
        assert request.getresponse().read() == downloaded
        request.close()
        assert client.models.generate_content(model=MODEL, contents="an owl").candidates
    assert wire("GET", "/v2/batches")[0] == 404


def test_08_02_a_verb_ends_the_path_and_strange_query_words_are_passed_over(wire, client):
    file = wire.upload(b"x", name="a-b--c-0")
    assert wire.ok("GET", "/v1beta/files/a-b--c-0?alt=json&prettyPrint=false&x=") == file
    assert client.files.get(name="a-b--c-0").name == "files/a-b--c-0"
    assert wire.ok("GET", "/v1beta/batches?filter=x&returnPartialSuccess=true&pageSize=3") == {}
    assert wire.refused("POST", "/v1beta/batches/a-b:explode", b"")[:2] == (404, "NOT_FOUND")
    assert wire.refused("POST", "/v1beta/batches/a-b:cancel", b"")[:2] == (404, "NOT_FOUND")


def test_08_03_a_body_is_read_by_its_length_whatever_it_is_called(wire):
    file = wire.upload(bytes(range(256)), mime="application/octet-stream")  # its chunks say application/json
    assert file["sizeBytes"] == "256"
    strange = {"Content-Type": "text/plain"}
    assert wire("POST", GENERATE, ask(), headers=strange)[0] == 200
    assert wire("POST", GENERATE, json.dumps(ask()).encode(), headers={"Content-Type": "image/png"})[0] == 200


def test_08_03_one_connection_carries_many_calls(wire):
    connection = http.client.HTTPConnection("127.0.0.1", int(wire.url.rsplit(":", 1)[1]), timeout=10)
    for path, code in (("/v1/files", 200), ("/v1/nowhere", 404), ("/v1/models/x:generateContent", 404)):
        connection.request("POST" if ":" in path else "GET", path, b"{}", headers={"x-goog-api-key": KEY})
        reply = connection.getresponse()
        assert (reply.status, bool(reply.read())) == (code, True)
        local = connection.sock
    assert local is not None, "still the first connection"
    connection.close()


def test_08_04_the_key_is_asked_for_everywhere_but_on_an_upload_url(tmp_path):
    with serving(tmp_path, keys=["the-only-key"]) as url:
        wire = Wire(url)
        assert wire.refused("GET", "/v1beta/files", key=None)[:2] == (403, "PERMISSION_DENIED")
        code, answer, _ = wire("GET", "/v1beta/files")
        assert (code, answer["error"]["status"]) == (400, "INVALID_ARGUMENT")
        assert answer["error"]["message"] == "API key not valid. Please pass a valid API key."
        assert answer["error"]["details"][0]["reason"] == "API_KEY_INVALID"
        assert wire("GET", "/v1beta/files", key="the-only-key")[0] == 200
        assert wire("GET", "/v1beta/files?key=the-only-key", key=None)[0] == 200, "as other clients say it"
        start = {"file": {"mimeType": "text/plain"}}
        assert wire("POST", "/upload/v1beta/files", start, key=None, headers=START)[0] == 403
        _, _, told = wire("POST", "/upload/v1beta/files", start, key="the-only-key", headers=START)
        assert chunk(wire, told["X-Goog-Upload-URL"], b"x", 0, "upload, finalize")[0] == 200
        with sdk(url) as client, pytest.raises(errors.ClientError, match="API key not valid") as refused:
            client.models.get(model=MODEL)
        assert refused.value.code == 400
    with serving(tmp_path) as url:
        assert Wire(url)("GET", "/v1beta/files", key="too-short")[0] == 400


# Requests in


def test_08_05_the_sdk_says_everything_in_its_mixed_spelling_and_is_understood(wire, client):
    """It sends inlineData.mime_type, thinkingConfig.thinking_level, topK as 3.0, bytes in the URL's alphabet."""
    file = client.files.upload(file=BytesIO(photo(colour="navy")), config={"mime_type": "image/png"})
    parts = [
        types.Part.from_text(text="an owl between these"),
        types.Part.from_bytes(data=photo(), mime_type="image/png"),
        types.Part.from_uri(file_uri=file.uri, mime_type="image/png"),
    ]
    config = types.GenerateContentConfig(
        image_config=types.ImageConfig(aspect_ratio="16:9", image_size="2K"),
        response_modalities=["IMAGE"],
        system_instruction="Be brief.",
        thinking_config=types.ThinkingConfig(thinking_level="HIGH", include_thoughts=True),
        safety_settings=[types.SafetySetting(category="HARM_CATEGORY_HARASSMENT", threshold="OFF")],
        tools=[types.Tool(google_search=types.GoogleSearch())],
        top_k=3,
        top_p=0.9,
        temperature=1,
        seed=7,
    )
    response = client.models.generate_content(
        model=MODEL, contents=[types.Content(role="user", parts=parts)], config=config
    )
    image = response.candidates[0].content.parts[-1].inline_data
    assert (image.mime_type, response.usage_metadata.prompt_tokens_details[1].token_count) == ("image/jpeg", 2240)


@pytest.mark.parametrize("priority", ["-5", 5, 5.0])
def test_08_05_whole_numbers_come_as_numbers_or_as_text(wire, client, priority):
    file = wire.upload(lines({"a": ask()}))
    options = types.HttpOptions(extra_body={"batch": {"priority": priority}})
    job = client.batches.create(model=MODEL, src=file["name"], config={"http_options": options})
    assert wire.ok("GET", f"/v1beta/{job.name}")["metadata"]["priority"] == str(int(float(priority)))
    for size in (1, "1", 1.0):
        assert (
            wire("POST", "/upload/v1beta/files", {"file": {"size_bytes": size, "mime_type": "a/b"}}, headers=START)[0]
            == 200
        )


def test_08_06_an_unknown_field_is_refused_by_its_name(wire, client):
    with pytest.raises(errors.ClientError, match='Unknown name "labels"') as refused:
        client.models.generate_content(model=MODEL, contents="an owl", config={"labels": {"a": "b"}})
    assert (refused.value.code, refused.value.status) == (400, "INVALID_ARGUMENT")
    for path, body in (
        (CREATE, {"batch": {"displayNam": "x"}}),
        ("/v1beta/files:register", {"uri": []}),
        (f"/v1beta/models/{MODEL}:countTokens", {"content": []}),
    ):
        assert "Unknown name" in wire.refused("POST", path, body)[2]


def test_08_06_a_webhook_is_taken_and_called_by_nobody(wire, client):
    file = wire.upload(lines({"a": ask()}))
    hook = types.WebhookConfig(uris=["https://example.com/done"], user_metadata={"a": "b"})
    job = client.batches.create(model=MODEL, src=file["name"], config={"webhook_config": hook})
    assert job.state == "JOB_STATE_PENDING"


# Replies out


def replies(wire):
    """A reply of every kind, by what was asked."""
    name = wire.batch({"a": ask(), "b": ask("LOCAL:ERROR")})
    ended = wire.ended(name)
    inlined = wire.ok("POST", CREATE, {"batch": {"inputConfig": {"requests": {"requests": [{"request": ask()}]}}}})
    calls = [
        ("GET", f"/v1beta/{name}", None),
        ("GET", "/v1beta/batches", None),
        ("PATCH", f"/v1beta/{name}:updateGenerateContentBatch?updateMask=displayName", {"displayName": "other"}),
        ("POST", f"/v1beta/{name}:cancel", b""),
        ("GET", "/v1beta/files", None),
        ("GET", f"/v1beta/{ended['metadata']['inputConfig']['fileName']}", None),
        ("DELETE", f"/v1beta/{ended['metadata']['inputConfig']['fileName']}", None),
        ("DELETE", f"/v1beta/{name}", None),
        ("GET", "/v1beta/models", None),
        ("GET", f"/v1beta/models/{MODEL}", None),
        ("POST", f"/v1beta/models/{MODEL}:countTokens", {"contents": ask()["contents"]}),
        ("POST", GENERATE, {**ask(thinkingConfig={"includeThoughts": True}), "tools": [{"googleSearch": {}}]}),
    ]
    yield ("POST", CREATE), (200, inlined, {"Content-Type": "application/json"})
    wire.ended(inlined["name"])
    for method, path, body in [*calls, ("GET", f"/v1beta/{inlined['name']}", None)]:
        yield (method, path), wire(method, path, body)


def test_08_07_every_good_reply_is_200_and_json_and_may_be_an_empty_object(wire):
    empty = []
    for asked, (code, answer, headers) in replies(wire):
        assert code == 200, (asked, answer)
        assert headers["Content-Type"].startswith("application/json")
        empty += [asked[0]] if answer == {} else []
    assert empty == ["POST", "DELETE", "DELETE"], "cancel, delete, delete"


def fields(value, key=""):
    """Every name in a reply with its value, however deep."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name, inner
            yield from fields(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield key, inner
            yield from fields(inner, key)


SHAPES = [
    (r"\w+Time", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z"),
    (r"sizeBytes|priority|(\w+R|r)equestCount", r"\d+"),
    (r"state|modality|finishReason|source", r"[A-Z][A-Z0-9_]+"),
]


def test_08_08_names_are_camel_case_numbers_of_64_bits_are_text_and_times_end_in_z(wire):
    seen = [field for _, (_, answer, _) in replies(wire) for field in fields(answer)]
    for name, value in seen:
        assert re.fullmatch(r"@type|[a-z][a-zA-Z0-9]*", name), name
        for names, shape in SHAPES:
            assert not re.fullmatch(names, name) or re.fullmatch(shape, value), (name, value)
    told = {name for name, _ in seen}
    assert {"createTime", "expirationTime", "endTime", "sizeBytes", "failedRequestCount", "modality", "state"} <= told


def test_08_09_an_error_has_one_form_and_says_it_is_json(wire, client):
    for method, path, body, code, status in (
        ("GET", "/v1beta/nowhere", None, 404, "NOT_FOUND"),
        ("GET", "/v1beta/batches/none", None, 404, "NOT_FOUND"),
        ("GET", "/v1beta/files/none", None, 403, "PERMISSION_DENIED"),
        ("GET", f"/v1beta/files/batch-{'a' * 36}", None, 400, "INVALID_ARGUMENT"),
        ("POST", GENERATE, b"{", 400, "INVALID_ARGUMENT"),
        ("POST", GENERATE, ask("LOCAL:ERROR"), 500, "INTERNAL"),
        ("POST", GENERATE, ask("x", inline(b"%PDF-1.7", "application/pdf")), 400, "INVALID_ARGUMENT"),
        ("POST", GENERATE, ask("x", *[inline(photo())] * 15), 400, "INVALID_ARGUMENT"),
        ("POST", GENERATE, ask(imageConfig={"imageSize": "512"}), 400, "INVALID_ARGUMENT"),
        ("POST", CREATE, {"batch": {"inputConfig": {"fileName": "files/none"}}}, 403, "PERMISSION_DENIED"),
        ("POST", CREATE, b" " * 20_971_521, 400, "INVALID_ARGUMENT"),
        ("BREW", "/v1beta/files", None, 501, "UNIMPLEMENTED"),
    ):
        got, answer, headers = wire(method, path, body)
        error = answer.pop("error")
        assert (got, error["code"], error["status"], answer) == (code, code, status, {}), path
        assert headers["Content-Type"].startswith("application/json")
        assert set(error) <= {"code", "message", "status", "details"}
    with pytest.raises(errors.ClientError) as refused:
        client.models.generate_content(model=MODEL, contents=" ")
    assert (refused.value.code, refused.value.status) == (400, "INVALID_ARGUMENT")
    assert "no text" in refused.value.message


def test_08_09_the_date_of_a_reply_is_by_the_clock_of_the_service(wire):
    wire.advance(100 * HOUR)
    _, _, headers = wire("GET", "/v1beta/files")
    now = wire.ok("POST", "/_local/clock", {"advance_s": 0})["now"]
    assert abs(parsedate_to_datetime(headers["Date"]).timestamp() - now) < 5


# Upload


def test_08_10_the_upload_url_is_whole_and_of_the_host_that_was_asked(wire):
    connection = connected(wire)
    body = json.dumps({"file": {"mime_type": "text/plain", "size_bytes": 3}})
    for version in ("v1", "v1beta"):
        headers = {"Host": "emulator.test:99", "x-goog-api-key": KEY, **START}
        connection.request("POST", f"/upload/{version}/files", body, headers)
        reply = connection.getresponse()
        assert reply.read() == b"{}"
        told = dict(reply.getheaders())  # exactly so spelled, or a client cannot find it
        assert told["X-Goog-Upload-URL"].startswith(f"http://emulator.test:99/upload/{version}/files?upload_id=")
        assert told["X-Goog-Upload-Status"] == "active"
    connection.close()


def test_08_11_every_reply_to_a_chunk_has_a_status_and_offsets_are_held(wire):
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


def test_08_11_an_empty_file_and_one_of_several_chunks_arrive_whole(tmp_path):
    with serving(tmp_path / "state") as url, sdk(url) as client:
        for size in (0, 1, 8 << 20, (8 << 20) + 1, 20 << 20):
            content = os.urandom(1024) * (size // 1024) + b"x" * (size % 1024)
            file = client.files.upload(file=BytesIO(content), config={"mime_type": "text/plain"})
            assert file.size_bytes == size
            assert base64.b64decode(file.sha256_hash).decode() == hashlib.sha256(content).hexdigest()


def test_08_11_a_file_too_large_is_refused_before_it_is_sent(wire):
    headers = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
    start = {"file": {"mimeType": "text/plain", "sizeBytes": str(2 * 1024**3 + 1)}}
    assert wire.refused("POST", "/upload/v1beta/files", start, headers=headers)[0] == 400


@pytest.mark.parametrize("done", ["true", "false"])
def test_08_12_a_chunk_sent_again_is_taken_once(tmp_path, monkeypatch, done):
    """The client sends a chunk again when a reply has no upload status; whether it had arrived, it cannot know."""
    monkeypatch.setattr(_api_client, "time", SimpleNamespace(sleep=lambda _seconds: None))
    content = os.urandom(1 << 20) * 9
    rule = f"on: files.chunk, do: refuse, done: {done}, times: 2"
    with rehearsed(tmp_path, rule) as wire, sdk(wire.url) as client:
        file = client.files.upload(file=BytesIO(content), config={"mime_type": "text/plain"})
        assert base64.b64decode(file.sha256_hash).decode() == hashlib.sha256(content).hexdigest()
        assert [rule["seen"] for rule in wire.ok("GET", "/_local/faults")] == [4]


def test_08_13_a_file_has_the_name_that_was_chosen_or_twelve_letters(wire, client, tmp_path):
    path = tmp_path / "owls.jsonl"
    path.write_bytes(b"x")
    settings = types.UploadFileConfig(mime_type="application/jsonl", name="eg-1", display_name="Owls of the night")
    file = client.files.upload(file=path, config=settings)
    assert (file.name, file.display_name) == ("files/eg-1", "Owls of the night")
    assert (file.mime_type, file.state, file.source) == ("application/jsonl", "ACTIVE", "UPLOADED")
    assert base64.b64decode(file.sha256_hash).decode() == hashlib.sha256(b"x").hexdigest(), "of the text, not the bytes"
    assert file.uri == "https://generativelanguage.googleapis.com/v1beta/files/eg-1"
    assert (file.expiration_time - file.create_time).total_seconds() == 48 * HOUR
    other = client.files.upload(file=BytesIO(b"x"), config={"mime_type": "text/plain"})
    assert re.fullmatch(r"files/[a-z0-9]{12}", other.name)
    assert client.files.get(name=other.uri).name == other.name, "the client reads such ids out of a URI, and no others"
    with pytest.raises(errors.ClientError) as taken:
        client.files.upload(file=path, config=settings)
    assert (taken.value.code, taken.value.status) == (409, "ALREADY_EXISTS")


@pytest.mark.parametrize("name", ["-a", "a-", "A", "a_b", "a/b", "a" * 41])
def test_08_13_a_file_name_has_rules(wire, name):
    headers = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
    start = {"file": {"name": f"files/{name}", "mimeType": "text/plain"}}
    assert wire.refused("POST", "/upload/v1beta/files", start, headers=headers)[:2] == (400, "INVALID_ARGUMENT")


def test_08_13_a_file_name_is_free_again_when_the_file_is_gone(wire):
    headers = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
    start = {"file": {"name": "files/" + "a" * 40, "mimeType": "text/plain"}}
    wire.upload(b"x", name="files/" + "a" * 40)
    assert wire.refused("POST", "/upload/v1beta/files", start, headers=headers)[:2] == (409, "ALREADY_EXISTS")
    wire.ok("DELETE", "/v1beta/files/" + "a" * 40)
    wire.upload(b"x", name="files/" + "a" * 40)
    wire.advance(49 * HOUR)
    wire.upload(b"x", name="files/" + "a" * 40)


# Files


def test_08_14_files_are_shown_listed_in_pages_and_deleted(wire, client):
    names = [wire.upload(b"x", name=f"owl-{n}")["name"] for n in range(5)]
    for size in (1, 2, 5, 100):
        listed = client.files.list(config={"page_size": size})
        assert [file.name for file in listed] == names[::-1], (
            "and no empty page at the end, which would be an IndexError"
        )
    assert "nextPageToken" in wire.ok("GET", "/v1beta/files?pageSize=4")
    assert "nextPageToken" not in wire.ok("GET", "/v1beta/files?pageSize=5")
    assert wire.refused("GET", "/v1beta/files?pageToken=nonsense")[0] == 400
    client.files.delete(name=names[0])
    for name, code in ((names[0], 403), ("files/none", 403), (f"files/{'a' * 41}", 400)):
        for call in (client.files.get, client.files.delete):
            with pytest.raises(errors.ClientError) as refused:
                call(name=name)
            assert refused.value.code == code


def test_08_14_files_are_listed_ten_at_a_time_unless_told_and_a_hundred_at_most(wire):
    for n in range(101):
        wire.upload(b"", name=f"f{n}")
    counts = [len(wire.ok("GET", f"/v1beta/files?{query}")["files"]) for query in ("", "pageSize=0", "pageSize=500")]
    assert counts == [10, 10, 100]


def test_08_14_a_file_is_kept_for_two_days(wire):
    file = wire.upload(b"x", name="here")
    wire.advance(47 * HOUR)
    assert wire.ok("GET", "/v1beta/files/here") == file
    wire.advance(2 * HOUR)
    words = "You do not have permission to access the File here or it may not exist."
    assert wire.refused("GET", "/v1beta/files/here") == (403, "PERMISSION_DENIED", words)
    assert wire.refused("DELETE", "/v1beta/files/here") == (403, "PERMISSION_DENIED", words)
    assert wire.ok("GET", "/v1beta/files") == {}


def test_08_14_objects_of_a_bucket_need_more_than_a_key(wire, client):
    code, answer, _ = wire("POST", "/v1beta/files:register", {"uris": ["gs://owls/a.png"]})
    assert (code, answer["error"]["status"]) == (401, "UNAUTHENTICATED")
    assert answer["error"]["details"][0]["reason"] == "CREDENTIALS_MISSING"
    assert wire.refused("POST", "/v1beta/files:register", {"uris": ["owls"]})[:2] == (400, "INVALID_ARGUMENT")
    assert wire.refused("POST", "/v1beta/files:register", {})[0] == 400
    with pytest.raises(errors.ClientError) as refused:
        client.files.register_files(auth=Credentials("a-token"), uris=["gs://owls/a.png"])
    assert (refused.value.code, refused.value.status) == (403, "PERMISSION_DENIED")


def test_08_15_a_download_is_the_bytes_as_they_are(wire, client, tmp_path):
    name = wire.batch({f"k{n}": ask(f"owl {n}") for n in range(3)})
    wire.ended(name)
    output = client.batches.get(name=name).dest.file_name
    content = client.files.download(file=output)
    client.files.download(file=output, destination=tmp_path / "answers.jsonl")
    assert (tmp_path / "answers.jsonl").read_bytes() == content
    assert {json.loads(line)["key"] for line in content.splitlines()} == {"k0", "k1", "k2"}
    connection = connected(wire)
    connection.request("GET", f"/v1beta/{output}:download?alt=media", headers={"x-goog-api-key": KEY})
    reply = connection.getresponse()
    assert (reply.status, reply.headers["Content-Length"]) == (200, str(len(content)))
    assert reply.read() == content
    connection.close()


def test_08_15_what_was_uploaded_is_not_for_download(wire):
    wire.upload(b"x", name="mine")
    assert wire.refused("GET", "/v1beta/files/mine:download?alt=media")[:2] == (400, "INVALID_ARGUMENT")
    assert wire.refused("GET", "/v1beta/files/other:download?alt=media")[0] == 403


# Models


def test_models_are_shown_and_listed_in_pages(wire, client):
    names = [f"models/{name}" for name in (MODEL, "gemini-3.1-flash-lite-image", PRO)]
    for size in (1, 2, 3, 50):
        assert [model.name for model in client.models.list(config={"page_size": size})] == names
    assert "nextPageToken" not in wire.ok("GET", "/v1beta/models?pageSize=3")
    shown = client.models.get(model=PRO)
    assert (shown.name, shown.input_token_limit, shown.output_token_limit) == (names[2], 65_536, 32_768)
    assert shown.supported_actions == ["generateContent", "countTokens", "batchGenerateContent"]
    with pytest.raises(errors.ClientError, match="models/gemini-3-pro-image-preview"):
        client.models.get(model="gemini-3-pro-image-preview")
