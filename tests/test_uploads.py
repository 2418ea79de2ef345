"""Reference images on their way: along with one request, or once as a file, whoever is killed, lies or is full."""

from __future__ import annotations

import base64
import hashlib
import json
import os

import pytest
from conftest import KEY
from pictures import encoded, noise
from proxy import DropError

from pipeline.errors import UnfinishedError
from pipeline.gemini.api import Api, Secret
from pipeline.reconcile import uploads

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "30s")
SHARED = """\
prompt: Put the [product] beside what you see.
images: [photo.png]
items: [{id: mug, product: mug}, {id: bowl, product: bowl}]
"""
EACH = """\
prompt: Show it at dusk.
items: photos/*.png
"""


def photo(seed=1, side=24):
    return encoded(noise((side, side), seed=seed), "PNG")


LARGE = encoded(noise((1200, 1200)), "PNG", compress_level=0)
assert len(LARGE) > 4_000_000


def uploaded(service):
    """The reference images that the service took in, by name, in order."""
    names = [entry["name"].removeprefix("files/") for entry in service.ledger("files.upload")]
    return [name for name in names if name.startswith("ref-")]


def name_of(data, number=1):
    return f"ref-{hashlib.sha256(data).hexdigest()[:28]}-{number}"


def parts(shop, job="shop"):
    """What stands for an image in each request that was sent, in order."""
    files = sorted((shop.outputs / ".pipeline/requests" / job).glob("*.jsonl"), key=os.path.getmtime)
    lines = [line for path in files for line in path.read_bytes().splitlines()]
    return [json.loads(line)["request"]["contents"][0]["parts"][1:] for line in lines]


# ------------------------------------------------------------------------------- along, or as a file


def test_a_small_image_of_one_request_goes_along_with_it(shop, service):
    shop.write("jobs/shop.yaml", EACH)
    for seed in (1, 2):
        shop.write(f"jobs/photos/{seed}.png", photo(seed))
    assert shop(*RUN).code == 0
    assert uploaded(service) == []
    sent = {part["inlineData"]["data"] for (part,) in parts(shop)}
    assert sent == {base64.b64encode(photo(seed)).decode() for seed in (1, 2)}


def test_an_image_of_two_requests_is_uploaded_once_under_its_hash(shop, service):
    shop.write("jobs/shop.yaml", SHARED)
    shop.write("jobs/photo.png", photo())
    assert shop(*RUN).code == 0
    assert uploaded(service) == [name_of(photo())]
    uri = f"https://generativelanguage.googleapis.com/v1beta/files/{name_of(photo())}"
    assert parts(shop) == [[{"fileData": {"mimeType": "image/png", "fileUri": uri}}]] * 2


def test_a_large_image_is_uploaded_even_for_one_request(shop, service):
    shop.write("jobs/shop.yaml", "prompt: at dusk\nimages: [photo.png]\n")
    shop.write("jobs/photo.png", LARGE)
    assert shop(*RUN).code == 0
    assert uploaded(service) == [name_of(LARGE)]


def test_samples_are_several_requests(shop, service):
    shop.write("jobs/shop.yaml", "prompt: at dusk\nimages: [photo.png]\nsamples: 2\n")
    shop.write("jobs/photo.png", photo())
    assert shop(*RUN).code == 0
    assert uploaded(service) == [name_of(photo())]


def test_the_same_bytes_under_two_names_are_one_file(shop, service):
    shop.write("jobs/shop.yaml", "prompt: both\nimages: [one.png, two.png]\nsamples: 2\n")
    shop.write("jobs/one.png", photo())
    shop.write("jobs/two.png", photo())
    assert shop(*RUN).code == 0
    assert uploaded(service) == [name_of(photo())]
    assert [len(found) for found in parts(shop)] == [2, 2]


def test_all_jobs_of_an_outputs_folder_share_what_is_there(shop, service):
    shop.write("jobs/shop.yaml", SHARED)
    shop.write("jobs/other.yaml", SHARED.replace("beside", "above"))
    shop.write("jobs/photo.png", photo())
    assert shop(*RUN).code == 0
    assert shop("run", "jobs/other.yaml", "--poll", "0.1s").code == 0
    assert uploaded(service) == [name_of(photo())]
    assert all("fileData" in part for found in parts(shop, "other") for part in found)


def test_the_files_of_the_user_stay_as_they_are(shop):
    shop.write("jobs/shop.yaml", SHARED)
    path = shop.write("jobs/photo.png", photo())
    before = path.stat()
    assert shop(*RUN).code == 0
    assert path.read_bytes() == photo()
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_the_way_an_image_travels_is_no_part_of_what_is_asked(shop, service):
    """Sent as a file today, it is not bought again tomorrow when it would go along."""
    shop.write("jobs/shop.yaml", SHARED)
    shop.write("jobs/photo.png", photo())
    assert shop(*RUN).code == 0
    shop.write("jobs/shop.yaml", SHARED.replace(", {id: bowl, product: bowl}", ""))
    assert shop("plan", "--json", "jobs").json["jobs"][0]["counts"]["done"] == 1


def test_a_plan_counts_what_is_uploaded_once(shop):
    rows = ", ".join(f"{{id: p{n}, product: p{n}}}" for n in range(50))
    shop.write("jobs/shop.yaml", f"prompt: a [product]\nimages: [photo.png]\nitems: [{rows}]\n")
    shop.write("jobs/photo.png", photo(side=400))
    (plan,) = shop("plan", "--json").json["jobs"]
    size = len(photo(side=400))
    assert size < plan["input_bytes"] < size + 50 * 1000


# ----------------------------------------------------------------------------------- lives and deaths


def test_what_lives_long_enough_is_used_again_and_what_does_not_is_uploaded_anew(shop, service):
    shop.write("jobs/shop.yaml", SHARED)
    shop.write("jobs/photo.png", photo())
    assert shop(*RUN).code == 0
    service.advance(11 * 3600)  # 37 hours are left
    shop.write("jobs/shop.yaml", SHARED.replace("beside", "above"))
    assert shop(*RUN).code == 0
    assert uploaded(service) == [name_of(photo())]
    service.advance(2 * 3600)  # 35
    shop.write("jobs/shop.yaml", SHARED.replace("beside", "below"))
    assert shop(*RUN).code == 0
    assert uploaded(service) == [name_of(photo()), name_of(photo(), 2)]


def test_a_file_that_was_deleted_at_the_service_is_uploaded_again(shop, service):
    shop.write("jobs/shop.yaml", SHARED)
    shop.write("jobs/photo.png", photo())
    assert shop(*RUN).code == 0
    service.delete(f"files/{name_of(photo())}")
    shop.write("jobs/shop.yaml", SHARED.replace("beside", "above"))
    assert shop(*RUN).code == 0
    assert uploaded(service) == [name_of(photo())] * 2


def test_a_lost_journal_finds_its_uploads_by_name(shop, service):
    shop.write("jobs/shop.yaml", SHARED)
    shop.write("jobs/photo.png", photo())
    assert shop(*RUN).code == 0
    for path in (shop.outputs / ".pipeline").glob("journal.db*"):
        path.unlink()
    shop.write("jobs/shop.yaml", SHARED.replace("beside", "above"))
    assert shop(*RUN).code == 0
    assert uploaded(service) == [name_of(photo())]


def test_many_are_uploaded_and_a_kill_in_between_uploads_none_of_them_twice(shop, service):
    shop.write("jobs/shop.yaml", EACH + "samples: 2\n")
    for seed in range(20):
        shop.write(f"jobs/photos/{seed:02}.png", photo(seed + 1))
    assert shop.forked(*RUN, at="upload:after:5") == -9
    assert len(uploaded(service)) < 20
    assert shop.forked(*RUN, at="upload:after:3") == -9
    assert shop(*RUN).code == 0
    assert sorted(uploaded(service)) == sorted(name_of(photo(seed + 1)) for seed in range(20))
    assert [entry["requests"] for entry in service.ledger()] == [20, 20], "twenty go ahead"


def test_a_kill_before_the_create_does_not_upload_the_requests_twice(shop, service):
    assert shop.forked(*RUN, at="upload:after:1") == -9
    assert shop.forked(*RUN) == 0
    assert len(service.ledger("files.upload")) == 1
    assert len(service.ledger()) == 1


def test_says_how_many_it_uploads_and_nothing_when_quiet(shop):
    shop.write("jobs/shop.yaml", SHARED)
    shop.write("jobs/photo.png", photo())
    said = shop(*RUN).err
    assert "uploading 1 reference image, 0.0 MB" in said
    assert "uploaded 1 reference image, 0.0 MB" in said
    shop.write("jobs/photo.png", photo(2))
    assert shop("-q", *RUN).err == ""


# ---------------------------------------------------------------------------------- trouble with one


def is_get_of(name):
    return lambda call: call.method == "GET" and call.path.split("?")[0].endswith(f"/files/{name}")


def is_upload_of_image(call):
    return call.method == "POST" and "/upload/" in call.path and b"\x89PNG" in call.body


def changed(**fields):
    """A rule that lets the service tell something else of each reference image."""

    def rule(call):
        if call.status == 200 and ("/files/ref-" in call.path or is_upload_of_image(call)):
            told = call.json
            (told.get("file") or told).update(fields)
            call.say(told)

    return rule


class FakeClock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.at = 0.0

    def time(self):
        return self.at

    def sleep(self, seconds):
        self.at += seconds


def wished(shop, data):
    path = shop.write("jobs/photo.png", data)
    names = (name_of(data), name_of(data, 2))
    return uploads.Wish(path, "photo.png", "image/png", len(data), hashlib.sha256(data).hexdigest(), names)


@pytest.fixture
def api(proxy):
    connected = Api(Secret(KEY), os.environ["GOOGLE_GEMINI_BASE_URL"])
    yield connected
    connected.close()


def test_one_that_is_processed_is_waited_for(shop, service, proxy, api):
    states = iter(["PROCESSING", "PROCESSING", "ACTIVE"])

    def rule(call):
        if "/files/ref-" in call.path or is_upload_of_image(call):
            changed(state=next(states))(call) if call.status == 200 else None

    proxy.after, clock = rule, FakeClock()
    assert uploads.published(api, wished(shop, photo()), clock).state == "ACTIVE"
    assert clock.at == 10
    assert uploaded(service) == [name_of(photo())]


def test_one_that_is_processed_for_ever_is_left_for_another_run(shop, service, proxy, api):
    proxy.after, clock = changed(state="PROCESSING"), FakeClock()
    with pytest.raises(UnfinishedError, match=r"processing files/ref-.* for ten minutes"):
        uploads.published(api, wished(shop, photo()), clock)
    assert 600 <= clock.at < 610


@pytest.mark.parametrize("lie", [{"state": "FAILED"}, {"sha256Hash": "AAAA" * 16}, {"sizeBytes": "7"}])
@pytest.mark.some(1)
def test_one_that_arrives_damaged_is_deleted_and_sent_once_more_and_then_a_person_must_look(shop, service, proxy, lie):
    if "sha256Hash" in lie:
        lie = {"sha256Hash": base64.b64encode(b"0" * 64).decode()}
    shop.write("jobs/shop.yaml", SHARED)
    shop.write("jobs/photo.png", photo())
    proxy.after = changed(**lie)
    ended = shop(*RUN)
    assert ended.code == 6
    assert "photo.png: the service does not keep it as it was sent" in ended.err
    assert len(uploaded(service)) == 2
    assert {entry["name"] for entry in service.ledger("files.delete")} == {f"files/{n}" for n in uploaded(service)}
    assert service.ledger() == []
    proxy.after = lambda call: None
    assert shop(*RUN).code == 0


def test_a_name_that_belongs_to_somebody_else_is_left_alone(shop, service, proxy):
    shop.write("jobs/shop.yaml", SHARED)
    shop.write("jobs/photo.png", photo())
    name = name_of(photo())

    def rule(call):
        if is_get_of(name)(call):
            said = f"You do not have permission to access the File {name} or it may not exist."
            call.say({"error": {"code": 403, "message": said, "status": "PERMISSION_DENIED"}}, 403)
        elif call.method == "POST" and "/upload/" in call.path and name.encode() in call.body:
            call.say({"error": {"code": 409, "message": "it is there", "status": "ALREADY_EXISTS"}}, 409)

    proxy.before = rule
    assert shop(*RUN).code == 0
    assert uploaded(service) == [name_of(photo(), 2)]


def test_a_lost_answer_to_an_upload_is_no_second_upload(shop, service, proxy):
    shop.write("jobs/shop.yaml", SHARED)
    shop.write("jobs/photo.png", photo())
    lost = []

    def rule(call):
        if is_upload_of_image(call) and not lost:
            lost.append(call)
            raise DropError

    proxy.after = rule
    assert shop(*RUN).code == 0
    assert lost
    assert uploaded(service) == [name_of(photo())]


def test_one_that_changed_while_the_job_ran_is_not_sent(shop, service, proxy):
    shop.write("jobs/shop.yaml", SHARED)
    path = shop.write("jobs/photo.png", photo())
    proxy.before = lambda call: path.write_bytes(photo(2)) if is_get_of(name_of(photo()))(call) else None
    ended = shop("submit", "jobs/shop.yaml")
    assert ended.code == 4
    assert "photo.png was changed while the job ran" in ended.err
    assert service.ledger() == []


def test_an_item_whose_file_went_away_is_asked_again_with_a_fresh_one(shop, service, proxy):
    """The service may lose a file between the create and the drawing: that is no fault of the request."""
    shop.write("jobs/shop.yaml", SHARED)
    shop.write("jobs/photo.png", photo())
    gone = []

    def rule(call):
        if call.is_download() and call.status == 200 and not gone:
            gone.append(call)
            said = f"You do not have permission to access the File {name_of(photo())} or it may not exist."
            found = [json.loads(line) for line in call.answer.splitlines()]
            told = [{"key": one["key"], "error": {"code": 7, "message": said}} for one in found]
            call.say(b"".join(json.dumps(one).encode() + b"\n" for one in told))
            service.delete(f"files/{name_of(photo())}")

    proxy.after = rule
    assert shop(*RUN).code == 0
    assert len(uploaded(service)) == 2
    assert {record["attempt"] for record in shop.records().values()} == {2}


# ------------------------------------------------------------------------------ what is left behind


def test_an_input_file_is_deleted_when_its_answer_is_here_and_a_batch_after_a_day(shop, service):
    assert shop(*RUN).code == 0
    (made,) = service.ledger()
    assert [entry["name"] for entry in service.ledger("files.delete")] == [made["fileName"]]
    assert service.ledger("batches.delete") == []


def test_a_batch_is_deleted_with_its_answer_as_soon_as_one_likes(shop, service, monkeypatch):
    monkeypatch.setenv("PIPELINE_KEEP_REMOTE", "0")
    assert shop(*RUN).code == 0
    (made,) = service.ledger()
    assert [entry["name"] for entry in service.ledger("batches.delete")] == [made["name"]]
    tree = shop.tree()
    assert shop(*RUN).code == 0
    assert shop.tree() == tree
    assert len(service.ledger("batches.delete")) == 1


def test_a_kill_between_the_answer_and_the_deletions_loses_nothing(shop, service, monkeypatch):
    monkeypatch.setenv("PIPELINE_KEEP_REMOTE", "0")
    assert shop.forked(*RUN, at="delete:after:1") == -9
    assert shop.forked(*RUN) == 0
    assert len(service.ledger("batches.delete")) == 1
    assert len(service.ledger()) == 1


@pytest.mark.some(1)
@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda found: found[1:], id="a missing key"),
        pytest.param(lambda found: [b"{ no json\n", *found], id="a line nobody can read"),
    ],
)
def test_a_batch_that_left_something_open_is_kept_at_the_service(shop, service, proxy, monkeypatch, harm):
    monkeypatch.setenv("PIPELINE_KEEP_REMOTE", "0")
    shop.write("jobs/shop.yaml", "prompt: a [product]\nitems: products.csv\nretry: 0\n")

    def rule(call):
        if call.is_download() and call.status == 200:
            call.say(b"".join(harm([line + b"\n" for line in sorted(call.answer.splitlines())])))

    proxy.after = rule
    shop(*RUN)
    assert service.ledger("batches.delete") == []
    assert len(service.ledger("files.delete")) == 1


def test_trouble_with_a_deletion_is_told_and_fails_nothing(shop, service, proxy):
    def rule(call):
        if call.method == "DELETE":
            call.say({"error": {"code": 400, "message": "not today", "status": "FAILED_PRECONDITION"}}, 400)

    proxy.before = rule
    ended = shop(*RUN)
    assert ended.code == 0
    assert "could not be deleted" in ended.err
    proxy.before = lambda call: None
    assert shop(*RUN).code == 0
    assert len(service.ledger("files.delete")) == 1


def test_what_is_held_at_the_service_is_added_up(slow_shop, slow_service):
    shop = slow_shop
    shop.write("jobs/shop.yaml", SHARED)
    shop.write("jobs/photo.png", LARGE)
    assert shop("submit", "jobs/shop.yaml").code == 0
    (requests,) = (shop.outputs / ".pipeline/requests/shop").glob("*.jsonl")
    assert shop("status", "--json").json["remote_bytes"] == len(LARGE) + requests.stat().st_size
    slow_service.advance(21 * 3600)
    assert shop("collect", "jobs/shop.yaml").code == 0
    (answers,) = (shop.outputs / ".pipeline/answers/shop").glob("*.jsonl")
    assert shop("status", "--json").json["remote_bytes"] == len(LARGE) + answers.stat().st_size


def test_a_create_waits_for_space_at_the_service(shop, service, monkeypatch):
    """The answer of one batch fits; the second waits until the first is deleted there."""
    shop.write("jobs/shop.yaml", "prompt: a [product]\nitems: products.csv\nbatch: {max_requests: 1}\n")
    shop.write("small.yaml", "limits: {storage_bytes: 1_880_000}\n")
    ended = shop("--models", "small.yaml", "run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "3s")
    assert ended.code == 4
    assert ended.err.count("it waits for space") == 1
    assert len(service.ledger()) == 1
    monkeypatch.setenv("PIPELINE_KEEP_REMOTE", "0")
    assert shop("--models", "small.yaml", *RUN).code == 0
    assert len(service.ledger()) == 3


def test_an_image_that_many_requests_show_takes_its_space_once(shop, service):
    rows = ", ".join(f"{{id: p{n}, product: p{n}}}" for n in range(4))
    shop.write("jobs/shop.yaml", f"prompt: a [product]\nimages: [photo.png]\nitems: [{rows}]\n")
    shop.write("jobs/photo.png", LARGE)
    shop.write("small.yaml", f"limits: {{storage_bytes: {2 * len(LARGE) + 4 * 1_870_000}}}\n")
    assert shop("--models", "small.yaml", *RUN).code == 0
    assert [entry["requests"] for entry in service.ledger()] == [4]
