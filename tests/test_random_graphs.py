"""Random graphs find what nobody thought of: simplified = as written."""

from __future__ import annotations

import pytest

from autojit.backends.numpy.run import NumpyProgram
from autojit.ir.graph import forget
from autojit.ir.verify import verify_graph
from autojit.rewrite.simplify import simplify

from .graphs import agree, random_graph


@pytest.mark.parametrize("block", range(10))
def test_simplified_equals_as_written(block):
    for seed in range(block * 60, block * 60 + 60):
        graph, arrays = random_graph(seed)
        verify_graph(graph, "random")
        simple = simplify(graph)
        verify_graph(simple, "simplify")
        difference = agree(NumpyProgram(simple)(arrays), NumpyProgram(graph)(arrays), rtol=1e-5, atol=1e-5)
        assert difference is None, f"seed {seed}: {difference}"
        forget()
