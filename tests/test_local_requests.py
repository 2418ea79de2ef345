"""What a request to the embedded service may say, and what it answers."""

from __future__ import annotations

import base64
import io

import pytest
from local_wire import MODEL, PRO, ask, inline, photo, picture_of
from PIL import Image

# What a request may say


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        pytest.param({}, "contents is not specified", id="no contents"),
        pytest.param({"contents": []}, "contents is not specified", id="empty contents"),
        pytest.param({"contents": [{"parts": []}]}, "parts must not be empty", id="no parts"),
        pytest.param({"contents": [{"parts": [{}]}]}, "must have one initialized field", id="empty part"),
        pytest.param({"contents": [{"parts": [{"text": " "}]}]}, "no text", id="no text"),
        pytest.param({"contents": [{"role": "me", "parts": [{"text": "x"}]}]}, "valid role", id="role"),
        pytest.param({"contents": "x"}, "Invalid value at 'contents'", id="contents is text"),
        pytest.param(ask(7), "Invalid value at 'contents[0].parts[0].text' (TYPE_STRING), 7", id="prompt is a number"),
        pytest.param({**ask(), "labels": {}}, 'Unknown name "labels": Cannot find field.', id="labels"),
        pytest.param(
            ask(imageConfig={"aspect": "1:1"}),
            "Unknown name \"aspect\" at 'generation_config.image_config': Cannot find field.",
            id="typo inside",
        ),
        pytest.param(ask(seed="x"), "Invalid value at 'generation_config.seed' (TYPE_INT32), \"x\"", id="seed"),
        pytest.param(ask(seed=1.5), "'generation_config.seed'", id="half a seed"),
        pytest.param(ask(seed=1 << 31), "'generation_config.seed'", id="seed too large"),
        pytest.param(ask(temperature=3), "temperature must be in the range", id="temperature"),
        pytest.param(ask(candidateCount=2), "Multiple candidates", id="candidates"),
        pytest.param(ask(responseModalities=["SOUND"]), "'generation_config.response_modalities[0]'", id="bad enum"),
        pytest.param(ask(responseModalities=["AUDIO"]), "combination of response modalities (AUDIO)", id="audio"),
        pytest.param(ask(maxOutputTokens=0), "max_output_tokens must be in the range", id="no tokens"),
        pytest.param(ask(maxOutputTokens=32_769), "max_output_tokens must be in the range", id="too many tokens"),
        pytest.param(ask(topP=1.5), "topP must be in the range", id="top p"),
        pytest.param(ask(responseMimeType="application/json"), "JSON mode", id="json mode"),
        pytest.param(ask(thinkingConfig={"thinkingLevel": "high"}), "'generation_config.thinking_config", id="level"),
        pytest.param(ask(thinkingConfig={"thinkingLevel": "LOW"}), "LOW is not supported", id="level not offered"),
        pytest.param(ask(imageConfig={"aspectRatio": "5:7"}), "Invalid aspect ratio '5:7'", id="ratio"),
        pytest.param(ask(imageConfig={"imageSize": "2k"}), "Invalid image size '2k'", id="small k"),
        pytest.param(ask(imageConfig={"imageSize": "512"}), "Invalid image size '512'", id="512"),
        pytest.param(
            ask(imageConfig={"imageSize": "1K"}, responseFormat={"image": {"imageSize": "1K"}}), "Only one", id="both"
        ),
        pytest.param(ask("x", {"text": "a", "inlineData": {}}), "oneof field 'data' is already set", id="two kinds"),
        pytest.param(ask("x", inline(b"%PDF-1.7", "application/pdf")), "Unsupported MIME type", id="pdf"),
        pytest.param(ask("x", inline(photo(kind="JPEG"))), "its bytes are something else", id="mime and bytes"),
        pytest.param(ask("x", inline(photo()[:40])), "Unable to process input image", id="torn image"),
        pytest.param(
            ask("x", inline(photo(900, 900)[:-900]), imageConfig={"aspectRatio": "1:1"}),
            "Unable to process input image",
            id="image torn at its end",
        ),
        pytest.param(
            ask("x", inline(photo()), inline(photo(900, 900)[:-900])), "Unable to process input image", id="second torn"
        ),
        pytest.param(ask("x", {"inlineData": {"mimeType": "image/png", "data": "!!"}}), "(TYPE_BYTES)", id="base64"),
        pytest.param(ask("x", *[inline(photo())] * 15), "at most 14 images", id="too many images"),
        pytest.param({**ask(), "tools": [{"codeExecution": {}}]}, "codeExecution is not enabled", id="tool"),
        pytest.param({**ask(), "model": f"models/{PRO}"}, "was sent to", id="another model"),
        pytest.param(ask("x" * 600_000), "exceeds the maximum number of tokens", id="long prompt"),
        pytest.param(
            {**ask(), "safetySettings": [{"category": "HARM_CATEGORY_NOISE", "threshold": "OFF"}]},
            "'safety_settings[0].category'",
            id="category",
        ),
    ],
)
def test_a_request_that_is_wrong_is_told_why(wire, request_, complaint):
    code, status, message = wire.refused("POST", f"/v1beta/models/{MODEL}:generateContent", request_)
    assert (code, status) == (400, "INVALID_ARGUMENT")
    assert complaint in message
    assert wire.ok("GET", "/_local/ledger") == []


def test_all_that_is_wrong_is_told_at_once(wire):
    request = {**ask(seed=[], imageConfig={"size": "1K"}), "lables": 1}
    _, answer, _ = wire("POST", f"/v1beta/models/{MODEL}:generateContent", request)
    (details,) = answer["error"]["details"]
    assert [violation.get("field") for violation in details["fieldViolations"]] == [
        "generation_config.seed",
        "generation_config.image_config",
        None,
    ]
    assert len(answer["error"]["message"].splitlines()) == 3


def test_both_spellings_and_both_alphabets_are_taken(wire):
    data = next(
        data for data in (photo(64, n) for n in range(60, 200)) if set(base64.b64encode(data)) & set(b"+/")
    )  # so that the alphabets differ
    path = f"/v1beta/models/{MODEL}:generateContent"
    camel = ask("an owl", inline(data), imageConfig={"aspectRatio": "4:5", "imageSize": "1K"}, topK=3.0, seed=7)
    snake = {
        "contents": [
            {
                "parts": [
                    {"text": "an owl"},
                    {"inline_data": {"mime_type": "image/png", "data": base64.urlsafe_b64encode(data).decode()}},
                ]
            }
        ],
        "generation_config": {"image_config": {"aspect_ratio": "4:5", "imageSize": "1K"}, "top_k": 3, "seed": "7"},
    }
    newer = ask("an owl", inline(data), seed=7, topK=3)
    newer["generationConfig"]["responseFormat"] = {
        "image": {"aspectRatio": "ASPECT_RATIO_FOUR_BY_FIVE", "imageSize": "IMAGE_SIZE_ONE_K"}
    }
    assert wire.ok("POST", path, camel) == wire.ok("POST", path, snake) == wire.ok("POST", path, newer)


def test_settings_the_models_offer_are_taken(wire):
    wire.ok(
        "POST",
        f"/v1beta/models/{MODEL}:generateContent",
        {
            **ask(thinkingConfig={"thinkingLevel": "HIGH"}, responseModalities=["IMAGE"], temperature=0.4),
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
            "tools": [{"googleSearch": {"searchTypes": {"webSearch": {}, "imageSearch": {}}}}],
        },
    )
    lite = "/v1beta/models/gemini-3.1-flash-lite-image:generateContent"
    wire.ok("POST", lite, ask(imageConfig={"imageSize": "1K"}))
    assert wire.refused("POST", lite, ask(imageConfig={"imageSize": "2K"}))[0] == 400
    assert wire.refused("POST", lite, {**ask(), "tools": [{"googleSearch": {}}]})[0] == 400
    assert wire.refused("POST", f"/v1beta/models/{PRO}:generateContent", ask(imageConfig={"aspectRatio": "8:1"}))


def test_a_reference_may_be_an_uploaded_file(wire):
    file = wire.upload(photo(300, 100, "WEBP"), mime="image/webp")
    part = {"fileData": {"fileUri": file["uri"], "mimeType": "image/webp"}}
    missing = {"file_data": {"file_uri": file["uri"] + "x"}}
    answers = {a["key"]: a for a in wire.answers(wire.batch({"a": ask("wider", part), "b": ask("wider", missing)}))}
    assert picture_of(answers["a"]["response"])[0].size == (1584, 672), "21:9 is nearest to 3:1 among the usual"
    usage = answers["a"]["response"]["usageMetadata"]
    assert usage["promptTokensDetails"][1] == {"modality": "IMAGE", "tokenCount": 1120}
    assert answers["b"]["error"]["code"] == 7


def test_an_image_of_ours_comes_back_with_its_signature(wire):
    path = f"/v1beta/models/{MODEL}:generateContent"
    content = wire.ok("POST", path, ask())["candidates"][0]["content"]
    image = content["parts"][-1]

    def again(image):
        turns = [{"role": "user", "parts": [{"text": "an owl"}]}, {"role": "model", "parts": [image]}]
        return {"contents": [*turns, {"role": "user", "parts": [{"text": "bigger"}]}]}

    signature = base64.urlsafe_b64encode(base64.b64decode(image["thoughtSignature"])).decode()
    wire.ok("POST", path, again({**image, "thoughtSignature": signature}))
    unsigned = {"inlineData": image["inlineData"]}
    assert "missing a thought_signature" in wire.refused("POST", path, again(unsigned))[2]
    forged = {**image, "thoughtSignature": base64.b64encode(b"forged").decode()}
    assert "Corrupted thought signature" in wire.refused("POST", path, again(forged))[2]


def test_a_later_turn_has_the_shape_of_the_newest_picture_and_pays_for_all_of_them(wire):
    path = f"/v1beta/models/{MODEL}:generateContent"
    turns = [{"role": "user", "parts": [{"text": "an owl"}, inline(photo(90, 160))]}]
    for aspect, size in (({"imageConfig": {"aspectRatio": "21:9"}}, (1584, 672)), ({}, (1584, 672))):
        response = wire.ok("POST", path, {"contents": turns, "generationConfig": aspect})
        assert picture_of(response)[0].size == size
        turns += [
            {"role": "model", "parts": [response["candidates"][0]["content"]["parts"][-1]]},
            {"role": "user", "parts": [{"text": "again"}]},
        ]
    details = wire.ok("POST", path, {"contents": turns})["usageMetadata"]["promptTokensDetails"]
    assert details[1] == {"modality": "IMAGE", "tokenCount": 3 * 1120}


# Answers


def test_words_in_the_prompt_rehearse_what_can_go_wrong(wire):
    words = ("BLOCK", "NOIMAGE", "ERROR", "PROMPTBLOCK")
    answers = wire.answers(wire.batch({word: ask(f"an owl, LOCAL:{word}") for word in words}))
    by_key = {answer["key"]: answer.get("response") for answer in answers}
    for word, reason in (("BLOCK", "IMAGE_SAFETY"), ("NOIMAGE", "NO_IMAGE")):
        (candidate,) = by_key[word]["candidates"]
        assert (candidate["finishReason"], candidate["content"]) == (reason, {})
        assert candidate["finishMessage"]
    assert by_key["PROMPTBLOCK"]["promptFeedback"] == {"blockReason": "PROHIBITED_CONTENT"}
    assert "candidates" not in by_key["PROMPTBLOCK"]
    assert [answer["error"]["code"] for answer in answers if "error" in answer] == [13]
    code, status, _ = wire.refused("POST", f"/v1/models/{MODEL}:generateContent", ask("LOCAL:ERROR"))
    assert (code, status) == (500, "INTERNAL")


def test_the_same_ask_is_another_picture_for_another_key_and_the_same_for_the_same(wire):
    first = {a["key"]: a["response"] for a in wire.answers(wire.batch({"a": ask(), "b": ask()}))}
    again = {a["key"]: a["response"] for a in wire.answers(wire.batch({"b": ask(), "a": ask()}))}
    assert picture_of(first["a"])[1] != picture_of(first["b"])[1]
    assert first == again


def test_an_answer_tells_what_it_used(wire):
    request = ask(
        imageConfig={"imageSize": "4K"}, responseModalities=["IMAGE"], thinkingConfig={"includeThoughts": True}
    )
    response = wire.ok("POST", f"/v1beta/models/{PRO}:generateContent", request)
    thought, _sketch, image = response["candidates"][0]["content"]["parts"]
    assert thought["thought"] is True
    assert set(image) == {"inlineData", "thoughtSignature"}
    usage = response["usageMetadata"]
    assert usage["candidatesTokensDetails"] == [{"modality": "IMAGE", "tokenCount": 2000}]
    assert usage["candidatesTokenCount"] == 2000
    assert usage["thoughtsTokenCount"] > 0
    assert picture_of(response)[0].size == (4096, 4096)
    assert response["modelVersion"] == PRO
    assert response["responseId"]


GENERATE = f"/v1beta/models/{MODEL}:generateContent"
SEARCH = [{"google_search": {"search_types": {"web_search": {}, "imageSearch": {}}}}]


def parts_of(response):
    return response["candidates"][0]["content"]["parts"]


def test_a_search_leaves_its_sources(wire):
    response = wire.ok("POST", GENERATE, {**ask(), "tools": SEARCH})
    found = response["candidates"][0]["groundingMetadata"]
    assert [set(chunk) for chunk in found["groundingChunks"]] == [{"web"}, {"web"}, {"image"}]
    assert set(found["groundingChunks"][2]["image"]) == {"sourceUri", "imageUri", "title", "domain"}
    assert (found["webSearchQueries"], found["imageSearchQueries"]) == (["a barn owl"], ["a barn owl"])
    assert "barn owl" in found["searchEntryPoint"]["renderedContent"]
    text = parts_of(response)[0]["text"].encode()
    for support in found["groundingSupports"]:
        segment, (number,) = support["segment"], support["groundingChunkIndices"]
        words = text[segment["startIndex"] : segment["endIndex"]].decode()
        (chunk,) = found["groundingChunks"][number].values()
        assert words == segment["text"] == chunk["title"]


def test_a_search_for_pictures_alone_finds_pictures_alone(wire):
    tools = [{"googleSearch": {"searchTypes": {"imageSearch": {}}}}]
    found = wire.ok("POST", GENERATE, {**ask(), "tools": tools})["candidates"][0]["groundingMetadata"]
    assert [set(chunk) for chunk in found["groundingChunks"]] == [{"image"}, {"image"}]
    assert "webSearchQueries" not in found
    assert wire.refused("POST", f"/v1beta/models/{PRO}:generateContent", {**ask(), "tools": tools})[0] == 400


def test_words_alone_come_without_a_picture(wire):
    response = wire.ok("POST", GENERATE, ask('say "hello"', responseModalities=["TEXT"], seed=4))
    (part,) = parts_of(response)
    assert 'You asked: say "hello"' in part["text"]
    assert "seed 4" in part["text"]
    assert "candidatesTokensDetails" not in response["usageMetadata"]
    other = wire.ok("POST", GENERATE, ask('say "hello"', responseModalities=["TEXT"], seed=5))
    assert parts_of(other) != [part]


@pytest.mark.parametrize(
    ("prompt", "modalities", "kinds"),
    [
        pytest.param("an owl in steps", ["TEXT", "IMAGE"], ["text", "image", "text", "image"], id="steps"),
        pytest.param("Several owls", ["IMAGE", "TEXT"], ["text", "image", "text", "image"], id="several"),
        pytest.param("an owl on the steppe", ["TEXT", "IMAGE"], ["text", "image"], id="another word"),
        pytest.param("an owl in steps", ["IMAGE"], ["image"], id="no words"),
    ],
)
def test_a_series_is_words_and_pictures_in_turn(wire, prompt, modalities, kinds):
    response = wire.ok("POST", GENERATE, ask(prompt, responseModalities=modalities))
    parts = parts_of(response)
    assert ["text" if "text" in part else "image" for part in parts] == kinds
    pictures = [part["inlineData"]["data"] for part in parts if "inlineData" in part]
    assert len(set(pictures)) == len(pictures)
    assert response["usageMetadata"]["candidatesTokensDetails"][0]["tokenCount"] == 1120 * len(pictures)


def test_thoughts_are_words_and_a_sketch_before_the_rest(wire):
    request = ask("an owl", responseModalities=["TEXT", "IMAGE"], thinkingConfig={"includeThoughts": True})
    words, sketch, *rest = parts_of(wire.ok("POST", GENERATE, request))
    assert words["thought"] is sketch["thought"] is True
    data = base64.b64decode(sketch["inlineData"]["data"])
    with Image.open(io.BytesIO(data)) as image:
        assert all(red == green == blue for red, green, blue in zip(*[iter(image.tobytes())] * 3, strict=True))
    assert rest == parts_of(wire.ok("POST", GENERATE, ask("an owl", responseModalities=["TEXT", "IMAGE"])))


@pytest.mark.parametrize(
    ("most", "kinds"),
    [
        pytest.param(1129, ["text", "image"], id="enough"),
        pytest.param(1128, ["text"], id="a token too few for the picture"),
        pytest.param(2, ["text"], id="not even the words"),
    ],
)
def test_an_answer_ends_where_its_tokens_end(wire, most, kinds):
    response = wire.ok("POST", GENERATE, ask(responseModalities=["TEXT", "IMAGE"], maxOutputTokens=most))
    (candidate,) = response["candidates"]
    assert ["text" if "text" in part else "image" for part in candidate["content"]["parts"]] == kinds
    assert candidate["finishReason"] == ("STOP" if len(kinds) == 2 else "MAX_TOKENS")
    assert response["usageMetadata"]["candidatesTokenCount"] <= most


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(ask(seed=1), id="seed"),
        pytest.param(ask(temperature=0.4), id="temperature"),
        pytest.param(ask(topP=0.4), id="top p"),
        pytest.param(ask(maxOutputTokens=9000), id="tokens"),
        pytest.param(ask(thinkingConfig={"thinkingLevel": "HIGH"}), id="thinking"),
        pytest.param({**ask(), "systemInstruction": {"parts": [{"text": "Be brief."}]}}, id="system"),
        pytest.param({**ask(), "tools": [{"googleSearch": {}}]}, id="search"),
        pytest.param(
            {**ask(), "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}]}, id="safety"
        ),
    ],
)
def test_every_setting_makes_another_picture_and_the_same_one_again(wire, request_):
    plain = parts_of(wire.ok("POST", GENERATE, ask()))[-1]
    once = parts_of(wire.ok("POST", GENERATE, request_))[-1]
    assert once != plain
    assert parts_of(wire.ok("POST", GENERATE, request_))[-1] == once
