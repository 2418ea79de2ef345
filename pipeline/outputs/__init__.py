"""What a job leaves behind: files (`tree`), text beside images (`page`), the output manifest, sidecars, proofs.

And what the next turn of a conversation goes on from (`turns`).
"""

from __future__ import annotations

from pipeline.outputs import page
from pipeline.outputs.manifest import MANIFEST, TABLE, is_published, read_manifest, recorded, stands, write_manifest
from pipeline.outputs.proofs import PROOF, Proofs
from pipeline.outputs.sidecars import is_sidecar, sidecar_of, write_sidecars
from pipeline.outputs.tree import File, Tree, base_of, pointer
from pipeline.outputs.turns import Turns

__all__ = [
    "MANIFEST", "PROOF", "TABLE", "File", "Proofs", "Tree", "Turns", "base_of", "is_published", "is_sidecar", "page",
    "pointer", "read_manifest", "recorded", "sidecar_of", "stands", "write_manifest", "write_sidecars",
]  # fmt: skip
