"""The habits of CONTRIBUTING.md that a program can check."""

import ast
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trsr.cli import app

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_and_no_function_is_too_long(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 500
    functions = [
        node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert [f.name for f in functions if f.end_lineno - f.lineno >= 60 + docstring_lines(f)] == []


def docstring_lines(function: ast.FunctionDef) -> int:
    first = function.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return first.end_lineno - first.lineno + 1 if is_docstring else 0


def test_no_small_file_has_a_single_user() -> None:
    """What few lines do for one other file alone belongs into that file; a reader is a format's own."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
    users = {module_of(path): set[str]() for path in SOURCES}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in users:
                for name in (f"{node.module}.{alias.name}" for alias in node.names):
                    users[name if name in users else node.module].add(module_of(path))
    small = [path for path in SOURCES if code_lines(path, trees[path]) < 40]
    rooms = [path for path in small if not path.name.startswith("__") and path.parent.name != "readers"]
    assert [str(path.relative_to(ROOT)) for path in rooms if len(users[module_of(path)]) < 2] == []


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "src").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def code_lines(path: Path, tree: ast.Module) -> int:
    """Count the lines that are no import, no docstring, no comment and not blank."""
    told = {
        number
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for number in range(node.lineno, node.end_lineno + 1)
    }
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    return sum(bool(line.strip()) and line.lstrip()[0] != "#" for number, line in lines if number not in told)


@pytest.mark.parametrize("document", ["README.md", "docs/architecture.md"])
def test_the_tree_in_the_documents_exists(document: str) -> None:
    blocks = re.findall(r"```\n(src/trsr/\n.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        names = [
            name for line in block.splitlines()[1:] for name in re.findall(r"[\w/]+(?:\.py|/)(?=\s|$)", line)
        ]
        assert len(names) > 5
        assert [name for name in names if not (ROOT / "src/trsr" / name).exists()] == []


def test_the_commands_in_the_readme_exist() -> None:
    targets = set(re.findall(r"^make (\w+)", README, re.MULTILINE))
    assert {"demo", "test"} <= targets
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []
    verbs = set(re.findall(r"^trsr (\w+)", README, re.MULTILINE))
    assert "run" in verbs
    for verb in verbs:
        assert CliRunner().invoke(app, [verb, "--help"]).exit_code == 0, verb


def test_the_files_that_the_readme_names_exist() -> None:
    files = set(re.findall(r"\b(?:examples|docs|benchmarks)/[\w.]+\w", README))
    assert files
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_the_project_speaks_of_itself_alone() -> None:
    texts = [*SOURCES, *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "tests").rglob("*.py")]
    absolute = re.compile(r"(?<![\w.~:/])/(?:work|home|root|tmp)/\w")
    found = [path.name for path in texts if absolute.search(path.read_text(encoding="utf-8"))]
    assert found == []
