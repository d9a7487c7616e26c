"""`python -m autojit.testing --against torch`: a table of what agrees with PyTorch, family by family.

In: the command line.  Out: the exit status, 0 where all agree.  The samples are those of the tests: it runs in a checkout.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser("python -m autojit.testing", description=main.__doc__)
    parser.add_argument("--against", choices=["torch"], required=True, help="whose values and gradients to compare with")
    parser.add_argument("--family", help="one family of ops only: losses, reductions ... (the files of autojit/ops)")
    given = parser.parse_args(arguments)
    for needed, hint in (("torch", "install torch (the extra `peers`)"),
                         ("tests.oplist", "run it at the top of a checkout, with the extra `test`: the samples lie in tests/")):
        try:
            importlib.import_module(needed)
        except ModuleNotFoundError as e:
            print(f"no module {e.name}: {hint}")
            return 2
    return int(importlib.import_module("tests.against").main(given.family))
