"""The debug ladder: AUTOJIT_DEBUG=1 events, 2 kernels with times, 3 graphs, 4 kernel source, 5 rewrites.

In: a level, a word and a value.  Out: lines on stderr.  Costs nothing where nobody reads.
"""

from __future__ import annotations

import sys
from typing import Any

from ..config import config
from ..ir.graph import Graph
from ..ir.text import graph_text


def log(level: int, what: str, value: Any) -> None:
    """Note an event; values are turned to text only if somebody will read them."""
    if config.debug >= level:
        text = graph_text(value) if isinstance(value, Graph) else str(value)
        lead = "\n" if "\n" in text else " "
        print(f"autojit {what}:{lead}{text}", file=sys.stderr)
