"""The house: no module imports from a higher floor, no cycles in a folder, Numba only in its own rooms."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "autojit"
FLOOR = {"errors": 0, "config": 0, "collector": 0, "dtypes": 0, "halves": 0, "tree": 0, "ir": 1, "ops": 2,
         "autodiff": 3, "rewrite": 3, "schedule": 3, "backends": 4, "engine": 5, "eager": 6, "tracing": 6,
         "functional": 6, "transforms": 6, "control": 6, "bound": 6, "custom": 7, "autograd": 7, "cuda": 7, "fft": 7,
         "linalg": 7, "nn": 7,
         "optim": 7, "saving": 7, "special": 7, "extras": 7, "comparing": 7, "derivatives": 7, "utils": 7, "testing": 7,
         "exporter": 7, "exportsteps": 7, "stubs": 7}
TOP = {"__init__"}                                        # the public namespace may name everything
SIBLINGS = ({"autodiff", "rewrite", "schedule"},)


def modules() -> dict[str, Path]:
    out = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        out[".".join(parts)] = path
    return out


def imports(name: str, path: Path) -> list[str]:
    """Absolute module names below autojit that a file imports, inside functions too; type-checking blocks do not count."""
    tree = ast.parse(path.read_text())
    skip = {id(n) for b in ast.walk(tree) if isinstance(b, ast.If) and "TYPE_CHECKING" in ast.dump(b.test) for n in ast.walk(b)}
    package = name.split(".")[:-1]
    found = []
    for n in ast.walk(tree):
        if id(n) in skip:
            continue
        if isinstance(n, ast.ImportFrom) and n.level:
            base = package[:len(package) - n.level + 1]
            full = [*base, *(n.module.split(".") if n.module else [])]
            found += [".".join([*full, a.name]) for a in n.names]
        elif isinstance(n, ast.ImportFrom) and n.module and n.module.split(".")[0] == "autojit":
            found += [".".join([*n.module.split(".")[1:], a.name]) for a in n.names]
        elif isinstance(n, ast.Import):
            found += [a.name.split(".", 1)[1] for a in n.names if a.name.startswith("autojit.")]
    return [f for f in found if f]


def resolve(target: str, known: dict[str, Path]) -> str | None:
    """The module that an imported name lives in."""
    parts = target.split(".")
    for k in range(len(parts), 0, -1):
        m = ".".join(parts[:k])
        if m in known:
            return m
        if m + ".__init__" in known:
            return m + ".__init__"
    return None


def breaches(files: dict[str, Path]) -> list[str]:
    out = []
    for name, path in files.items():
        if name in TOP:
            continue
        here = name.split(".")[0]
        for target in imports(name, path):
            there = target.split(".")[0]
            if there not in FLOOR:
                continue
            if FLOOR[there] > FLOOR[here]:
                out.append(f"{name} (floor {FLOOR[here]}) imports {target} (floor {FLOOR[there]})")
            if any(here in s and there in s and here != there for s in SIBLINGS):
                out.append(f"{name} imports its sibling {target}")
    return out


def test_every_module_has_a_floor():
    assert {m.split(".")[0] for m in modules()} - TOP == set(FLOOR)


def test_no_import_climbs_a_floor():
    assert breaches(modules()) == []


def test_a_breach_is_seen(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from ..eager.tensor import Tensor\n")
    assert breaches({"ir.bad": bad}) == ["ir.bad (floor 1) imports eager.tensor.Tensor (floor 6)"]


def test_no_cycles():
    files = modules()
    graph = {}
    for name, path in files.items():
        if name in TOP:
            continue
        graph[name] = {r for t in imports(name, path) if (r := resolve(t, files)) and r != name and r not in TOP}
    state: dict[str, int] = {}

    def visit(m: str, trail: list[str]) -> None:
        if state.get(m) == 1:
            raise AssertionError("import cycle: " + " -> ".join(trail[trail.index(m):] + [m]))
        if state.get(m) is None:
            state[m] = 1
            for t in sorted(graph[m]):
                visit(t, [*trail, m])
            state[m] = 2

    for m in sorted(graph):
        visit(m, [])


def test_numba_only_in_its_rooms():
    for name, path in modules().items():
        tree = ast.parse(path.read_text())
        for n in ast.walk(tree):
            names = [a.name for a in n.names] if isinstance(n, ast.Import) else [n.module or ""] if isinstance(
                n, ast.ImportFrom) and not n.level else []
            if any(x.split(".")[0] == "numba" for x in names):
                assert name.startswith(("backends.cpu", "backends.cuda")), f"{name} imports numba"


def test_files_stay_readable():
    long = {n: k for n, p in modules().items() if (k := len(p.read_text().splitlines())) > 600}
    assert long == {}
