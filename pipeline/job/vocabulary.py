"""What other tools call the keys of our language, so that whoever types their words is told ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

CALLED: Mapping[str, str] = {
    "aspect_ratio": "aspect", "ratio": "aspect", "resolution": "size", "image_size": "size", "quality": "size",
    "count": "samples", "n": "samples", "number": "samples", "repeat": "samples", "variants": "samples",
    "references": "images", "reference_images": "images", "refs": "images", "inputs": "images", "label": "as",
    "variables": "vars", "constants": "vars", "filter": "where", "only": "where", "if": "when", "columns": "rename",
    "catalog": "items", "rows": "items", "data": "items", "products": "items", "dedupe": "unique", "max_items": "limit",
    "name": "job", "id": "job", "base": "extends", "inherit": "extends", "include": "extends", "import": "extends",
    "axes": "matrix", "combinations": "matrix", "lookup": "tables", "rules": "overrides", "instructions": "system",
    "system_prompt": "system", "grounding": "search", "web_search": "search", "reasoning": "thinking",
    "modalities": "response", "max_tokens": "max_output_tokens", "safety_settings": "safety",
    "ttl": "max_age", "cost": "budget", "limits": "batch", "price": "budget", "max_cost": "budget",
    "conversation": "turns",
    "steps": "turns", "retries": "retry", "path": "output", "folder": "output", "file": "prompt", "text": "prompt",
}  # fmt: skip
"""Their word, and ours."""
INSTEAD: Mapping[str, str] = {
    "negative_prompt": "these models have none: say in the prompt what is there instead",
    "negative": "these models have none: say in the prompt what is there instead",
    "api_key": "a key never stands in a file: set GEMINI_API_KEY",
    "defaults": "settings for all items stand at the top; for some, in overrides",
    "width": "say aspect: 4:5 and size: 2K; `pipeline ls models` shows what there is",
    "height": "say aspect: 4:5 and size: 2K; `pipeline ls models` shows what there is",
    "output_dir": "where images go is said on the command line: --outputs DIR",
    "output_path": 'write output: {path: "…"}',
    "batch_size": "write batch: {max_requests: n}",
    "style": "a style is said in the prompt, or is a word of your own under vars",
}
"""What to do where there is no such key."""
