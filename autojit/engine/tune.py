"""Schedules that the estimates put level are put to the clock, on this machine, once.

In: a graph, and how it is scheduled for a target.  Out: the schedule that ran fastest; the disk cache remembers which.  Only
with `config.tune`: it compiles what is then thrown away, and holds the first call up.  Never changes what is computed, but for
the order of sums.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backends.cpu import byhand
from ..dtypes import FLOAT
from ..ir.graph import Graph
from ..schedule.cost import Ballot, Target
from . import events, kernels

TRIALS = 6                         # schedules that are timed
SECONDS = 0.02                     # time for each
BETTER = 0.97                      # what is not clearly faster is not taken

Votes = tuple[int, ...]


def tuned(graph: Graph, stages: Callable[[Graph, Target], Any], clock: Callable[[Any], float] | None = None,
          cache: Any = None) -> Any:
    """What `stages` prepares for the best votes.  `clock`: seconds of a prepared program; `cache`: get and put of bytes."""
    clock = measured if clock is None else clock
    cache = kernels.disk() if cache is None else cache
    ballot = Ballot()
    first = stages(graph, Target(ballot=ballot, byhand=byhand.form))
    if max(ballot.near, default=1) < 2:
        return first
    key = _key(first)
    known = cache.get("tune", key)
    if known is not None:
        votes: Votes = tuple(known)
    else:
        votes = _winner(ballot.near, lambda v: clock(_voted(graph, stages, v)))
        cache.put("tune", key, bytes(votes))
    events.log(1, "tuned", votes)
    return _voted(graph, stages, votes) if any(votes) else first


def _voted(graph: Graph, stages: Callable[[Graph, Target], Any], votes: Votes) -> Any:
    return stages(graph, Target(ballot=Ballot(votes), byhand=byhand.form))


def _key(prepared: Any) -> str:
    """What the first schedule is: its kernels, their numbers and the threads that run them."""
    from ..config import config

    said = repr((config.num_threads, [(prepared.emitted[k].text, prepared.emitted[k].table) for k in sorted(prepared.emitted)]))
    return hashlib.sha256(said.encode()).hexdigest()


def _winner(near: Sequence[int], seconds: Callable[[Votes], float]) -> Votes:
    """Decision by decision, each with the best choices so far in the others."""
    best: Votes = (0,) * len(near)
    record, trials = seconds(best), 1
    for i, choices in enumerate(near):
        for k in range(1, choices):
            if trials == TRIALS:
                return best
            votes = (*best[:i], k, *best[i + 1:])
            took, trials = seconds(votes), trials + 1
            if took < BETTER * record:
                best, record = votes, took
    return best


def measured(prepared: Any) -> float:
    """The shortest of some runs on made-up arrays."""
    native = prepared.link()
    rng = np.random.default_rng(0)
    arrays = []
    for n in prepared.graph.inputs:
        a = np.zeros(n.shape, n.dtype.np)                   # integers may be places
        if n.dtype.category == FLOAT:
            a[...] = rng.standard_normal(n.shape)
        arrays.append(a)
    native(arrays)
    best, end = float("inf"), time.perf_counter() + SECONDS
    while True:
        start = time.perf_counter()
        native(arrays)
        now = time.perf_counter()
        best = min(best, now - start)
        if now > end:
            return best
