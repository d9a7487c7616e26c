"""The loop IR: a schedule is data that a backend emits and a runner executes.

In: nothing but the records themselves.  Out: `Kernel` (a nest of loops over statements), the steps of a program and the
buffers they share.  Indices are affine over loop variables and named integers; every access keeps its index by dimension.
Never knows which backend will read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..dtypes import DType
from ..ir.primitive import Primitive
from .index import Range


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory by name.  kind: input, output, temp (between steps), scratch (a chunk's own), part (a chunk's share of a
    reduction).  size: elements; for per_chunk ones of one chunk, with room so that two chunks never share a line."""

    name: str
    kind: str
    dtype: DType
    size: int
    per_chunk: bool = False


# ------------------------------------------------------------------------------------------------ statements
# A statement is never changed once it is made.  (The frozen records of `dataclasses` take thrice as long to make.)
@dataclass(slots=True, unsafe_hash=True)
class Const:
    """A literal operand, or a slot of the table if it is no special number."""

    value: Any
    dtype: DType


Operand = str | Const


@dataclass(slots=True, unsafe_hash=True)
class Index:
    """const + sum of coefficient * (loop variable or named integer)."""

    const: int
    terms: tuple[tuple[Range | str, int], ...]


@dataclass(slots=True, unsafe_hash=True)
class At:
    """A place in a buffer, by dimension: row-major over `shape`, in this chunk's area of a per_chunk buffer unless `whole`.
    `run`: a range of `index` counts from the run's first row."""

    buffer: Buffer
    index: tuple[Index, ...]
    shape: tuple[int, ...]
    run: Range | None = None
    whole: bool = False


@dataclass(slots=True, unsafe_hash=True)
class Condition:
    """index >= 0, or, with a step, index divisible by it."""

    index: Index
    step: int = 0


@dataclass(slots=True, unsafe_hash=True)
class Let:
    """name := op(args).  Ops beside the elementwise primitives: load (params: At, conditions; 0 where they fail), index
    (params: Index), inside (params: conditions), index_div /
    index_mod / index_clamp (params: Index, divisor)."""

    name: str
    op: str
    dtype: DType
    args: tuple[Operand, ...] = ()
    params: tuple[Any, ...] = ()


@dataclass(slots=True, unsafe_hash=True)
class Init:
    """name := the identity of a reduction: an accumulator in a register."""

    name: str
    op: str
    dtype: DType


@dataclass(slots=True, unsafe_hash=True)
class Accumulate:
    """name := op(name, value); the order of terms is free."""

    name: str
    op: str
    dtype: DType
    value: Operand


@dataclass(slots=True, unsafe_hash=True)
class Begin:
    """name := value: a register that a loop carries from turn to turn; it may be read after the loop."""

    name: str
    dtype: DType
    value: Operand


@dataclass(slots=True, unsafe_hash=True)
class Next:
    """The value of a carried register for the next turn; stands at the end of the loop's body."""

    name: str
    dtype: DType
    value: Operand


@dataclass(slots=True, unsafe_hash=True)
class Store:
    """Memory := value, or := op(memory, value)."""

    at: At
    value: Operand
    op: str | None = None


@dataclass(slots=True, unsafe_hash=True)
class Loop:
    """A loop over a range.  span: all (0 to its extent), chunk (the kernel's lo to hi), run (the rows of the current run).
    `split`: its conditions hold for most turns, which are to run without them."""

    range: Range
    body: tuple[Any, ...]
    span: str = "all"
    split: bool = False


@dataclass(slots=True, unsafe_hash=True)
class Run:
    """A range, or the chunk's part of it (`span` as for loops), in runs of `length`: the body's loops of span run go over
    one run."""

    range: Range
    length: int
    body: tuple[Any, ...]
    span: str = "chunk"


@dataclass(frozen=True, slots=True)
class Kernel:
    """kernel(args, lo, hi, chunk).  `parallel`: the range that is cut into chunks; None: the kernel runs once."""

    body: tuple[Any, ...]
    parallel: Range | None = None


def conditions(body: Sequence[Any], r: Range) -> list[Condition]:
    """The conditions of the loads and tests in a loop over r that its turns can be parted by: bounds of r, or of the loops
    outside."""
    out: list[Condition] = []
    for s in body:
        if type(s) is Let:
            found = s.params[1] if s.op == "load" else s.params if s.op == "inside" else ()
            out += [c for c in found if parting(c, r)]
    return out


def parting(c: Condition, r: Range) -> bool:
    """Is it a bound of r, or does it not depend on r, nor on data?"""
    return not c.step and all([type(t) is Range and (t is not r or abs(int(k)) == 1) for t, k in c.index.terms])


def written(body: Sequence[Any]) -> set[str]:
    """Names of the buffers that a nest of statements stores to."""
    out: set[str] = set()
    for s in body:
        if type(s) is Loop or type(s) is Run:
            out |= written(s.body)
        elif type(s) is Store:
            out.add(s.at.buffer.name)
    return out


def names_read(s: Any) -> list[str]:
    """The names that a statement reads, those in its body included."""
    kind = type(s)
    if kind is Let:
        out = [a for a in s.args if a.__class__ is str]
        indices: Any = _indices(s) if s.op in _INDEXED else ()
    elif kind is Loop or kind is Run:
        return [name for q in s.body for name in names_read(q)]
    elif kind is Init:
        return []
    else:
        out = [s.value] if s.value.__class__ is str else []
        indices = s.at.index if kind is Store else ()
    for ix in indices:
        for t, _ in ix.terms:
            if t.__class__ is str:
                out.append(t)
    return out


_INDEXED = ("load", "index", "inside", "index_div", "index_mod", "index_clamp")


def _indices(s: Let) -> Sequence[Index]:
    if s.op == "load":
        at, guard = s.params
        return [*at.index, *[c.index for c in guard]] if guard else at.index  # type: ignore[no-any-return]
    if s.op == "inside":
        return [c.index for c in s.params]
    return [s.params[0]] if s.op == "index" or s.op.startswith("index_") else []


def renamed(s: Any, names: dict[str, str]) -> Any:
    """The statement with the names it reads replaced."""
    def index(ix: Index) -> Index:
        return Index(ix.const, tuple([(names.get(t, t) if isinstance(t, str) else t, c) for t, c in ix.terms]))

    def at(a: At) -> At:
        return replace(a, index=tuple([index(ix) for ix in a.index]))

    def word(a: Operand) -> Operand:
        return names.get(a, a) if isinstance(a, str) else a

    def tests(cs: tuple[Condition, ...]) -> tuple[Condition, ...]:
        return tuple([Condition(index(c.index), c.step) for c in cs])

    if isinstance(s, (Loop, Run)):
        return replace(s, body=tuple([renamed(q, names) for q in s.body]))
    if isinstance(s, Init):
        return s
    if isinstance(s, Store):
        return replace(s, at=at(s.at), value=word(s.value))
    if not isinstance(s, Let):
        return replace(s, value=word(s.value))
    params = s.params
    if s.op == "load":
        params = (at(params[0]), tests(params[1]))
    elif s.op == "inside":
        params = tests(params)
    elif s.op == "index" or s.op.startswith("index_"):
        params = (index(params[0]), *params[1:])
    return replace(s, args=tuple([word(a) for a in s.args]), params=params)


# ------------------------------------------------------------------------------------------------ steps
@dataclass(frozen=True, slots=True)
class KernelStep:
    """Run a kernel over n rows in `chunks` chunks (chunk c does n*c//chunks to n*(c+1)//chunks); 1 is serial.  `width`: how
    many threads of a GPU a row was thought to be for; 0 where that does not matter."""

    kernel: Kernel
    n: int
    chunks: int
    width: int = 0


@dataclass(frozen=True, slots=True)
class GemmStep:
    """Row-major c[i] := alpha * op(a[i]) @ op(b[i]) + beta * c[i] for `batch` matrices, `stride_*` elements apart, from
    element `offsets` = (a, b, c) of their buffers; all that `outer[0]` times, the rest of `outer` = (count, a, b, c) elements
    apart; lda, ldb, ldc: elements from row to row as stored.  `result`: the dtype of c, where it is not that of a and b."""

    dtype: DType
    trans_a: bool
    trans_b: bool
    m: int
    n: int
    k: int
    a: str
    lda: int
    b: str
    ldb: int
    c: str
    ldc: int
    batch: int = 1
    stride_a: int = 0
    stride_b: int = 0
    stride_c: int = 0
    offsets: tuple[int, int, int] = (0, 0, 0)
    alpha: float = 1.0
    beta: float = 0.0
    outer: tuple[int, int, int, int] = (1, 0, 0, 0)
    result: DType | None = None

    def shown(self) -> str:
        """The product as a person writes it, and its sizes."""
        count = self.batch * self.outer[0]
        return (f"{self.c} = {self.a}{'.T' * self.trans_a} @ {self.b}{'.T' * self.trans_b}  {self.m}x{self.n}x{self.k}"
                + f" batch {count}" * (count > 1))


@dataclass(frozen=True, slots=True)
class HostStep:
    """output := prim.ref(*inputs, *params), by NumPy between native steps; inputs are contiguous."""

    prim: Primitive
    inputs: tuple[str, ...]
    input_avals: tuple[Any, ...]
    output: str
    params: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class CallStep:
    """A kernel that a person wrote, run as kernels are: over n rows (or columns, pairs, matrices) in `chunks` chunks.  An
    operation is one such step or several.

    `host`: the whole operation by NumPy; `text`, `table`: the kernel and what it is given, as a backend emits them, buffers
    first; `writes`: the buffers that it stores to, the others it only reads.  `address`: of machine code that is there
    already, in place of a text."""

    host: HostStep
    text: str
    table: tuple[tuple[Any, ...], ...]
    writes: tuple[str, ...]
    n: int
    chunks: int
    address: int = 0

    @property
    def buffers(self) -> tuple[str, ...]:
        """The buffers of its table, in order."""
        return tuple([e[1] for e in self.table if e[0] == "buffer"])


@dataclass(frozen=True, slots=True)
class ControlStep:
    """A loop or a branch: `spec` says what it is (ops/grouped.py), `bodies` are schedules of its graphs."""

    spec: Any
    bodies: tuple[Schedule, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_avals: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class LoopStep(ControlStep):
    """Turn by turn: the body's steps run over the constants, the carries of the turn before and this turn's slices.  inputs: as
    the spec has them; outputs: last carries, then stacks."""


@dataclass(frozen=True, slots=True)
class BranchStep(ControlStep):
    """The steps of the first body if the first input is true, else those of the second; both write all outputs."""


@dataclass(frozen=True, slots=True)
class WhileStep(ControlStep):
    """Carries, turn by turn while the first body says so; the third puts them into the outputs."""


@dataclass(frozen=True, slots=True)
class CountedStep(ControlStep):
    """The body's steps, whose loops of SOME turns (ops/loops.py) have as many as the first input says.  What they stack lies in
    memory that is asked for when the number is known."""


CONTROL_OF: dict[str, type[ControlStep]] = {"scan": LoopStep, "branch": BranchStep, "while": WhileStep, "counted": CountedStep}


def hosted(steps: Sequence[Any]) -> bool:
    """Does any of these steps need NumPy?"""
    return any([isinstance(s, HostStep) or isinstance(s, ControlStep) and any([hosted(b.steps) for b in s.bodies])
                for s in steps])


# Steps that only schedules for GPUs have: nothing there runs by NumPy.  Arrays are seen as (outer, n, inner), the axis between.
@dataclass(frozen=True, slots=True)
class ScanStep:
    """output := the running `op` of the source along the axis.  op: cumsum, cumprod, logcumsumexp, or cummax and cummin, which
    give the place (int64) of the last extreme so far."""

    op: str
    source: str
    output: str
    outer: int
    n: int
    inner: int


@dataclass(frozen=True, slots=True)
class SortStep:
    """output := the source sorted along the axis, or with `places` where its elements stood (int64).  Stable, NaN largest."""

    source: str
    output: str
    outer: int
    n: int
    inner: int
    descending: bool
    places: bool


@dataclass(frozen=True, slots=True)
class PlacingStep:
    """values[o, t, q] go to output[o, key(t), q], for all o < outer, t < m, q < inner, where output is (outer, n, inner).

    key(t) is index[t]; with `dims` = ((extent, stride), ...), the extents of t's dimensions, it is the sum of coordinate *
    stride plus index[t] * `stride`.  What index[t] < 0 or >= `extent` names is left out."""

    index: str
    values: str
    output: str
    outer: int
    m: int
    n: int
    inner: int
    extent: int
    dims: tuple[tuple[int, int], ...] = ()
    stride: int = 1


@dataclass(frozen=True, slots=True)
class ScatterStep(PlacingStep):
    """They are added there; those of equal keys in an order that never changes."""


@dataclass(frozen=True, slots=True)
class SetStep(PlacingStep):
    """They are written there; of equal keys the last t wins."""


DeviceStep = ScanStep | SortStep | ScatterStep | SetStep


def touched(step: DeviceStep | ControlStep | CallStep) -> tuple[set[str], set[str]]:
    """The buffers that a step reads, and those that it writes."""
    if isinstance(step, CallStep):
        return set(step.buffers) - set(step.writes), set(step.writes)
    if isinstance(step, ControlStep):
        return set(step.inputs), set(step.outputs)
    if isinstance(step, (ScanStep, SortStep)):
        return {step.source}, {step.output}
    return {step.index, step.values, step.output}, {step.output}


@dataclass(slots=True)
class Schedule:
    """Steps in order over buffers; `inputs` and `outputs` name buffers in the graph's order.  `notes`: why things did not
    fuse, one line each."""

    steps: list[KernelStep | GemmStep | HostStep | CallStep | ControlStep | DeviceStep]
    buffers: dict[str, Buffer]
    inputs: list[str]
    outputs: list[str]
    notes: list[str]
