"""One answer comes down while another is unpacked: in order, one ahead, and what goes wrong is told to whoever asks."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest

from pipeline.errors import UnfinishedError
from pipeline.reconcile.downloads import Downloads

MAIN = threading.main_thread()


@dataclass(frozen=True)
class Batch:
    id: int


@dataclass
class Service:
    """Brings an answer as soon as it may, and knows in which thread."""

    gate: threading.Event = field(default_factory=threading.Event)
    begun: list[tuple[int, bool]] = field(default_factory=list)
    given_up: list[int] = field(default_factory=list)

    def bring(self, batch, heed):
        is_beside = threading.current_thread() is not MAIN
        self.begun.append((batch.id, is_beside))
        try:
            while is_beside and not self.gate.wait(0.001):
                heed()
        except UnfinishedError:
            self.given_up.append(batch.id)
            raise
        if batch.id == 13:
            raise UnfinishedError("the answer was cut")
        return {"answers_path": str(batch.id)}


def test_each_is_begun_while_the_one_before_is_unpacked_and_none_earlier():
    service, batches = Service(), [Batch(number) for number in (1, 2, 3)]
    with Downloads(service.bring, batches) as downloads:
        assert downloads.take(batches[0]) == {"answers_path": "1"}
        assert service.begun == [(1, False)], "what nobody waits beside needs no thread"
        downloads.begin()
        downloads.begin()
        service.gate.set()
        assert downloads.take(batches[1]) == {"answers_path": "2"}
        assert [number for number, _ in service.begun] == [1, 2], "one ahead, no more"
        downloads.begin()
        assert downloads.take(batches[2]) == {"answers_path": "3"}
        downloads.begin()
    assert service.begun == [(1, False), (2, True), (3, True)]


def test_what_goes_wrong_beside_is_raised_where_it_is_asked_for_and_the_next_one_comes():
    service, batches = Service(), [Batch(13), Batch(2)]
    service.gate.set()
    with Downloads(service.bring, batches) as downloads:
        downloads.begin()
        with pytest.raises(UnfinishedError, match="was cut"):
            downloads.take(batches[0])
        assert downloads.take(batches[1]) == {"answers_path": "2"}


def test_what_nobody_waits_for_any_more_is_given_up():
    service = Service()
    with pytest.raises(RuntimeError), Downloads(service.bring, [Batch(1), Batch(2)]) as downloads:
        downloads.begin()
        raise RuntimeError
    assert service.given_up == [1]
    assert "download" not in {thread.name for thread in threading.enumerate()}
