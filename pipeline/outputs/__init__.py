"""What a job leaves behind: its files (`tree`), the text beside images (`page`), the output manifest, the sidecars."""

from __future__ import annotations

from pipeline.outputs import page
from pipeline.outputs.manifest import MANIFEST, TABLE, read_manifest, recorded, write_manifest
from pipeline.outputs.sidecars import is_sidecar, sidecar_of, write_sidecars
from pipeline.outputs.tree import File, Tree, base_of, pointer

__all__ = [
    "MANIFEST", "TABLE", "File", "Tree", "base_of", "is_sidecar", "page", "pointer", "read_manifest", "recorded",
    "sidecar_of", "write_manifest", "write_sidecars",
]  # fmt: skip
