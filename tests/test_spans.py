"""An answer file read by its spans is what a parser makes of every line of it, whatever the bytes are."""

from __future__ import annotations

import base64
import io
import json
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from pipeline import batchfile
from pipeline.gemini import spans
from pipeline.gemini.answers import UnreadableLineError, answer

LONGEST = 6000


class Bytes:
    """An image as its bytes; `left` are those that nobody has dropped or kept."""

    left: list[Bytes] = []  # noqa: RUF012 - of one comparison

    def __init__(self):
        self.data = b""
        self.left.append(self)

    def write(self, piece):
        assert isinstance(piece, bytes)
        self.data += piece

    def end(self):
        return self

    def drop(self):
        self.left.remove(self)


def plain(text):
    """What every line of an answer file is, by a parser alone."""
    stream = io.BytesIO(text)
    for offset, line in batchfile.lines(stream, longest=LONGEST):
        if line is None:
            yield offset, None, "too long", None
        elif line.strip():
            try:
                key, came = answer(line)
                yield offset, line, key, came
            except UnreadableLineError as error:
                yield offset, line, str(error), None


def scanned(text, window):
    Bytes.left = []
    with scanning(window):
        for line in spans.read(io.BufferedReader(io.BytesIO(text)), Bytes, longest=LONGEST):
            for image in line.made:
                image.drop()
            whole = text[line.offset : line.offset + line.size]
            assert line.is_whole == whole.endswith(b"\n")
            if line.answer is None:
                is_long = line.text is None
                assert is_long or line.text == whole
                yield line.offset, None if is_long else whole, "too long" if is_long else line.why, None
            else:
                parts = tuple(
                    part if part.image is None else part._replace(image=part.image.data) for part in line.answer.parts
                )
                yield line.offset, whole, line.key, replace(line.answer, parts=parts)
    assert Bytes.left == [], "nothing of a line stays behind that the line does not name"


@contextmanager
def scanning(window):
    """Let images begin and end in several windows, without being as large as that takes."""
    before = spans._WINDOW, spans._SHORTEST
    spans._WINDOW, spans._SHORTEST = window, 12
    try:
        yield
    finally:
        spans._WINDOW, spans._SHORTEST = before


# ------------------------------------------------------------------------------------------------- what may come

DATA = st.one_of(st.binary(max_size=40), st.binary(min_size=60, max_size=700), st.just(b"\xff" * 300))


def _encoded(data, spelling, tail):
    text = {"plain": base64.b64encode, "url": base64.urlsafe_b64encode}[spelling](data).decode()
    return text.rstrip("=") + {"padded": "=" * (-len(text.rstrip("=")) % 4), "bare": "", "more": "==="}[tail]


GOOD = st.builds(
    _encoded, DATA, st.sampled_from(["plain", "url"]), st.sampled_from(["padded", "padded", "bare", "more"])
)
ODD = st.one_of(
    st.text(alphabet="AQz09+/-_= \n\r\t\\\"'.\x00é", max_size=120),
    st.builds(lambda a, b: a + b, GOOD, GOOD),  # padding in the middle
    st.builds(lambda text, at, what: text[: at % (len(text) + 1)] + what + text[at % (len(text) + 1) :], GOOD,
              st.integers(0, 999), st.sampled_from([" ", "\n", "=", "\\", '"', "*", "é", "\u2028", "-", "AAAAA"])),
)  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from(
        ['"data":"', '"data": "QUJD', '{"inlineData":{"data":"QUJDREVG"}}', "\\", '\\"data\\":\\"', "\u2028x\u0085"]
    ),
    st.text(max_size=30),
    GOOD,
)
BLOB = st.one_of(GOOD, GOOD, GOOD, ODD, st.sampled_from([None, 0, "", [], {"data": "QUJDREVGR0hJSktM"}, True]))
INLINE = st.builds(
    lambda name, data, mime, more: {name: {"mimeType": mime, "data": data, **more}},
    st.sampled_from(["inlineData", "inlineData", "inline_data", "image"]), BLOB, TEXTS,
    st.sampled_from([{}, {}, {"data2": "QUJDREVGR0hJSktMTU5P"}]),
)  # fmt: skip
PART = st.one_of(
    INLINE,
    INLINE,
    st.builds(lambda part: {**part, "thought": True}, INLINE),
    st.builds(lambda part, text: {**part, "text": text}, INLINE, TEXTS),
    st.builds(lambda part, data: {**part, "thoughtSignature": data}, INLINE, GOOD),
    st.builds(lambda text: {"text": text}, TEXTS),
    st.builds(lambda data: {"text": {"data": data}}, GOOD),
    st.builds(lambda data: {"data": data}, GOOD),
    st.sampled_from([None, 3, "data", []]),
)
GOOD_CANDIDATE = st.builds(
    lambda parts, finish: {"content": {"parts": parts, "role": "model"}, "finishReason": finish},
    st.lists(PART, min_size=1, max_size=4),
    st.sampled_from(["STOP", "IMAGE_SAFETY", None, 7]),
)
CANDIDATE = st.one_of(
    GOOD_CANDIDATE,
    GOOD_CANDIDATE,
    GOOD_CANDIDATE,
    st.builds(lambda data: {"finishReason": {"data": data}}, GOOD),
    st.just(3),
)
USAGE = st.sampled_from([None, {"promptTokenCount": 3, "candidatesTokenCount": "1290"}, {"promptTokenCount": "x"}])
RESPONSE = st.builds(
    lambda candidates, usage: {"candidates": candidates, "usageMetadata": usage},
    st.lists(CANDIDATE, min_size=1, max_size=3),
    USAGE,
)
KEY = st.one_of(st.just("owl~0123"), st.just("data"), TEXTS)
GOOD_REPLY = st.builds(lambda key, response: {"key": key, "response": response}, KEY, RESPONSE)
REPLY = st.one_of(
    GOOD_REPLY,
    GOOD_REPLY,
    st.builds(lambda key, response: {"response": response, "key": key}, KEY, RESPONSE),
    st.builds(lambda key, response: {"response": response, "key": key}, KEY, RESPONSE),
    st.builds(lambda response, data: {"response": response, "data": data, "key": "k"}, RESPONSE, GOOD),
    st.builds(lambda key, data: {"key": key, "error": {"code": 3, "message": {"data": data}}}, KEY, GOOD),
    st.builds(lambda key, data: {"key": key, "error": {"data": data}, "response": {}}, KEY, GOOD),
    st.builds(
        lambda key, response: {"key": key, "response": response},
        st.sampled_from([None, 3, {"data": "QUJDREVGR0hJSktM"}]),
        RESPONSE,
    ),
)

WRITERS = {
    "tight": lambda reply: json.dumps(reply, separators=(",", ":")),
    "loose": json.dumps,
    "unicode": lambda reply: json.dumps(reply, ensure_ascii=False),
    "google": lambda reply: json.dumps(reply).replace("=", "\\u003d"),
    "slashes": lambda reply: json.dumps(reply).replace("/", "\\/"),
    "spaced": lambda reply: json.dumps(reply, separators=(" ,\t", "\r : ")),
    "escaped": lambda reply: json.dumps(reply).replace('"data"', '"d\\u0061ta"'),
}
LINE = st.builds(
    lambda reply, write: WRITERS[write](reply).encode("utf-8", "surrogatepass"), REPLY, st.sampled_from([*WRITERS])
)


def _hurt(line, at, how):
    at %= len(line) + 1
    twice = line.replace(b'"data":', b'"data":"QUJDREVGR0hJSktMTU5PUFFS","data":', 1)
    return {
        "cut": line[:at], "nul": line[:at] + b"\0" + line[at:], "quote": line[:at] + b'"' + line[at:],
        "newline": line[:at] + b"\n" + line[at:], "high": line[:at] + b"\xff" + line[at:],
        "gone": line[:at] + line[at + 1 :], "twice": twice, "escape": line[:at] + b"\\" + line[at:],
        "again": line[:at] + b'"data":"QUJDREVGR0hJSktMTU5PUFFS"' + line[at:], "bom": b"\xef\xbb\xbf" + line,
        "utf16": line.decode("utf-8", "replace").encode("utf-16"), "tail": line + b"]",
    }[how]  # fmt: skip


HURT = st.builds(_hurt, LINE, st.integers(0, 10_000), st.sampled_from(
    ["cut", "nul", "quote", "newline", "high", "gone", "twice", "escape", "again", "bom", "utf16", "tail"]
))  # fmt: skip
LONG = st.builds(lambda size, end: b'{"key":"k","x":"' + b"A" * size + end, st.integers(LONGEST - 40, LONGEST + 900),
                 st.sampled_from([b'"}', b'","data":"' + b"QUJD" * 200 + b'"}', b""]))  # fmt: skip
ANY = st.one_of(LINE, LINE, LINE, LINE, HURT, HURT, LONG, st.binary(max_size=60), st.sampled_from([b"", b" \t", b"\r"]))
FILE = st.builds(
    lambda lines, end: b"\n".join(lines) + end, st.lists(ANY, max_size=5), st.sampled_from([b"", b"\n", b"\r\n"])
)


def line_of(data, more=b""):
    return (
        b'{"key":"k","response":{"candidates":[{"content":{"parts":[{"inlineData":{"data":"'
        + data
        + b'"}}'
        + more
        + b"]}}]}}"
    )


@settings(max_examples=4 * settings.default.max_examples)
@given(text=FILE, window=st.integers(80, 700))
@example(text=line_of(b"QUJD" * 50 + b"Q"), window=100)
@example(text=line_of(b"QUJD" * 50 + b"QR=="), window=100)  # bits that are left over
@example(text=line_of(b"QUJD" * 50 + b"\\u003d"), window=100)
@example(text=line_of(b"QUJDQUJDQUJDQUJDQUJD\nQUJD") + b"\n" + line_of(b"QUJD" * 9), window=200)
@example(text=line_of(b"QUJD" * 50, b',{"data":"' + b"QUJD" * 50 + b'"}'), window=100)  # a token that is no image
def test_any_bytes_are_read_as_the_parser_reads_them(text, window):
    expected = list(plain(text))
    event(f"{sum(came is not None and bool(came.parts) for *_, came in expected)} answers with parts")
    assert list(scanned(text, window)) == expected


@pytest.mark.parametrize(
    ("data", "is_scanned"),
    [
        pytest.param(b"QUJD" * 500, True, id="plain"),
        pytest.param(b"QUJD" * 500 + b"QQ==", True, id="padded"),
        pytest.param(b"QUJD" * 500 + b"QQ\\u003d\\u003D", True, id="padding as Google's serialisers write it"),
        pytest.param(b"QUJD" * 500 + b"QQ", True, id="no padding"),
        pytest.param(b"_-_-" * 500, True, id="url-safe"),
        pytest.param(b"QUJD" * 250 + b"\\/" + b"QUJD" * 250, False, id="an escaped slash"),
        pytest.param(b"QUJD" * 250 + b"QQ==" + b"QUJD" * 250, False, id="padding in the middle"),
        pytest.param(b"QUJD" * 500 + b"Q", False, id="a character too many"),
    ],
)
def test_a_line_is_parsed_whole_only_where_its_base64_is_odd(data, is_scanned, monkeypatch):
    lengths = []
    monkeypatch.setattr(spans.answers, "reading", _measured(spans.answers.reading, lengths))
    [_line] = spans.read(io.BufferedReader(io.BytesIO(line_of(data))), Bytes)
    assert (lengths[-1] < 300) is is_scanned


@pytest.mark.parametrize("middle", [b"", b"QQ==", b"QUI="])
def test_wherever_a_window_ends_the_line_is_the_same(middle, monkeypatch):
    lengths = []
    text = line_of(b"QUJD" * 50 + middle + b"QUJD" * 50 + b"QQ==")
    expected = list(plain(text))
    monkeypatch.setattr(spans.answers, "reading", _measured(spans.answers.reading, lengths))
    for window in range(80, 500):
        assert list(scanned(text, window)) == expected
    assert middle or max(lengths) < 200, "and never parsed whole without need"


def _measured(reading, lengths):
    def measured(line, image):
        lengths.append(len(line))
        return reading(line, image)

    return measured
