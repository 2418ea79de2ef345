"""The usual way of doing this, to compare with: written from scratch, with what most scripts for the Batch API do.

usual.py compile CATALOG FOLDER     a request for each row and aspect, each checked with a JSON Schema, json.dumps
usual.py notebook ANSWERS FOLDER    the whole answer in memory, split into lines, every image through Pillow
usual.py lines ANSWERS FOLDER       line by line, json.loads, the bytes as they are
"""

from __future__ import annotations

import base64
import csv
import json
import sys
from io import BytesIO
from pathlib import Path

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
                                "aspectRatio": {"type": "string"},
                                "imageSize": {"enum": ["1K", "2K", "4K"]},
                            },
                        },
                    },
                },
            },
        },
    },
}


def compile_catalog(catalog: Path, folder: Path) -> None:
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - the others need not pay for it

    validator = Draft202012Validator(SCHEMA)
    with catalog.open(encoding="utf-8", newline="") as rows, (folder / "requests.jsonl").open("w") as out:
        for row in csv.DictReader(rows):
            for aspect in ASPECTS:
                line = {
                    "key": f"{row['id']}-{aspect}",
                    "request": {
                        "contents": [{"role": "user", "parts": [{"text": PROMPT.format(**row)}]}],
                        "generationConfig": {
                            "responseModalities": ["IMAGE"],
                            "imageConfig": {"aspectRatio": aspect, "imageSize": "1K"},
                        },
                    },
                }
                validator.validate(line)
                out.write(json.dumps(line) + "\n")


def notebook(answers: Path, folder: Path) -> None:
    from PIL import Image  # noqa: PLC0415 - the others need not pay for it

    content = answers.read_bytes().decode("utf-8")
    for line in content.splitlines():
        for number, data in enumerate(_images(line)):
            Image.open(BytesIO(data)).save(folder / f"{json.loads(line)['key']}-{number}.jpg")


def lines(answers: Path, folder: Path) -> None:
    with answers.open(encoding="utf-8") as stream:
        for line in stream:
            for number, data in enumerate(_images(line)):
                (folder / f"{json.loads(line)['key']}-{number}.jpg").write_bytes(data)


def _images(line: str) -> list[bytes]:
    parts = json.loads(line)["response"]["candidates"][0]["content"]["parts"]
    return [base64.b64decode(part["inlineData"]["data"]) for part in parts if "inlineData" in part]


if __name__ == "__main__":
    {"compile": compile_catalog, "notebook": notebook, "lines": lines}[sys.argv[1]](
        Path(sys.argv[2]), Path(sys.argv[3])
    )
