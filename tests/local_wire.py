"""The embedded service by hand: what goes over the wire to it, and what comes back."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from io import BytesIO

from google import genai
from google.genai import types
from PIL import Image

KEY = "a-key-of-enough-letters"
MODEL = "gemini-nano-banana-2.1"
PRO = "gemini-3-pro-image"
HOUR = 3600


class Wire:
    """Calls by hand: what goes over the wire, and what comes back."""

    def __init__(self, url):
        self.url = url

    def __call__(self, method, path, body=None, *, key=KEY, headers=None):
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        target = path if path.startswith("http") else self.url + path
        request = urllib.request.Request(target, data=data, method=method, headers=headers or {})
        if key:
            request.add_header("x-goog-api-key", key)
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return reply.status, json.load(reply), reply.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error), error.headers

    def ok(self, method, path, body=None):
        code, answer, _ = self(method, path, body)
        assert code == 200, answer
        return answer

    def refused(self, method, path, body=None, **options):
        """The code, the name and the message of the error."""
        code, answer, _ = self(method, path, body, **options)
        assert set(answer) == {"error"}
        assert answer["error"]["code"] == code
        return code, answer["error"]["status"], answer["error"]["message"]

    def advance(self, seconds):
        self.ok("POST", "/_local/clock", {"advance_s": seconds})

    def upload(self, content, name="", mime="application/jsonl"):
        start = {"file": {"mime_type": mime, "size_bytes": len(content), **({"name": name} if name else {})}}
        headers = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
        code, answer, told = self("POST", "/upload/v1beta/files", start, headers=headers)
        assert code == 200, answer
        code, answer, told = chunk(self, told["X-Goog-Upload-URL"], content, 0, "upload, finalize")
        assert (code, told["X-Goog-Upload-Status"]) == (200, "final"), answer
        return answer["file"]

    def batch(self, requests, model=MODEL):
        """A batch over these lines: dictionaries by key, or the bytes of the whole file."""
        content = requests if isinstance(requests, bytes) else lines(requests)
        file = self.upload(content)
        body = {"batch": {"displayName": "owls", "inputConfig": {"fileName": file["name"]}}}
        return self.ok("POST", f"/v1beta/models/{model}:batchGenerateContent", body)["name"]

    def ended(self, name):
        """The operation, once it is done."""
        for _ in range(2000):
            operation = self.ok("GET", f"/v1beta/{name}")
            if operation.get("done"):
                return operation
            time.sleep(0.01)
        raise AssertionError(f"{name} does not end: {operation}")

    def answers(self, name):
        """The answers of a batch that succeeds, in the order they came."""
        operation = self.ended(name)
        assert operation["metadata"]["state"] == "BATCH_STATE_SUCCEEDED", operation
        path = f"/download/v1beta/{operation['response']['responsesFile']}:download?alt=media"
        request = urllib.request.Request(self.url + path, headers={"x-goog-api-key": KEY})
        with urllib.request.urlopen(request, timeout=20) as reply:
            content = reply.read()
            assert int(reply.headers["Content-Length"]) == len(content)
        assert content.endswith(b"\n")
        return [json.loads(line) for line in content.splitlines()]


def ask(prompt="a barn owl", *parts, **settings):
    request = {"contents": [{"role": "user", "parts": [{"text": prompt}, *parts]}]}
    return {**request, "generationConfig": settings} if settings else request


def lines(requests):
    return b"".join(json.dumps({"key": key, "request": request}).encode() + b"\n" for key, request in requests.items())


def chunk(wire, url, content, offset, command="upload"):
    headers = {"X-Goog-Upload-Command": command, "X-Goog-Upload-Offset": str(offset)}
    return wire("POST", url, content, key=None, headers={**headers, "Content-Type": "application/json"})


def photo(width=64, height=64, kind="PNG", colour="teal"):
    stream = BytesIO()
    Image.new("RGB", (width, height), colour).save(stream, kind)
    return stream.getvalue()


def inline(data, mime="image/png"):
    return {"inlineData": {"mimeType": mime, "data": base64.b64encode(data).decode()}}


def picture_of(response):
    """The decoded picture of a response, and its bytes."""
    part = response["candidates"][0]["content"]["parts"][-1]
    data = base64.b64decode(part["inlineData"]["data"])
    image = Image.open(BytesIO(data))
    image.load()
    assert part["inlineData"]["mimeType"] == Image.MIME[image.format]
    return image, data


@contextmanager
def sdk(url):
    with genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=url, api_version="v1beta")) as client:
        yield client
