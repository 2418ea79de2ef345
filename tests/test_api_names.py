"""The checker of compiled lines lets good ones pass and names every kind of bad one."""

import base64
import copy
import json

import pytest
from api_names import ENUMS, MESSAGES, problems
from conftest import ROOT

from pipeline.gemini.wire import Inline, Linked, Said, request_line

PIXEL = base64.b64encode(b"\xff\xfe\xfd\xfb").decode()
SMALL = {"contents": [{"parts": [{"text": "a red fox"}]}]}
FULL = {
    "systemInstruction": {"role": "user", "parts": [{"text": "Draw owls."}]},
    "contents": [
        {"role": "user", "parts": [{"text": "an owl"}, {"inlineData": {"mimeType": "image/png", "data": PIXEL}}]},
        {
            "role": "model",
            "parts": [
                {"text": "hm", "thought": True},
                {"inlineData": {"mimeType": "image/jpeg", "data": "__79-w=="}, "thoughtSignature": PIXEL},
                {"thoughtSignature": PIXEL},
            ],
        },
        {"role": "user", "parts": [{"fileData": {"mimeType": "image/webp", "fileUri": "https://example.com/files/a"}}]},
    ],
    "generationConfig": {
        "responseModalities": ["TEXT", "IMAGE"],
        "imageConfig": {"aspectRatio": "16:9", "imageSize": "2K"},
        "thinkingConfig": {"thinkingLevel": "HIGH", "includeThoughts": True, "thinkingBudget": 128},
        "temperature": 0.5,
        "topP": 1,
        "topK": 3,
        "seed": -5,
        "maxOutputTokens": 8192,
        "candidateCount": 1,
        "stopSequences": ["owl"],
    },
    "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"}],
    "tools": [{"googleSearch": {"searchTypes": {"webSearch": {}, "imageSearch": {}}}}],
}


def changed(path, value):
    """A good line with one thing in it replaced; None takes it away."""
    line = {"key": "owl~0123456789ab", "request": copy.deepcopy(FULL)}
    *way, last = path
    place = line
    for step in way:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return line


@pytest.mark.parametrize(
    "request_", [SMALL, FULL, {**SMALL, "tools": [{"googleSearch": {}}]}], ids=["small", "full", "search"]
)
def test_a_good_line_passes(request_):
    assert problems({"key": "owl~0123456789ab", "request": request_}) == []


@pytest.mark.parametrize(
    ("place", "enum"),
    [
        (("imageConfig", "aspectRatio"), "AspectRatio"),
        (("imageConfig", "imageSize"), "ImageSize"),
        (("thinkingConfig", "thinkingLevel"), "ThinkingLevel"),
    ],
)
def test_every_word_of_an_enum_passes(place, enum):
    for word in ENUMS[enum]:
        assert problems(changed(("request", "generationConfig", *place), word)) == []


def test_every_harm_word_passes():
    for category in ENUMS["HarmCategory"]:
        for threshold in ENUMS["HarmBlockThreshold"]:
            setting = {"category": category, "threshold": threshold}
            assert problems(changed(("request", "safetySettings", 0), setting)) == []


CONFIG = ("request", "generationConfig")
PARTS = ("request", "contents", 0, "parts")
BLOB = (*PARTS, 1, "inlineData")


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        pytest.param(("id",), 1, "id: unknown", id="a third name in the line"),
        pytest.param(("key",), None, "key: missing", id="no key"),
        pytest.param(("key",), "", "key: must be printable ASCII text, not ''", id="empty key"),
        pytest.param(("key",), 3, "key: must be printable ASCII text, not 3", id="key that is a number"),
        pytest.param(("key",), "öwl", "key: must be printable ASCII text, not 'öwl'", id="key that is not ASCII"),
        pytest.param(("request",), None, "request: missing", id="no request"),
        pytest.param(("request",), [], "request: must be object, not list", id="request that is a list"),
        pytest.param(("request", "contents"), None, "request.contents: missing", id="no contents"),
        pytest.param(
            ("request", "contents"), {}, "request.contents: must be array, not dict", id="contents that is no list"
        ),
        pytest.param(
            ("request", "contents", 0, "role"), "assistant", "role: 'assistant' is none of user model", id="role"
        ),
        pytest.param(
            ("request", "config"), {}, "request.config: unknown in GenerateContentRequest", id="the shape of the SDK"
        ),
        pytest.param(
            ("request", "generation_config"), {}, "request.generation_config: unknown", id="snake case at the top"
        ),
        pytest.param((*CONFIG, "image_config"), {}, "image_config: unknown in GenerationConfig", id="snake case"),
        pytest.param(
            (*CONFIG, "imageConfig", "aspect_ratio"), "1:1", "aspect_ratio: unknown in ImageConfig", id="snake below"
        ),
        pytest.param((*CONFIG, "imageConfig", "size"), "1K", "imageConfig.size: unknown in ImageConfig", id="invented"),
        pytest.param(
            (*CONFIG, "imageConfig", "imageSize"), "2k", "imageSize: '2k' is none of 512 1K 2K 4K", id="small k"
        ),
        pytest.param(
            (*CONFIG, "imageConfig", "imageSize"), 512, "imageSize: must be string, not int", id="size as a number"
        ),
        pytest.param((*CONFIG, "imageConfig", "aspectRatio"), "auto", "aspectRatio: 'auto' is none of 1:1", id="auto"),
        pytest.param((*CONFIG, "imageConfig", "aspectRatio"), "3:1", "aspectRatio: '3:1' is none of 1:1", id="ratio"),
        pytest.param(
            (*CONFIG, "responseModalities"), ["image"], "responseModalities[0]: 'image' is none of TEXT IMAGE", id="low"
        ),
        pytest.param(
            (*CONFIG, "responseModalities"), ["AUDIO"], "responseModalities[0]: 'AUDIO' is none of", id="audio"
        ),
        pytest.param(
            (*CONFIG, "responseModalities"), "IMAGE", "responseModalities: must be array, not str", id="bare word"
        ),
        pytest.param((*CONFIG, "seed"), 2**31, "seed: 2147483648 does not fit into 32 bits", id="seed too large"),
        pytest.param((*CONFIG, "seed"), "7", "seed: must be integer, not str", id="seed as text"),
        pytest.param((*CONFIG, "seed"), True, "seed: must be integer, not bool", id="seed as a truth"),
        pytest.param((*CONFIG, "topK"), 3.0, "topK: must be integer, not float", id="topK as a float"),
        pytest.param((*CONFIG, "temperature"), "hot", "temperature: must be number, not str", id="temperature"),
        pytest.param((*CONFIG, "temperature"), float("nan"), "temperature: nan is no JSON number", id="not a number"),
        pytest.param((*CONFIG, "stopSequences"), [1], "stopSequences[0]: must be string, not int", id="stop"),
        pytest.param(
            (*CONFIG, "thinkingConfig", "thinkingLevel"), "high", "thinkingLevel: 'high' is none of", id="level"
        ),
        pytest.param(
            (*CONFIG, "thinkingConfig", "includeThoughts"), 1, "includeThoughts: must be boolean, not int", id="bool"
        ),
        pytest.param((*PARTS, 0), {}, "parts[0]: a part holds one of", id="empty part"),
        pytest.param(
            (*PARTS, 0), {"text": "a", "inlineData": {"data": PIXEL}}, "parts[0]: a part holds one of", id="two in one"
        ),
        pytest.param((*BLOB, "data"), "***", "inlineData.data: is not base64", id="no base64"),
        pytest.param((*BLOB, "data"), PIXEL.rstrip("="), "inlineData.data: is not base64", id="base64 without padding"),
        pytest.param((*BLOB, "data"), "", "inlineData.data: is not base64", id="no bytes"),
        pytest.param((*BLOB, "mime_type"), "image/png", "inlineData.mime_type: unknown in Blob", id="snake in a blob"),
        pytest.param(
            ("request", "contents", 2, "parts", 0, "fileData", "fileUri"),
            None,
            "fileData.fileUri: missing",
            id="no URI",
        ),
        pytest.param(
            ("request", "safetySettings", 0, "category"), "HARASSMENT", "category: 'HARASSMENT' is none", id="harm"
        ),
        pytest.param(("request", "safetySettings", 0, "threshold"), None, "threshold: missing", id="no threshold"),
        pytest.param(
            ("request", "tools", 0), {"google_search": {}}, "google_search: unknown in Tool", id="snake in a tool"
        ),
        pytest.param(
            ("request", "tools", 0, "googleSearch", "searchTypes", "webSearch"), True, "must be object", id="search"
        ),
    ],
)
def test_every_kind_of_bad_line_is_named(path, value, complaint):
    found = problems(changed(path, value))
    assert any(complaint in problem for problem in found), found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param((*CONFIG, "imageConfig", "colour"), "red", id="unknown name"),
        pytest.param((*CONFIG, "seed"), "seven", id="wrong type"),
        pytest.param((*CONFIG, "thinkingConfig", "thinkingLevel"), "EXTREME", id="unknown word"),
        pytest.param((*BLOB, "data"), "***", id="no base64"),
        pytest.param(("request", "labels"), 3, id="beside the request"),
    ],
)
def test_the_types_of_the_sdk_refuse_it_as_well(path, value):
    assert any(problem.startswith("the SDK: ") for problem in problems(changed(path, value)))


def test_the_table_is_whole():
    """Every message and enum it refers to is there, and every one that is there is used."""
    used = {"GenerateContentRequest"}
    for fields in MESSAGES.values():
        used |= {rule.get("of") or rule.get("enum") for rule in fields.values()}
    assert MESSAGES.keys() | ENUMS.keys() | {"string", None} == used | {None}
    assert not [name for name in json.dumps(MESSAGES).split('"') if "_" in name]


# ----------------------------------------------------------------------------- the lines that we write ourselves


def written(settings, *, images=(), names_size=True):
    """A line of ours for these settings, held against the table and the SDK."""
    frame = {"aspect": "4:5", "size": "2K"}
    told = request_line(
        "owl~0123456789ab", Said("an \u2028 owl", images), settings=frame | settings, names_size=names_size
    )
    line = json.loads(told)
    assert problems(line) == []
    assert told.isascii()
    assert told.count(b"\n") == 1
    return line["request"]


BARE = {
    "contents": [{"role": "user", "parts": [{"text": "an \u2028 owl"}]}],
    "generationConfig": {
        "responseModalities": ["IMAGE"],
        "imageConfig": {"aspectRatio": "4:5", "imageSize": "2K"},
    },
}
THINKING = "thinkingConfig"


@pytest.mark.parametrize(
    ("settings", "added"),
    [
        pytest.param({}, {}, id="nothing written, nothing sent"),
        pytest.param({"aspect": "auto"}, {"imageConfig": {"imageSize": "2K"}}, id="auto"),
        pytest.param({"response": ["text", "image"]}, {"responseModalities": ["TEXT", "IMAGE"]}, id="text and image"),
        pytest.param({"thinking": "high"}, {THINKING: {"thinkingLevel": "HIGH"}}, id="thinking"),
        pytest.param({"thoughts": True}, {THINKING: {"includeThoughts": True}}, id="thoughts"),
        pytest.param(
            {"thinking": "minimal", "thoughts": True},
            {THINKING: {"thinkingLevel": "MINIMAL", "includeThoughts": True}},
            id="both",
        ),
        pytest.param({"temperature": 0}, {"temperature": 0}, id="temperature"),
        pytest.param({"top_p": 0.5}, {"topP": 0.5}, id="top_p"),
        pytest.param({"seed": -7}, {"seed": -7}, id="seed"),
        pytest.param({"max_output_tokens": 4000}, {"maxOutputTokens": 4000}, id="max_output_tokens"),
    ],
)
def test_each_setting_is_one_field_of_the_configuration(settings, added):
    assert written(settings) == {**BARE, "generationConfig": BARE["generationConfig"] | added}


@pytest.mark.parametrize(
    ("settings", "added"),
    [
        pytest.param(
            {"system": "Be [calm]\n"}, {"systemInstruction": {"parts": [{"text": "Be [calm]\n"}]}}, id="system"
        ),
        pytest.param({"search": ["web"]}, {"tools": [{"googleSearch": {}}]}, id="web"),
        pytest.param(
            {"search": ["web", "image"]},
            {"tools": [{"googleSearch": {"searchTypes": {"webSearch": {}, "imageSearch": {}}}}]},
            id="web and images",
        ),
        pytest.param(
            {"search": ["image"]}, {"tools": [{"googleSearch": {"searchTypes": {"imageSearch": {}}}}]}, id="images"
        ),
        pytest.param(
            {"safety": {"dangerous_content": "block_only_high", "hate_speech": "off"}},
            {
                "safetySettings": [
                    {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "threshold": "BLOCK_ONLY_HIGH"},
                    {"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "OFF"},
                ]
            },
            id="safety",
        ),
    ],
)
def test_what_is_no_configuration_stands_beside_it(settings, added):
    assert written(settings) == BARE | added


def test_every_safety_word_of_the_language_is_one_of_the_api():
    schema = json.loads((ROOT / "schemas/job.schema.json").read_text(encoding="utf-8"))["definitions"]
    for category in schema["safety"]["properties"]:
        for threshold in schema["threshold"]["enum"]:
            written({"safety": {category: threshold}})
    for level in schema["thinking"]["enum"]:
        written({"thinking": level})


def test_text_alone_has_no_frame():
    assert written({"response": ["text"]})["generationConfig"] == {"responseModalities": ["TEXT"]}


def test_a_model_of_one_size_is_told_none():
    config = written({"response": ["text", "image"]}, names_size=False)["generationConfig"]
    assert config["imageConfig"] == {"aspectRatio": "4:5"}
    assert "imageConfig" not in written({"aspect": "auto"}, names_size=False)["generationConfig"]


def test_images_follow_the_text():
    images = [Inline("image/png", b"\xff\xfe"), Linked("image/webp", "https://x/v1beta/files/ref-1")]
    text, along, linked = written({}, images=images)["contents"][0]["parts"]
    assert text["text"].endswith("owl")
    assert along == {"inlineData": {"mimeType": "image/png", "data": "//4="}}
    assert linked == {"fileData": {"mimeType": "image/webp", "fileUri": "https://x/v1beta/files/ref-1"}}
