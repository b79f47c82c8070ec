# SPDX-License-Identifier: GPL-3.0-or-later
"""Updates the quotations of error messages in the guide's troubleshooting page.

    python addon/tools/guide_messages.py      rewrites the quotations, and lists the codes without an entry

An entry is a heading with the error's code, a quotation of each message that is raised with it (`…` stands for values),
and advice. Quotations are made from the code by this script; the rest is written by hand.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (ROOT / "backend" / "trackshade", ROOT / "backend" / "trackshade_lab", ROOT / "addon" / "trackshade_addon")
PAGE = ROOT / "addon" / "guide" / "troubleshooting.md"
VARIES = "…"
_WRITING = "writing"  # of `trackshade.core.atomic_files`: its first argument begins the message
_ENTRY = re.compile(r"^### (\S+)\n((?:\n|>.*\n)*)", re.MULTILINE)


def messages() -> dict[str, set[str]]:
    """Collect the messages of every error code that the software raises."""
    texts = [path.read_text(encoding="utf-8") for folder in SOURCES for path in sorted(folder.rglob("*.py"))]
    trees = [ast.parse(text) for text in texts if "Error" in text or f"{_WRITING}(" in text]  # the others create none
    kinds = _error_classes(trees)
    found: dict[str, set[str]] = {}
    for tree in trees:
        for code, message in _created_errors(tree, kinds):
            found.setdefault(code, set()).add(message)
    return found


def entries(page: str) -> dict[str, str]:
    """Return the advice of every entry of the page by its code."""
    found = {}
    matches = list(_ENTRY.finditer(page))
    for match in matches:
        rest = page[match.end() :]
        found[match[1]] = re.split(r"^##", rest, maxsplit=1, flags=re.MULTILINE)[0].strip()
    return found


def renew_quotations(page: str, by_code: Mapping[str, set[str]]) -> str:
    """Return the page with up-to-date quotations."""

    def entry(match: re.Match[str]) -> str:
        quoted = [f"> {message}" for message in sorted(by_code.get(match[1], ())) if re.search(r"[A-Za-z]", message)]
        return f"### {match[1]}\n\n" + ("\n>\n".join(quoted) + "\n\n" if quoted else "")

    return _ENTRY.sub(entry, page)


def _error_classes(trees: list[ast.Module]) -> set[str]:
    """Return the names of TrackshadeError and of all classes derived from it."""
    found, before = {"TrackshadeError"}, 0
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    while len(found) > before:
        before = len(found)
        found |= {node.name for node in classes if any(isinstance(b, ast.Name) and b.id in found for b in node.bases)}
    return found


def _created_errors(tree: ast.Module, kinds: set[str]) -> Iterator[tuple[str, str]]:
    """Yield code and message of every error that a module creates."""
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in parents:
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id == _WRITING:
            yield "output-unwritable", f"{_message_text(node.args[0])} cannot be written to {VARIES}: {VARIES}."
        function = _function_of(node, parents)
        if node.func.id not in kinds or (function is not None and function.name == _WRITING):
            continue
        arguments = dict(enumerate(node.args)) | {{"code": 0, "message": 1}.get(k.arg or "", k.arg): k.value
                                                  for k in node.keywords}  # fmt: skip
        if 0 not in arguments:
            if node.func.id == "CancelledError":
                yield "cancelled", "Canceled."
            continue
        message = _message_text(arguments[1]) if 1 in arguments else ""
        for code in _codes(arguments[0], node, parents, tree):
            yield code, " ".join(message.split())


def _codes(value: ast.expr, call: ast.AST, parents: Mapping[ast.AST, ast.AST], tree: ast.Module) -> Iterator[str]:
    """Yield the codes that an expression may stand for: its value, or what callers pass for a parameter."""
    if isinstance(value, ast.Constant):
        yield str(value.value)
    elif isinstance(value, ast.IfExp):
        for part in (value.body, value.orelse):
            yield from _codes(part, call, parents, tree)
    elif isinstance(value, ast.Name):
        function = _function_of(call, parents)
        if function is None:
            return
        names = [argument.arg for argument in function.args.args]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function.name:
                given = dict(zip(names, node.args, strict=False)) | {k.arg: k.value for k in node.keywords}
                if isinstance(found := given.get(value.id), ast.Constant):
                    yield str(found.value)


def _function_of(node: ast.AST | None, parents: Mapping[ast.AST, ast.AST]) -> ast.FunctionDef | None:
    """Return the function that a node is in."""
    while node is not None and not isinstance(node, ast.FunctionDef):
        node = parents.get(node)
    return node


def _message_text(value: ast.expr) -> str:
    """Return a message with … for values."""
    if isinstance(value, ast.Constant):
        return str(value.value)
    if isinstance(value, ast.JoinedStr):
        return "".join(_message_text(part) for part in value.values)
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
        return _message_text(value.left) + _message_text(value.right)
    if isinstance(value, ast.Subscript):  # a message cut to a length
        return _message_text(value.value)
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        if value.func.attr == "strip":
            return _message_text(value.func.value)
        if value.func.attr == "join" and value.args and isinstance(value.args[0], ast.List):
            return " ".join(
                _message_text(part.value if isinstance(part, ast.Starred) else part) for part in value.args[0].elts
            )
    return VARIES


def main() -> int:
    """Rewrite the page; the exit code is 1 if entries have to be written or removed by hand."""
    by_code, page = messages(), PAGE.read_text(encoding="utf-8")
    PAGE.write_text(renew_quotations(page, by_code), encoding="utf-8")
    there = entries(page)
    for code in sorted(by_code.keys() - there.keys()):
        print(f"### {code} has no entry: {' | '.join(sorted(by_code[code]))}")
    for code in sorted(there.keys() - by_code.keys()):
        print(f"### {code} has an entry, and nothing raises it.")
    return 1 if by_code.keys() ^ there.keys() else 0


if __name__ == "__main__":
    sys.exit(main())
