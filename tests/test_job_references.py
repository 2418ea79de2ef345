"""Reference images: files and globs, labels, roles, limits, and paths made of data."""

import pytest
from jobs import HEIC, JPEG, PNG, complaints, expanded, write

from pipeline.job import globs


@pytest.fixture
def room(tmp_path):
    write(tmp_path, "refs/hall.png", PNG)
    for name in ("b", "a", "c"):
        write(tmp_path, f"swatches/oak/{name}.png", PNG + name.encode())
    write(tmp_path, "swatches/oak/.hidden.png", PNG)
    write(tmp_path, "swatches/oak/more/d.png", PNG + b"d")
    return tmp_path


def shown(request):
    return [image.shown for image in request.ask.images]


def test_labels_name_the_images_of_their_own_message(room):
    [request] = expanded(
        room,
        """\
        prompt: "Furnish [@Room] as in [@swatches], all of [@ROOM]."
        items: [{id: a, room: hall, fabric: oak}]
        images:
          - {file: "refs/[room].png", as: room}
          - {glob: "swatches/[fabric]/*.png", max: 2, as: swatches}
        """,
    )
    assert request.ask.prompt == "Furnish image 1 as in images 2-3, all of image 1."
    assert shown(request) == ["refs/hall.png", "swatches/oak/a.png", "swatches/oak/b.png"]


def test_a_glob_goes_by_relative_path_in_code_point_order(room):
    [request] = expanded(room, "prompt: x\nimages: [{glob: 'swatches/**/*.png', role: style}]")
    assert shown(request) == [f"swatches/oak/{name}.png" for name in ("a", "b", "c", "more/d")]


def test_each_turn_counts_its_own_images(room):
    requests = expanded(
        room,
        """\
        images: [{file: refs/hall.png, as: room}]
        turns:
          - "Look at [@room]."
          - {prompt: "Now [@oak].", images: [refs/hall.png, {file: swatches/oak/a.png, as: oak}]}
        """,
    )
    assert [request.ask.prompt for request in requests] == ["Look at image 1.", "Now image 2."]


def test_what_is_optional_may_be_missing(room):
    requests = expanded(
        room,
        """\
        prompt: "As in [@swatches|nothing], [@room]."
        items: [{id: a, fabric: oak}, {id: b, fabric: ash}, {id: c, fabric: ""}]
        images:
          - {glob: "swatches/[fabric]/a.png", as: swatches, optional: true}
          - {file: refs/hall.png, as: room}
          - {file: refs/gone.png, optional: true}
        """,
    )
    assert [request.ask.prompt for request in requests] == [
        "As in image 1, image 2.",
        "As in nothing, image 1.",
        "As in nothing, image 1.",
    ]


def test_a_value_means_itself_in_a_glob(room):
    """A cell with a star or a bracket is no pattern."""
    found = complaints(room, "prompt: x\nitems: [{id: a, fabric: '*'}]\nimages: [{glob: 'swatches/[fabric]/a.png'}]")
    assert found == ["2:25: no file matches 'swatches/[*]/a.png' (where there may be none, say optional: true)"]


def test_images_of_an_item_that_is_an_image(room):
    requests = expanded(room, 'prompt: "[name] [@style]"\nitems: swatches/oak/*.png\n'
                              'images: ["[file]", {file: refs/hall.png, as: style}]')  # fmt: skip
    assert next((r.ask.prompt, shown(r)) for r in requests) == (
        "a.png image 2",
        ["swatches/oak/a.png", "refs/hall.png"],
    )


def test_roles_count_against_their_own_limits(room):
    write(room, "p.png", PNG + b"p")
    text = "prompt: x\nimages: [{{file: refs/hall.png, role: person}}, {{file: p.png, role: {role}}}]"
    assert len(expanded(room, text.format(role="object"))) == 1
    assert len(expanded(room, text.format(role="style"))) == 1
    [found] = complaints(room, text.format(role="person"))
    assert found.startswith("2:17: 2 reference images with the role 'person'; picture-2 takes at most 1 (send fewer: ")
    assert found.endswith("max: n takes the first n of a glob, or give some another role: object or person)")


def test_what_a_model_advises_against_is_a_warning(room):
    warnings = []
    expanded(room, "prompt: x\nimages: [{glob: 'swatches/oak/*.png'}]", warnings=warnings)
    assert warnings == ["3 reference images; picture-2 works best with at most 2"]


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        ("[{file: a.png, glob: b}]", "3:10: images: an entry has a file or a glob, and both are here"),
        ("[{as: x}]", "3:10: images: an entry has a file or a glob, and neither is here"),
        ("[{file: refs/hall.png, max: 2}]", "3:32: images: 'max' means nothing for one file"),
        ("[{file: refs/hall.png, as: x}, {file: refs/hall.png, as: X}]", "3:66: images: the label 'X' is there twice"),
        ("[{file: refs/hall.png, as: '[x]'}]", "3:36: 'images[1].as' is a word without brackets"),
        ("[{file: refs/hall.png, role: thing}]", "3:38: 'images[1].role' is object, person or style, not 'thing'"),
        ("[{file: refs/hall.png, label: x}]", "3:32: unknown key 'label' in 'images'"),
        ("[{glob: 'swatches/*/x.png'}]", "3:17: images: no file matches 'swatches/*/x.png'"),
        (
            "['swatches/oak/*.png']",
            "3:10: images: there is no image 'swatches/oak/*.png' (for several images say {glob",
        ),
        ("['https://x.org/a.png']", "3:10: images: 'https://x.org/a.png' is a URL (download the image"),
        ("[{glob: 'https://x.org/*.png'}]", "3:17: images: 'https://x.org/*.png' is a URL"),
        (
            "[ref/hall.png]",
            "3:10: images: there is no image 'ref/hall.png': the folder '{room}/ref' is not there; did you",
        ),
        (
            "[refs/hal.png]",
            "3:10: images: there is no image 'refs/hal.png'; did you mean 'hall.png'? (paths are relative",
        ),
        ("['refs/[id]all.png']", "2:14: there is no image 'refs/aall.png'; did you mean 'hall.png'? (paths are rel"),
        ("[{glob: 'refs/*.PNG'}]", "3:17: images: no file matches 'refs/*.PNG' (there is 'refs/hall.png': names are"),
        ("[{glob: 'refs/*.jpg'}]", "3:17: images: no file matches 'refs/*.jpg' (where there may be none, say optional"),
        ("[{glob: 'refs/*.{png,jpg}'}]", "3:17: images: no file matches 'refs/*.{png,jpg}' (braces are no pattern"),
        ("[notes.txt]", "3:10: images: 'notes.txt' is no png, jpeg, webp, heic or heif (convert it"),
        ("[refs]", "3:10: images: 'refs' is a folder"),
        ("['../[id].png']", "2:14: '../a.png' leads out of the project"),
        ("[{glob: '../[id]1/*'}]", "2:14: '../a1/*' leads out of the project"),
        ("['refs/[nope].png']", "3:16: unknown placeholder [nope]"),
        ("['refs/[@x].png']", "3:16: unknown placeholder [@x]"),
        ("[big.heic]", "3:10: picture-2 does not take heic: 'big.heic'"),
    ],
)
def test_what_cannot_be_sent_is_refused(room, images, complaint):
    write(room, "notes.txt", "text")
    write(room, "big.heic", HEIC)
    write(room.parent, "a.png", PNG)
    write(room.parent, "a1/x.png", PNG)
    found = complaints(room, f"prompt: x\nitems: [{{id: a}}]\nimages: {images}")
    complaint = complaint.replace("{room}", str(room))
    assert any(line.startswith(complaint) for line in found), found


@pytest.mark.parametrize("word", ["[@nope]", "[@]"])
def test_an_unknown_label_is_told_with_near_ones(room, word):
    [found] = complaints(room, f"prompt: 'a {word}'\nimages: [{{file: refs/hall.png, as: note}}]")
    assert "did you mean '@note'?" in found or "an empty label" in found


def test_a_link_leads_nowhere_by_data(room):
    write(room.parent, "secret.png", PNG)
    (room / "refs/a.png").symlink_to(room.parent / "secret.png")
    [found] = complaints(room, "prompt: x\nitems: [{id: a}]\nimages: ['refs/[id].png']")
    assert "leads out of the project" in found


def test_a_glob_for_each_row_reads_its_folder_once(room, monkeypatch):
    read = []
    monkeypatch.setattr(globs, "_read", lambda folder, plain=globs._read: read.append(folder) or plain(folder))
    for number in range(50):
        write(room, f"photos/sku{number}-1.png", PNG + b"%d" % number)
    items = ", ".join(f"sku{number}" for number in range(50))
    requests = expanded(room, f"prompt: '[item]'\nitems: [{items}]\nimages: [{{glob: 'photos/[item]-*.png'}}]")
    assert [shown(request) for request in requests[:2]] == [["photos/sku0-1.png"], ["photos/sku1-1.png"]]
    assert len(read) == 1


def test_the_same_bytes_under_another_name_buy_nothing(room):
    write(room, "copy.jpg", JPEG)
    write(room, "other.jpg", JPEG)
    [first] = expanded(room, "prompt: x\nimages: [copy.jpg]")
    [second] = expanded(room, "prompt: x\nimages: [{file: other.jpg, as: y, role: style}]")
    assert first.fingerprint == second.fingerprint
