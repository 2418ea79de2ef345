"""What the model answered to the turns of a conversation: the turns after them are sent with it, word for word.

A turn that others go on from is kept below `turns/<job>/` of the state folder, as the line it came in, under the
fingerprint of its ask and the service that made it; so it outlives its batch, and a journal that is lost. Whoever adds
a turn to a finished conversation goes on from the answer of the batch, as long as that is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.durable import Folder
from pipeline.gemini import answers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline.durable.staging import Staging
    from pipeline.journal import Journal


class Turns:
    """The answers to the turns of a job's conversations that came from one service.

    With `proofs` those count, too, that were only shown: a proof goes on from them, and nothing else does.
    """

    def __init__(self, journal: Journal, state: Path, job: str, service: str, *, proofs: bool = False) -> None:
        self._batches, self._state = journal.batches, Folder(state)
        self._job, self._service, self._proofs = job, service, proofs

    def staging(self) -> Staging:
        """Collect answers to be kept together, by the names of `name`."""
        return self._state.staging()

    def name(self, fingerprint: str) -> str:
        """Where the answer to an ask is kept, below the state folder."""
        return f"turns/{self._job}/{fingerprint}-{self._service}.jsonl"

    def has(self, key: str, fingerprint: str) -> bool:
        """Whether the answer to a turn is here."""
        return self._state.status(self.name(fingerprint)) is not None or any(self._answers(key, fingerprint))

    def line(self, key: str, fingerprint: str) -> bytes | None:
        """The answer to a turn, as the line it came in; `None` where it is not here.

        Of several answers to one ask it is the one to this very request, if that is still known.
        """
        return next(self.lines(key, fingerprint), None)

    def lines(self, key: str, fingerprint: str) -> Iterator[bytes]:
        """All kept answers to an ask, as the lines they came in; those to this very request first, the newest of them.

        What cannot be read, or is the answer to another request by now, is passed over.
        """
        for wire_key, name, offset, size in (*self._answers(key, fingerprint), (None, self.name(fingerprint), 0, -1)):
            try:
                with self._state.opened(name) as stream:
                    stream.seek(offset)
                    found = stream.read(size)
            except FileNotFoundError:
                continue
            if answers.content(found, wire_key) is not None:
                yield found

    def let_go(self, fingerprint: str) -> None:
        """Forget an answer that `line` could not read, so that the next plan knows; inside a transaction.

        What is left of it moves to `quarantine/`.
        """
        self._batches.forget_answers(self._job, self._service, fingerprint)
        name = self.name(fingerprint)
        if self._state.status(name) is not None:
            self._state.move(name, self._state, f"quarantine/{self._job}/{name.rpartition('/')[2]}")

    def _answers(self, key: str, fingerprint: str) -> Iterator[tuple[str, str, int, int]]:
        """Where it lies in the answers of batches that are kept: the wire key it was sent with, file, offset, bytes."""
        for batch, wire_key, offset, size in self._batches.answers_of(self._job, fingerprint, key, proofs=self._proofs):
            name = str(batch.answers_path)
            status = self._state.status(name) if batch.service == self._service else None
            if status is not None and status.st_size >= offset + size:
                yield wire_key, name, offset, size
