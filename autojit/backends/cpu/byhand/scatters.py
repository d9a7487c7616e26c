"""Writing and folding at places that are data, as kernels.

In: a `Form`.  Out: its kernels: the first operand copied, then elements put in order of their number, so that of equal places
the last one wins and folds go one after the other whatever runs it.  What lies beside the axis goes to threads.  A place that
is not in the array is left out (whoever calls has checked them).
"""

from __future__ import annotations

from collections.abc import Sequence

from ....dtypes import BOOL, FLOAT
from . import Form, around, chunk_rows, chunks, product, usual

WIDE = 1024                        # elements beside the axis that are written side by side


def index_set(f: Form) -> None:
    """Slices of an axis written at the places the second operand names."""
    axis, shape = f.params[0], f.out.shape
    _copied(f)
    _placed(f, axis, f.avals[1].size, shape[:axis], shape[axis + 1:], "idx[t]", "v")


def scatter_set(f: Form) -> None:
    """Elements written along an axis, each at a place of its own."""
    _copied(f)
    _elements(f, "v")


def scatter_fold(f: Form) -> None:
    """Elements folded in by max, min or mul."""
    d, how = f.out.dtype, f.params[1]
    if d.half:
        return
    kind = d.code if d.category == FLOAT else "i64"
    _copied(f)
    if d.category == BOOL:
        _elements(f, "y[to] | v" if how == "max" else "y[to] & v")
    elif how == "mul":
        _elements(f, "y[to] * v" if d.category == FLOAT else "mul_i64(y[to], v)")
    else:
        _elements(f, f"{'maximum' if how == 'max' else 'minimum'}_{kind}(y[to], v)")


def _copied(f: Form) -> None:
    n = f.out.size
    f.kernel("    for i in range(lo, hi):\n        y[i] = x[i]\n", {"x": "in0", "y": "out"}, {}, n, chunks(n, 1))


def _elements(f: Form, value: str) -> None:
    axis, shape = f.params[0], f.avals[1].shape
    _placed(f, axis, shape[axis], shape[:axis], shape[axis + 1:], "idx[at]", value)


def _placed(f: Form, axis: int, m: int, before: Sequence[int], after: Sequence[int], index: str, value: str) -> None:
    """For each t < m in order: the elements whose other coordinates are less than `before` and `after`, each to the place along
    the axis that `index` says."""
    _, n, inner = around(f.out.shape, axis)
    width = product(after)
    groups = -(-width // WIDE)
    rows = product(before) * groups
    sizes = {"m": m, "n": n, "inner": inner, "width": width, "groups": groups}
    outside = _place("row", "start", _strided(before, f.out.shape[:axis], n * inner), sizes)
    inside = _place("q", "far", _strided(after, f.out.shape[axis + 1:], 1), sizes)
    put = ["at = (row * m + t) * width + q", f"k = {index}", "if k >= 0 and k < n:", *[f"    {line}" for line in inside],
           "    to = start + k * inner + far", "    v = z[at]", f"    y[to] = {value}"]
    head = "q = 0" if width == 1 else f"for q in range(left, minimum_i64(left + {WIDE}, width)):"
    lines = [*outside, "for t in range(m):", f"    {head}", *[" " * (4 if width == 1 else 8) + line for line in put]]
    f.kernel(f"""
    for i in range(lo, hi):
        row = index_div(i, groups)
        left = index_mod(i, groups) * {WIDE}
""" + "\n".join(" " * 8 + line for line in lines), {"idx": "in1", "z": "in2", "y": "out"}, sizes, rows,
             chunk_rows(rows, 2.0 * usual(m) * min(usual(width), WIDE)))


def _strided(extents: Sequence[int], shape: Sequence[int], inner: int) -> list[tuple[int, int]]:
    """(extent, stride) of the first so many places along each dimension of an array of this shape, `inner` elements apart at
    the last one; dimensions that are counted through as one are one."""
    out: list[tuple[int, int]] = []
    for k, extent in enumerate(extents):
        stride = product(shape[k + 1:]) * inner
        if extent != 1:
            if out and out[-1][1] == extent * stride:
                out[-1] = (out[-1][0] * extent, stride)
            else:
                out.append((extent, stride))
    return out


def _place(flat: str, name: str, dims: Sequence[tuple[int, int]], sizes: dict[str, int]) -> list[str]:
    """Lines that make the place of element number `flat` of these dimensions; their extents and strides go among the sizes."""
    lines, rest, terms = [], flat, []
    for k in reversed(range(len(dims))):
        extent, stride = f"{flat}_extent{k}", f"{flat}_stride{k}"
        sizes[stride] = dims[k][1]
        if k:
            sizes[extent] = dims[k][0]
            lines += [f"{name}{k} = index_mod({rest}, {extent})", f"{name}_rest{k} = index_div({rest}, {extent})"]
            terms.append(f"{name}{k} * {stride}")
            rest = f"{name}_rest{k}"
        else:
            terms.append(f"{rest} * {stride}")
    return [*lines, f"{name} = {' + '.join(terms) or '0'}"]
