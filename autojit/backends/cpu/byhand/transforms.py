"""Discrete Fourier transforms as kernels.

In: a `Form` of `dft`, `rdft` or `irdft`.  Out: its kernels: roots of unity, then row after row.  A row of n = n1 * n2 is a
matrix: its columns are transformed and turned by roots, then the columns of the transposed result are transformed.  Blocks of
columns lie in the first cache, real and imaginary parts apart, and each stage (Stockham's, of radix 2 to 13) is a loop along
them.  The inverse is the transform with the parts exchanged.  A length with a larger prime factor has no kernel here.
The text names the radices, so that no two lengths next to each other have one form.
"""

from __future__ import annotations

import math

from . import Form, chunk_rows, product

RADICES = (4, 2, 3, 5, 7, 11, 13)
BLOCK = 4096                       # elements of a block of columns, as many as fit
PAD = 32


def dft(f: Form) -> None:
    """Of pairs."""
    inverse, scale = f.params
    n = f.out.shape[-2]
    load = """
                            at = 2 * (row * n + place)
                            ar[to + c] = x[at + first]
                            ai[to + c] = x[at + 1 - first]"""
    store = """
                        at = 2 * (row * n + place)
                        y[at + first] = ar[from_ + c] * scale
                        y[at + 1 - first] = ai[from_ + c] * scale"""
    _rows(f, product(f.out.shape[:-2]), n, scale, load, store, {"first": int(inverse)})


def rdft(f: Form) -> None:
    """Of real numbers: the first half."""
    n = f.avals[0].shape[-1]
    load = f"""
                            ar[to + c] = x[row * n + place]
                            ai[to + c] = {_number(f, 0.0)}"""
    store = """
                        if place < half:
                            at = 2 * (row * half + place)
                            y[at] = ar[from_ + c] * scale
                            y[at + 1] = ai[from_ + c] * scale"""
    _rows(f, product(f.out.shape[:-2]), n, f.params[0], load, store, {"half": n // 2 + 1})


def irdft(f: Form) -> None:
    """Of half a spectrum, inversely: real numbers."""
    n, scale = f.params
    load = f"""
                            j = select(place < half, place, n - place)
                            at = 2 * (row * half + j)
                            v = select(place < half, x[at + 1], -x[at + 1])
                            ar[to + c] = select(j == 0, {_number(f, 0.0)}, select(2 * j == n, {_number(f, 0.0)}, v))
                            ai[to + c] = x[at]"""
    store = """
                        y[row * n + place] = ai[from_ + c] * scale"""
    _rows(f, product(f.out.shape[:-1]), n, scale, load, store, {"half": n // 2 + 1})


def _number(f: Form, value: float) -> str:
    return f"{'f4' if f.out.dtype.itemsize == 4 else 'f8'}({value!r})"


def _radices(n: int) -> list[int]:
    """The radices of a length, in the order of its stages; none where a factor is too large."""
    found = []
    for r in RADICES:
        while n % r == 0:
            found.append(r)
            n //= r
    return found if n == 1 else []


def _split(n: int) -> tuple[int, int]:
    """The two factors that are nearest to each other."""
    n1 = max([k for k in range(1, math.isqrt(n) + 1) if n % k == 0])
    return n1, n // n1


def _rows(f: Form, rows: int, n: int, scale: float, load: str, store: str, sizes: dict[str, int]) -> None:
    if n < 2 or not rows or not _radices(n):
        return
    d = f.out.dtype
    n1, n2 = _split(n)
    used = sorted({r for k in (n1, n2) for r in _radices(k)}, key=RADICES.index)
    longest = max(n1, n2)
    block = max(8, min(64, BLOCK // longest))
    shift = (n.bit_length() + 1) // 2
    low, high = 1 << shift, (n >> shift) + 1
    count = chunk_rows(rows, 8.0 * n * math.log2(n))
    area, whole = longest * block + PAD, n + PAD
    for word, size in (("ar", area), ("ai", area), ("br", area), ("bi", area), ("tr", whole), ("ti", whole)):
        f.room(word, d, size * count)
    for word, size in (("lr", low), ("li", low), ("ur", high), ("ui", high)):
        f.room(word, d, size)
    _roots(f, n, low, high)
    names = ("ar", "ai", "br", "bi", "tr", "ti")
    f.kernel(_body(f, used, load, store), {"x": "in0", "y": "out", **{k: k for k in (*names, "lr", "li", "ur", "ui")}},
             {"n": n, "n1": n1, "n2": n2, "block": block, "area": area, "whole": whole, "shift": shift, "mask": low - 1,
              **sizes}, rows, count, ("out", *names), {"scale": ("const", scale, d)})


def _roots(f: Form, n: int, low: int, high: int) -> None:
    """exp(-2 pi i k / n) for k below `low`, and for the multiples of `low`: any other is a product of two."""
    cast = f"to_{f.out.dtype.code}"
    f.kernel(f"""
    turn = f8({-2 * math.pi!r}) / to_f64(n)
    for k in range(lo, hi):
        if k < low:
            lr[k] = {cast}(cos_f64(to_f64(k) * turn))
            li[k] = {cast}(sin_f64(to_f64(k) * turn))
        if k < high:
            ur[k] = {cast}(cos_f64(to_f64(k * low) * turn))
            ui[k] = {cast}(sin_f64(to_f64(k * low) * turn))
""", {k: k for k in ("lr", "li", "ur", "ui")}, {"n": n, "low": low, "high": high}, max(low, high), 1, ("lr", "li", "ur", "ui"))


def _root(index: str, indent: int) -> str:
    """Lines: (wr, wi) is the root with a number."""
    return "".join(["\n" + " " * indent + line for line in (
        f"g = {index}", "e = g & mask", "h = shr_i64(g, shift)", "wr = ur[h] * lr[e] - ui[h] * li[e]",
        "wi = ur[h] * li[e] + ui[h] * lr[e]")])


def _term(f: Form, c: float, name: str) -> str:
    """+ c * name, as short as it can be."""
    c = round(c) if abs(c - round(c)) < 1e-12 else c
    if c in (1, -1):
        return f" {'+' if c > 0 else '-'} {name}"
    return "" if c == 0 else f" {'+' if c > 0 else '-'} {_number(f, abs(c))} * {name}"


def _stage(f: Form, r: int) -> str:
    """One stage of radix r: for each p, output after output, so that a loop stores to one place of each part."""
    lines = [f"m = index_div(rem, {r})", "turn = index_div(n, rem)", "for p in range(m):"]
    lines += [f"    a{t} = own + s * (p + {t} * m)" for t in range(r)]
    for u in range(r):
        real = imag = ""
        for t in range(r):
            c, s = math.cos(2 * math.pi * t * u / r), -math.sin(2 * math.pi * t * u / r)
            real += _term(f, c, f"ar[a{t} + q]") + _term(f, -s, f"ai[a{t} + q]")
            imag += _term(f, c, f"ai[a{t} + q]") + _term(f, s, f"ar[a{t} + q]")
        lines.append(f"    d{u} = own + s * ({r} * p + {u})")
        if u:
            lines += _root(f"turn * p * {u}", 4).strip("\n").split("\n")
        lines += ["    for q in range(s):", f"        xr ={real.replace(' + ', ' ', 1) if real.startswith(' + ') else real}",
                  f"        xi ={imag.replace(' + ', ' ', 1) if imag.startswith(' + ') else imag}"]
        turned = ("xr * wr - xi * wi", "xr * wi + xi * wr") if u else ("xr", "xi")
        lines += [f"        br[d{u} + q] = {turned[0]}", f"        bi[d{u} + q] = {turned[1]}"]
    lines += ["rem = m", f"s = s * {r}"]
    return "\n".join(lines)


def _stages(f: Form, used: list[int], indent: int) -> str:
    """The first of the radices that divides what is left."""
    text = ""
    for k, r in enumerate(used):
        pad = " " * (indent + 4 * k)
        inner = "\n".join([pad + "    " * (k < len(used) - 1) + line for line in _stage(f, r).split("\n")])
        text += f"{pad}if index_mod(rem, {r}) == 0:\n{inner}\n{pad}else:\n" if k < len(used) - 1 else inner + "\n"
    return text


def _body(f: Form, used: list[int], load: str, store: str) -> str:
    return f"""
    own = chunk * area
    all = chunk * whole
    for row in range(lo, hi):
        for step in range(2):
            length = select(step == 0, n1, n2)
            cols = select(step == 0, n2, n1)
            c0 = 0
            while c0 < cols:
                w = minimum_i64(block, cols - c0)
                for k in range(length):
                    to = own + k * w
                    if step == 0:
                        for c in range(w):
                            place = k * cols + c0 + c{load}
                    else:
                        for c in range(w):
                            ar[to + c] = tr[all + k * cols + c0 + c]
                            ai[to + c] = ti[all + k * cols + c0 + c]
                rem = length
                s = w
                while rem > 1:
{_stages(f, used, 20)}
                    for i in range(length * w):
                        ar[own + i] = br[own + i]
                        ai[own + i] = bi[own + i]
                if step == 0:
                    for c in range(w):
                        for k in range(length):{_root("(c0 + c) * k", 28)}
                            xr = ar[own + k * w + c]
                            xi = ai[own + k * w + c]
                            tr[all + (c0 + c) * length + k] = xr * wr - xi * wi
                            ti[all + (c0 + c) * length + k] = xr * wi + xi * wr
                else:
                    for k in range(length):
                        from_ = own + k * w
                        for c in range(w):
                            place = k * cols + c0 + c{store.replace(chr(10), chr(10) + "    ")}
                c0 = c0 + block
"""
