"""Short names for content: the same settings and inputs give the same digest, anything else another."""

import hashlib
import json
from typing import Any


def hash_json(content: Any, length: int = 16) -> str:
    """Return the first ``length`` hex digits of the SHA-256 of ``content`` as canonical JSON.

    Args:
        content: anything JSON can hold; keys are sorted, so their order does not matter.
        length: number of hex digits, at most 64.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
