"""Short keys for content, such as the names of cached results."""

import hashlib
import json
from typing import Any


def hash_json(content: Any, length: int = 16) -> str:
    """Return the first ``length`` hex digits, at most 64, of the SHA-256 of ``content`` as canonical JSON.

    Args:
        content: anything JSON can hold; the order of keys does not matter.
        length: number of hex digits.

    Raises:
        ValueError: for NaN or infinity, which are not JSON.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
