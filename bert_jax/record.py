"""A record of a data set; apart from `types`, for what works without jax."""

from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]
"""What a `Source` yields: a plain mapping of named fields."""
