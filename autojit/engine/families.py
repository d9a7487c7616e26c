"""Graphs that differ in one size: two sizes tell what they have in common, and then one of each class what its plans have.

In: graphs on their way to native code, and the programs that came of them.  Out: `find`, a native program made from a form,
and `learn`.  A family is a guess (which numbers follow the size, and how) that each member must confirm: a graph belongs to
it only if all its numbers are those that the family has for its size.  So a member *is* the family's graph of that size, and
its plan is the form's, fitted through plans that were really made, at both ends of the class and between.
Never compiles: a class within which kernels differ has no form, and its members go the long way.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backends.cpu.instance import Form, NoForm, Sample, difference
from ..backends.cpu.link import NativeProgram
from ..backends.cpu.series import LEAST
from ..config import config
from ..dtypes import FLOAT, memory
from ..errors import VerifyError
from ..ir.aval import Aval
from ..ir.graph import Graph
from ..ir.outline import Outline, outline, rebuilt
from . import events

KEPT = 256                                                # outlines that are remembered
LONGEST = 4000                                            # nodes: a form costs four schedules
RECORDS = 6                                               # programs of one outline, and families, that are remembered
GUESSES = 8                                               # families of one outline that are tried
_lock = threading.RLock()
Law = tuple[int, int, int]                                # constant, slope, curvature
Prepare = Callable[[Graph], Any]                          # the stages: `compile.prepare`


def class_of(n: int) -> int:
    """The power of two at which the class of a size ends: 9 to 16, 17 to 32, 33 to 64 ..."""
    return 1 << (n - 1).bit_length()


def least_of(c: int) -> int:
    """The least size of a class."""
    return c // 2 + 1


class Record:
    """A program that was made the long way: its graph without data, and what a form needs of its plan."""

    __slots__ = ("graph", "line", "sample", "texts")

    def __init__(self, graph: Graph, native: NativeProgram, texts: Sequence[str]) -> None:
        self.line = outline(graph)
        bare = all([i.op == "placeholder" for i in graph.inputs])
        self.graph = graph if bare else rebuilt(graph, self.line.ints, [v for v, _ in self.line.floats])
        self.sample, self.texts = Sample(native), frozenset(texts)


class Laws:
    """How the numbers of an outline follow one size, the `where`-th of its integers."""

    __slots__ = ("where", "base", "slope", "curve", "floats")

    def __init__(self, where: int, laws: Sequence[Law], floats: list[tuple[Any, Any]]) -> None:
        self.where, self.floats = where, floats
        self.base, self.slope, self.curve = (np.array([w[k] for w in laws], np.int64) for k in range(3))

    def ints(self, n: int) -> np.ndarray:
        return self.base + (self.slope + self.curve * n) * n

    def numbers(self, n: int) -> list[Any]:
        """The floating constants at size n."""
        return [law(n) if callable(law) else law for law, _ in self.floats]

    def moving(self, n: int) -> list[Any]:
        """The floating constants that vary, and one by each."""
        found = [law(n) for law, _ in self.floats if callable(law)]
        with np.errstate(all="ignore"):
            return [*found, *[type(v)(1) / v for v in found]]

    def meets(self, n: int) -> bool:
        """Is the size by chance another number of the graph?  The two then share a slot, and the kernels are other texts."""
        return bool(((self.base == n) & (self.slope == 0) & (self.curve == 0)).any())

    def size(self, line: Outline) -> int | None:
        """The size at which this graph is a member, or None."""
        n = line.ints[self.where]
        if n < 2 or not np.array_equal(self.ints(n), line.ints):
            return None
        for (law, _), (value, _) in zip(self.floats, line.floats):
            if (law(n) if callable(law) else law).tobytes() != value.tobytes():
                return None
        return n


class Family:
    """Graphs of one outline over one varying size.  `forms`: by class, the form or why there is none."""

    __slots__ = ("graph", "laws", "forms", "samples", "members")

    def __init__(self, graph: Graph, laws: Laws) -> None:
        self.graph, self.laws = graph, laws
        self.forms: dict[int, Any] = {}
        self.samples: dict[int, dict[int, Record]] = {}
        self.members: set[int] = set()                    # sizes whose programs were made the long way

    def member(self, n: int) -> Graph:
        return rebuilt(self.graph, self.laws.ints(n).tolist(), self.laws.numbers(n))

    def make(self, n: int, outputs: Sequence[Aval]) -> NativeProgram | None:
        """The member of size n as a native program, if its class has a form."""
        form = self.forms.get(class_of(n))
        return None if form is None or type(form) is str else form.make(n, self.laws.moving(n), outputs)


class _Kin:
    """What is known of one outline."""

    __slots__ = ("records", "families", "left")

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.families: list[Family] = []
        self.left = GUESSES


_KIN: OrderedDict[Any, _Kin] = OrderedDict()


def find(graph: Graph, prepare: Prepare) -> NativeProgram | None:
    """The native program of a member of a family with a form; None for any other graph.  `prepare` is the long way."""
    line = outline(graph)
    kin = _KIN.get(line.key)
    if kin is None:
        return None
    for f in kin.families:
        n = f.laws.size(line)
        if n is not None:
            native = f.make(n, [o.aval for o in graph.outputs])
            if native is not None:
                if config.forms > 1:
                    checked(graph, prepare, native, n)
                return native
    return None


def told(line: Outline) -> str:
    """What is known of the sizes of a graph with this outline, for people."""
    kin = _KIN.get(line.key)
    f = None if kin is None else family_of(line)
    if kin is None or f is None:
        return "one size seen, or sizes of which no two differ in one number alone" if kin else "nothing known of other sizes"
    n = line.ints[f.laws.where]
    c = class_of(n)
    found = f.forms.get(c, "its first member")
    return f"sizes {least_of(c)} to {c}, of which {n} is one: " + (
        f"each is scheduled by itself ({found})" if type(found) is str else "of one form, nothing is scheduled for a new one")


def family_of(line: Outline) -> Family | None:
    """The family of a graph with this outline."""
    kin = _KIN.get(line.key)
    return None if kin is None else next((f for f in kin.families if f.laws.size(line) is not None), None)


def checked(graph: Graph, prepare: Prepare, native: NativeProgram, n: int) -> None:
    """The form's program held against the long way's: AUTOJIT_FORMS=2.  The plans are the same, or, where a size is equal to
    another number by chance and shares its slot in the kernels, their results are, bit for bit."""
    wanted = prepare(graph).link()
    found = difference(native, wanted)
    if found is not None and not (outline(graph).ints.count(n) and _same_bits(graph, native, wanted)):
        raise VerifyError(f"a program of size {n} that was made from a form is wrong: {found}")


def _same_bits(graph: Graph, a: NativeProgram, b: NativeProgram) -> bool:
    """Do two programs give the same bits for some inputs?"""
    rng = np.random.default_rng(0)
    arrays = []
    for i in graph.inputs:
        values = rng.random(i.aval.shape) if i.aval.dtype.category == FLOAT else np.zeros(i.aval.shape)
        arrays.append(memory(values, i.aval.dtype))
    return all([x.tobytes() == y.tobytes() for x, y in zip(a(arrays), b(arrays))])


def learn(graph: Graph, native: NativeProgram, texts: Sequence[str], prepare: Prepare) -> None:
    """Remember a program that was made the long way; find the family, and the form of its class."""
    if len(graph.order) > LONGEST:
        return
    record = Record(graph, native, texts)
    line = record.line
    if not _lock.acquire(blocking=False):                 # another thread learns: this program need not be among the samples
        return
    try:
        kin = _KIN.setdefault(line.key, _Kin())
        _KIN.move_to_end(line.key)
        while len(_KIN) > KEPT:
            _KIN.popitem(last=False)
        known = [(f, n) for f in kin.families for n in [f.laws.size(line)] if n is not None]
        if not known and kin.left:
            for other in kin.records:
                f = _related(other, record)
                if f is not None:
                    kin.left -= 1
                    kin.families = [f, *kin.families[:RECORDS - 1]]
                    _sample(f, other, prepare)
                    known = [(f, line.ints[f.laws.where])]
                    break
        kin.records = [record, *kin.records[:RECORDS - 1]]
        for f, _ in known[:1]:
            _sample(f, record, prepare)
    finally:
        _lock.release()


def _sample(f: Family, record: Record, prepare: Prepare) -> None:
    """One more program of a class.  Its form is made with the first member that was not among those that made the family."""
    n = record.line.ints[f.laws.where]
    c = class_of(n)
    f.members.add(n)
    if n == c:                                            # no example for others: see `_form`
        return
    samples = f.samples.setdefault(c, {})
    samples[n] = record
    if (len(samples) > 1 or len(f.members) > 2) and c not in f.forms:
        form = _form(f, c, samples, prepare)
        events.log(1, "form", f"of sizes {least_of(c)} to {c}: {form if type(form) is str else 'found'}")
        if type(form) is not str or not all([f.laws.meets(k) for k in samples]):    # else another member may do better
            f.forms[c] = form
            f.samples[c] = {n: record}


def _form(f: Family, c: int, samples: dict[int, Record], prepare: Prepare) -> Any:
    """The form of a class, or why there is none."""
    least, greatest = least_of(c), c
    if greatest - least < LEAST - 1:
        return "too few sizes"
    if len({r.texts for r in samples.values()}) > 1:
        samples = {n: r for n, r in samples.items() if not f.laws.meets(n)}
        if len({r.texts for r in samples.values()}) != 1:
            return "its members have other kernels"
    made = {n: r.sample for n, r in samples.items()}
    texts = next(iter(samples.values())).texts
    for n in (greatest, greatest - 1, least, least + 1, *_between(least, greatest)):
        if n in made or n == greatest - 1 and greatest in made or n == least + 1 and least in made:
            continue
        found = _made(prepare, f, n, texts)
        if type(found) is not str:
            made[n] = found
        elif n != greatest and not f.laws.meets(n):       # x / 64 is another program than x / 63: a product, and exact
            return found
    if len(made) < LEAST:
        return "too few sizes"
    sizes = sorted(made)
    try:
        return Form(sizes, [made[n] for n in sizes], list(zip(*[f.laws.moving(n) for n in sizes])))
    except (NoForm, OverflowError) as e:
        return str(e)


def _made(prepare: Prepare, f: Family, n: int, texts: frozenset[str]) -> Any:
    """The sample of size n, or why it is none: it must consist of these kernels."""
    try:
        graph = f.member(n)
        if any([extent < 1 for i in graph.inputs for extent in i.aval.shape]):
            return f"there is no member of size {n}: its arguments would be empty"
        prepared = prepare(graph)
        return Sample(prepared.link()) if texts == frozenset(prepared.texts) else f"other kernels for size {n}"
    except (RuntimeError, ValueError, TypeError, IndexError, VerifyError) as e:
        return f"there is no member of size {n}: {e}"


def _between(least: int, greatest: int) -> list[int]:
    """Odd sizes in the middle, without structure of their own."""
    span = greatest - least
    return sorted({least + span * 2 // 5 | 1, least + span * 7 // 10 | 1} - {greatest + 1})


# ------------------------------------------------------------------------------------------------ guesses
def _related(a: Record, b: Record) -> Family | None:
    laws = between(a.line, b.line, sum([len(i.aval.shape) for i in a.graph.inputs]))
    return None if laws is None else Family(b.graph, laws)


def between(a: Outline, b: Outline, inputs: int) -> Laws | None:
    """The laws of two outlines of one key that differ in one size of the inputs: among their first `inputs` integers."""
    x, y = a.ints, b.ints
    where = next((k for k, (i, j) in enumerate(zip(x, y)) if i != j), inputs)
    if where >= inputs:
        return None
    m, n = x[where], y[where]
    if not m or not n:
        return None                                       # what is empty tells nothing of what is not
    laws: list[Law] = []
    for k, (i, j) in enumerate(zip(x, y)):
        law = law_of(m, i, n, j)
        if law is None or k < inputs and law[0] and law[1] not in (0, 1):
            return None                                   # an input of 188 - 3n rows: two sizes that have nothing in common
        laws.append(law)
    floats: list[tuple[Any, Any]] = []
    for (u, d), (v, _) in zip(a.floats, b.floats):
        found = u if u.tobytes() == v.tobytes() else _float_law(m, u, n, v, d.number)
        if found is None:
            return None
        floats.append((found, d))
    return Laws(where, laws, floats)


def law_of(m: int, i: int, n: int, j: int) -> Law | None:
    """The simplest polynomial that is i at m and j at n."""
    if i == j:
        return i, 0, 0
    if i * n == j * m and i % m == 0:
        return 0, i // m, 0
    if i * n * n == j * m * m and i % (m * m) == 0:
        return 0, 0, i // (m * m)
    slope, r = divmod(j - i, n - m)
    return None if r else (i - slope * m, slope, 0)


_FACTORS = (1, -1, 2, -2, 4, -4, 3, -3, 0.5, -0.5)


def _float_law(m: int, u: Any, n: int, v: Any, kind: Any) -> Callable[[int], Any] | None:
    """The simplest function that is exactly u at m and v at n: a small factor times a whole number that follows the size, or
    divided by such."""
    for turned in (False, True):
        for c in _FACTORS:
            with np.errstate(all="ignore"):
                p, q = (c / float(u), c / float(v)) if turned else (float(u) / c, float(v) / c)
            if not (np.isfinite(p) and np.isfinite(q)) or max(abs(p), abs(q)) > 2 ** 53:
                continue
            law = law_of(m, round(p), n, round(q))
            if law is not None:
                f = _quotient(law, kind, kind(c)) if turned else _multiple(law, kind, kind(c))
                if f(m).tobytes() == u.tobytes() and f(n).tobytes() == v.tobytes():
                    return f
    return None


def _multiple(law: Law, kind: Any, factor: Any) -> Callable[[int], Any]:
    a, b, c = law
    return lambda n: kind(factor * kind(a + (b + c * n) * n))


def _quotient(law: Law, kind: Any, factor: Any) -> Callable[[int], Any]:
    a, b, c = law

    def at(n: int) -> Any:
        with np.errstate(all="ignore"):                   # the law of a size that is no member may be 0 there
            return kind(factor / kind(a + (b + c * n) * n))
    return at


def clear() -> None:
    """Forget all families: for tests."""
    with _lock:
        _KIN.clear()
