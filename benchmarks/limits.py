"""What the machine alone can do with the same bytes: the floor under every contender.

limits.py write FOLDER COUNT BYTES      write so many files with so many bytes in all
limits.py sha256 BYTES                  hash so many bytes
limits.py dumps CATALOG FOLDER          read a catalog, json.dumps a request for each row and aspect, write the lines
limits.py read URL FILE…                read answers from the service, and keep nothing
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

_PIECE = os.urandom(1 << 20)


def write(folder: str, count: str, size: str) -> None:
    each = int(size) // int(count)
    for number in range(int(count)):
        with open(f"{folder}/{number}.jpg", "wb") as stream:  # noqa: PTH123 - the least there is
            left = each
            while left > 0:
                stream.write(_PIECE[:left])
                left -= len(_PIECE)


def sha256(size: str) -> None:
    digest, left = hashlib.sha256(), int(size)
    while left > 0:
        digest.update(_PIECE if left >= len(_PIECE) else _PIECE[:left])
        left -= len(_PIECE)


def dumps(catalog: str, folder: str) -> None:
    import csv  # noqa: PLC0415 - what the others need not pay for
    import json  # noqa: PLC0415

    from usual import ASPECTS, request  # noqa: PLC0415

    with Path(catalog).open(encoding="utf-8", newline="") as rows, Path(folder, "requests.jsonl").open("w") as out:
        for row in csv.DictReader(rows):
            out.writelines(json.dumps(request(row, aspect)) + "\n" for aspect in ASPECTS)


def read(url: str, *files: str) -> None:
    import http.client  # noqa: PLC0415

    for file in files:
        connection = http.client.HTTPConnection(url.removeprefix("http://"))
        path = f"/download/v1beta/{file}:download?alt=media"
        connection.request("GET", path, headers={"x-goog-api-key": "no-key-is-needed-for-this-service"})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        while response.read(1 << 20):
            pass


if __name__ == "__main__":
    word, *words = sys.argv[1:]
    {"write": write, "sha256": sha256, "dumps": dumps, "read": read}[word](*words)
