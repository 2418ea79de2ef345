"""The usual way, to compare with: for each stage the shortest code that a competent user would write.

usual.py compile CATALOG FOLDER          a request for each row and aspect, each checked with a JSON Schema, json.dumps
usual.py compare CATALOG FOLDER          read, render, hash: which rows are not as they were? (FOLDER holds the hashes)
usual.py notebook FOLDER ANSWERS…        the whole answer in memory, split into lines, every image through Pillow
usual.py lines FOLDER ANSWERS…           line by line, json.loads, the bytes as they are
usual.py download FOLDER URL FILE…       the SDK's download into memory, written down as it is
usual.py download-lines FOLDER URL FILE…  the same, and every image written, line by line

What is imported where it is used is what the others need not pay for.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import sys
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ASPECTS = ("1:1", "4:5")
PROMPT = "Studio photo of a {product} in {colour} on {ground}, soft window light, no text. {description}"
TEXT = {"type": "string", "minLength": 1}
SCHEMA = {
    "type": "object",
    "required": ["key", "request"],
    "additionalProperties": False,
    "properties": {
        "key": TEXT,
        "request": {
            "type": "object",
            "required": ["contents", "generationConfig"],
            "properties": {
                "contents": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["parts"],
                        "properties": {
                            "parts": {"type": "array", "items": {"type": "object", "properties": {"text": TEXT}}}
                        },
                    },
                },
                "generationConfig": {
                    "type": "object",
                    "properties": {
                        "responseModalities": {"type": "array", "items": {"enum": ["TEXT", "IMAGE"]}},
                        "imageConfig": {
                            "type": "object",
                            "properties": {
                                "aspectRatio": {"enum": ["1:1", "4:5", "16:9"]},
                                "imageSize": {"enum": ["1K", "2K", "4K"]},
                            },
                        },
                    },
                },
            },
        },
    },
}


def compile_catalog(catalog: str, folder: str) -> None:
    from jsonschema import Draft202012Validator  # noqa: PLC0415

    validator = Draft202012Validator(SCHEMA)
    with (
        Path(catalog).open(encoding="utf-8", newline="") as rows,
        (Path(folder) / "requests.jsonl").open("w", encoding="utf-8") as out,
    ):
        for row in csv.DictReader(rows):
            for aspect in ASPECTS:
                line = request(row, aspect)
                validator.validate(line)
                out.write(json.dumps(line) + "\n")


def request(row: dict[str, str], aspect: str) -> dict[str, object]:
    return {
        "key": f"{row['id']}-{aspect}",
        "request": {
            "contents": [{"role": "user", "parts": [{"text": PROMPT.format(**row)}]}],
            "generationConfig": {
                "responseModalities": ["IMAGE"],
                "imageConfig": {"aspectRatio": aspect, "imageSize": "1K"},
            },
        },
    }


def compare(catalog: str, folder: str) -> None:
    """The first time, everything is new; after that, what has changed."""
    known = Path(folder) / "hashes.json"
    before = json.loads(known.read_text()) if known.exists() else {}
    now = {}
    with Path(catalog).open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            for aspect in ASPECTS:
                line = request(row, aspect)
                now[line["key"]] = hashlib.sha256(json.dumps(line).encode()).hexdigest()
    changed = [key for key, digest in now.items() if before.get(key) != digest]
    print(len(changed))
    if now != before:
        known.write_text(json.dumps(now))


def notebook(folder: str, *answers: str) -> None:
    from PIL import Image  # noqa: PLC0415

    for path in answers:
        content = Path(path).read_bytes().decode("utf-8")
        for line in content.splitlines():
            answer = json.loads(line)
            for number, data in enumerate(images(answer)):
                Image.open(BytesIO(data)).save(Path(folder) / f"{answer['key']}-{number}.jpg")


def lines(folder: str, *answers: str) -> None:
    for path in answers:
        with Path(path).open("rb") as stream:
            write_images(folder, stream)


def write_images(folder: str, answers: Iterable[str | bytes]) -> None:
    for line in answers:
        answer = json.loads(line)
        for number, data in enumerate(images(answer)):
            (Path(folder) / f"{answer['key']}-{number}.jpg").write_bytes(data)


def images(answer: dict[str, Any]) -> list[bytes]:
    parts = answer["response"]["candidates"][0]["content"]["parts"]
    return [base64.b64decode(part["inlineData"]["data"]) for part in parts if "inlineData" in part]


def download(folder: str, url: str, *files: str) -> None:
    for number, content in enumerate(downloads(url, files)):
        (Path(folder) / f"{number}.jsonl").write_bytes(content)


def download_lines(folder: str, url: str, *files: str) -> None:
    for content in downloads(url, files):
        write_images(folder, content.decode("utf-8").splitlines())


def downloads(url: str, files: Iterable[str]) -> Iterator[bytes]:
    from google import genai  # noqa: PLC0415

    with genai.Client(api_key="no-key-is-needed-for-this-service", http_options={"base_url": url}) as client:
        for file in files:
            yield client.files.download(file=file)


if __name__ == "__main__":
    word, *words = sys.argv[1:]
    {
        "compile": compile_catalog,
        "compare": compare,
        "notebook": notebook,
        "lines": lines,
        "download": download,
        "download-lines": download_lines,
    }[word](*words)
