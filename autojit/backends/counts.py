"""What the reference count of an object is that nobody but a list of ours holds.

In: nothing.  Out: `ALONE`, for pools that take memory back when users have let go of it.
"""

from __future__ import annotations

import sys


def _alone() -> int:
    """The count as a loop over that list sees it: Python versions differ."""
    found = 0
    for a in [object()]:
        found = sys.getrefcount(a)
    return found


ALONE = _alone()
