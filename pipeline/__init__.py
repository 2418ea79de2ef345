"""Images in bulk, overnight, with Gemini's image models.

    manifest ─▶ items ─▶ requests ─▶ plan ─▶ JSONL ─▶ batches
                                                        │
    outputs/<job>/ ◀─ records ◀─ images verified ◀─ answers

The data goes one way: `job` reads what a person wrote and yields requests; `plan` compares them with what the
`journal` and the output manifest know; `batchfile` writes the missing ones as JSONL; `reconcile` sends, polls and
collects; `unpack` turns answers into verified files; `outputs` publishes the records; `leftovers` knows what can be
cleared away. `workers` prints the lines of a large catalog in several processes, `seen` says whether files are as they
were, and `rest` remembers what a job was compared with when there was nothing to do, or only some rows were under way.
`gemini` is all that knows the service, `durable` the only place that writes files, `cli` the only place that prints,
`local` a service of our own that shares no code with any of it.
"""

__version__ = "0.1.0"
