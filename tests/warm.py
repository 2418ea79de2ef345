"""What every run needs and takes a while to build: loaded once by the process that children are forked from."""

from __future__ import annotations

import google.genai
import httpx2
from google.genai import types
from pydantic import BaseModel

import pipeline.cli.spending
import pipeline.pixels
import pipeline.reconcile
from pipeline.gemini.api import Api, Secret
from pipeline.job import schema

__all__ = ["google", "httpx2", "pipeline"]

for _name, _kind in vars(types).items():
    if isinstance(_kind, type) and issubclass(_kind, BaseModel) and any(word in _name for word in ("Batch", "File")):
        _kind.model_rebuild()
schema._validator()
Api(Secret("a-key-of-the-forkserver"), "http://127.0.0.1:1").close()
