"""A kernel's syntax tree with fewer branches: what Numba is given in place of what a person reads.

In: the tree of a kernel.  Out: the same tree, changed: `range` by another name (Numba knows its own), ``a and b`` of numbers
computed on both sides, guarded loads ``x[i] if c else y`` as one word.  Numba's analyses take time by the number of branches,
and LLVM makes no use of them.  Never changes what a kernel computes, and never what it loads.
"""

from __future__ import annotations

import ast

RANGE, GUARDED = "turns", "guarded"
_CHEAP = (ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.Name, ast.Constant, ast.Load, ast.operator, ast.unaryop,
          ast.cmpop, ast.boolop, ast.expr_context)
_LITERALS = ("f4", "f8", "to_i64", "to_f16", "to_bf16", "index_div", "index_mod", "index_clamp")


def _computes(node: ast.expr) -> bool:
    """Is this a few operations on numbers that are there: no loads, no functions?"""
    for n in ast.walk(node):
        if isinstance(n, ast.Call):
            if not (isinstance(n.func, ast.Name) and n.func.id in _LITERALS):
                return False
        elif not isinstance(n, _CHEAP):
            return False
    return True


class _Rewrite(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id == "range":
            node.id = RANGE
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        node = self.generic_visit(node)  # type: ignore[assignment]
        if not all(map(_computes, node.values[1:])):
            return node
        op = ast.BitAnd() if isinstance(node.op, ast.And) else ast.BitOr()
        value = node.values[0]
        for other in node.values[1:]:
            value = ast.BinOp(value, op, other)
        return value

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        node = self.generic_visit(node)  # type: ignore[assignment]
        if not _computes(node.orelse):
            return node
        load = node.body
        if isinstance(load, ast.Subscript) and isinstance(load.value, ast.Name) and _computes(load.slice):
            return _call(GUARDED, node.test, load.value, load.slice, node.orelse)
        return _call("select", node.test, load, node.orelse) if _computes(load) else node


def _call(name: str, *args: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(args), [])


def fewer(tree: ast.Module) -> ast.Module:
    """The tree, changed in place."""
    return ast.fix_missing_locations(_Rewrite().visit(tree))  # type: ignore[no-any-return]
