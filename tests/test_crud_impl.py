"""CRUD can be read alone."""

import ast
from pathlib import Path

HOME = Path(__file__).parent.parent
FOLDERS = {path.parent.name for path in HOME.glob("*/__init__.py")}


def test_crud_impl_imports_the_contract_and_nothing_else_of_ours() -> None:
    imported = set()
    for file in (HOME / "crud_impl").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
            elif isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
    assert imported & FOLDERS == {"contract", "crud_impl"}, imported
