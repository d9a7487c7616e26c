"""Steps that are no loop nest, as kernels written by hand: scans, sorting, places that are data.

In: a step of a schedule.  Out: its launches, in order, and the areas that these share.  Deterministic: the order of every
float operation depends on sizes alone, never on the card.  Never compiles or runs anything.
"""

from __future__ import annotations

from ...schedule.loops import DeviceStep, ScanStep, ScatterStep, Schedule, SetStep, SortStep
from .emitted import Launches
from .handwritten import Text, Writer, whole
from .placing import Scatter, Set
from .scans import Scan
from .sorting import Sort, key_dtype


def launches(step: DeviceStep, schedule: Schedule, k: int) -> Launches:
    """Step k of a schedule.  Areas are the step's own: they need no contents before it and have none after it.

    >>> from autojit.dtypes import float32
    >>> from autojit.schedule.loops import Buffer
    >>> buffers = {n: Buffer(n, kind, float32, 600) for n, kind in (("a", "input"), ("b", "output"))}
    >>> plan = Schedule([ScanStep("cumsum", "a", "b", 2, 300, 1)], buffers, ["a"], ["b"], [])
    >>> [(e.signature, e.blocks, e.threads) for e in launches(plan.steps[0], plan, 0).launches]
    [(('*f32', '*f32', 'ix', 'ix', 'ix'), 2, 256)]
    """
    w = Writer(schedule, f"s{k}_")
    if isinstance(step, ScanStep):
        Scan(w, step.op, w.buffer(step.source), w.buffer(step.output), step.outer, step.n, step.inner)
    elif isinstance(step, SortStep):
        _sorted(w, step)
    elif isinstance(step, ScatterStep):
        Scatter(w, step)
    else:
        assert isinstance(step, SetStep)
        Set(w, step)
    return w.done()


def _sorted(w: Writer, step: SortStep) -> None:
    """Sort the rows, then put keys or places where the output has them."""
    source, output = w.buffer(step.source), w.buffer(step.output)
    inner, n, rows = step.inner, step.n, step.outer * step.inner

    def load(t: Text, row: str, at: str) -> list[str]:
        length, step_ = t.size(n, "length"), t.size(inner, "inner")
        place = f"({row} // {step_} * {length} + {at}) * {step_} + {row} % {step_}"
        return [f"key = {whole(source.dtype, f'{t.at(source)}[{place}]')}"]

    sort = Sort(w, key_dtype(source.dtype), rows, n, load, step.descending)
    t = Text(w)
    t.turns("u", rows * n)
    length, beside = t.size(n, "length"), t.size(inner, "inner")
    found = f"{t.at(sort.places if step.places else sort.keys)}[(o * {beside} + q) * {length} + i]"
    if not step.places and source.dtype.code == "b1":
        found = f"{found} != to_i64(0)"
    t.add(f"q = u % {beside}", f"i = u // {beside} % {length}", f"o = u // {beside} // {length}",
          f"{t.at(output)}[u] = {found}")
    t.over(rows * n)
