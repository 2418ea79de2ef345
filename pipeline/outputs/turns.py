"""What the model answered to the turns of a conversation: the turns after them are sent with it, word for word.

A turn that others go on from is kept below `turns/<job>/` of the state folder, as the line it came in, under the
fingerprint of its ask and the service that made it; so it outlives its batch, and a journal that is lost. Whoever adds
a turn to a finished conversation goes on from the answer of the batch, as long as that is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.durable import Folder

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.durable import Staging
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
        return self._state.status(self.name(fingerprint)) is not None or self._answer(key, fingerprint) is not None

    def line(self, key: str, fingerprint: str) -> bytes | None:
        """The answer to a turn, as the line it came in; `None` where it is not here.

        Of several answers to one ask it is the one to this very request, if that is still known.
        """
        if place := self._answer(key, fingerprint):
            name, offset, size = place
            with self._state.opened(name) as stream:
                stream.seek(offset)
                return stream.read(size)
        try:
            with self._state.opened(self.name(fingerprint)) as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def _answer(self, key: str, fingerprint: str) -> tuple[str, int, int] | None:
        """Where it lies in the answer of a batch that is kept: the file, offset and bytes."""
        for batch, _wire_key, offset, size in self._batches.answers_of(
            self._job, fingerprint, key, proofs=self._proofs
        ):
            name = str(batch.answers_path)
            status = self._state.status(name) if batch.service == self._service else None
            if status is not None and status.st_size >= offset + size:
                return name, offset, size
        return None
