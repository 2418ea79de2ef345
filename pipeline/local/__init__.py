"""A Gemini-compatible service of our own, to try everything without a key, without a network and without a bill.

It speaks the File API, the Batch API and `generateContent` of the image models over HTTP on this machine, as
strictly as the real service where that is known, and draws pictures instead of imagining them: exact in size,
captioned with the prompt, the same for the same ask. It shares no code with the rest of the product: it is the
other side of the wire, and a field name known to both would hide a mistake in either.

    with serving(Path("outputs/.local-service")) as url:
        client = genai.Client(api_key="any-20-letters-or-more", http_options={"base_url": url})

Everything it knows is in its folder, so a batch made by one command is collected by another, hours later, and two
commands may serve the same folder at once. Three calls are its own and need no key:

    GET  /_local/ledger                         every accepted call that changed something, in order
    POST /_local/clock   {"advance_s": 3600}    put its clock forward
    GET  /_local/faults                         the rules of the rehearsal, and how often each has struck

and four words in a prompt rehearse what can go wrong:

    LOCAL:BLOCK         an answer without a picture, finishReason IMAGE_SAFETY
    LOCAL:NOIMAGE       the same, finishReason NO_IMAGE
    LOCAL:PROMPTBLOCK   no candidates, promptFeedback.blockReason PROHIBITED_CONTENT
    LOCAL:ERROR         an error in place of the answer, code 13

What is asked for can be seen: the first 200 characters of the prompt stand below the picture, in Latin letters, with
all that was chosen and the sources of a search; words in quotation marks stand large in it. One image is kept but for
a sticker, as an edit of it; several are shown side by side, with their numbers. A later turn of a conversation starts
from the newest picture, with what is new as insets. With words and pictures asked for, a prompt that says `steps` or
`several` gets two of each, in turn; thoughts are a text and a grey sketch.

More trouble than that is written down in a file of rules: docs/faults.md.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from . import batches, faultsfile, files
from .calls import Service
from .faultsfile import FaultsError
from .press import Press
from .rehearsal import Rehearsal
from .server import Server
from .state import State

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

__all__ = ["FaultsError", "serving"]


@contextmanager
def serving(
    state: Path,
    *,
    port: int = 0,
    latency_s: float = 2.0,
    pictures: str = "drawn",
    keys: Collection[str] = (),
    faults: Path | None = None,
) -> Iterator[str]:
    """Serve from the folder `state` on 127.0.0.1 until the block ends; yields the base URL.

    `latency_s` is how long a batch takes from its making to its end, `pictures` is "drawn" or "plain" (simple and
    fast), and `keys` are the API keys taken; none given, any that could be one is. `faults` is a file of trouble to
    rehearse; raises `FaultsError`, before anything is served, if it is not one.
    """
    if pictures not in ("drawn", "plain"):
        raise ValueError(f"pictures must be 'drawn' or 'plain', not {pictures!r}")
    rehearsal = Rehearsal(faultsfile.read(faults) if faults else ())
    memory = State(state)
    try:
        files.sweep(memory)
        batches.sweep(memory)
        press = Press(memory)
        try:
            with _listening(port, Service(memory, latency_s, pictures, press.wake, rehearsal), keys) as url:
                yield url
        finally:
            press.stop()
    finally:
        memory.close()


@contextmanager
def _listening(port: int, service: Service, keys: Collection[str]) -> Iterator[str]:
    server = Server(port, service, keys)
    thread = threading.Thread(target=server.serve, name="local", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.close()
        thread.join()
