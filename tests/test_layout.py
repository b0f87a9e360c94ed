"""Who may import whom, no circles, no word of documents that are not here."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "featlink": {"edge", "channel", "cloud", "shared", "starter"},
    "edge": {"shared"},
    "channel": {"shared"},
    "cloud": {"shared"},
    "shared": {"starter"},
    "starter": set(),
    "training": {"shared", "starter"},
}
LINKED = ("edge", "channel", "cloud", "shared", "starter")
"""Folders at the top that are imported as ``featlink.edge`` and so on."""
OUTSIDE = ("tests", "benchmarks", "examples")
LIGHT = [
    *("featlink", "featlink.cli"),
    *("featlink.edge.app", "featlink.edge.prepare"),
    *("featlink.channel.app", "featlink.channel.transmit"),
    *("featlink.cloud.app", "featlink.cloud.finish", "featlink.cloud.runs"),
    *("featlink.shared.evaluation.coco_metrics", "featlink.shared.store"),
    *(
        "featlink.shared.conditions.registry",
        "featlink.shared.frames.wire",
        "featlink.shared.metrics.fidelity",
        "featlink.shared.service.app",
    ),
    "featlink.starter.bundle",
]
"""What can be imported without a second's wait for torch."""


@cache
def files() -> tuple[Path, ...]:
    """Everything git knows, or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return tuple(path for name in listed if (path := ROOT / name).is_file())


@cache
def modules() -> dict[str, Path]:
    """Modules of the packages, by dotted name."""
    found = {}
    for path in files():
        parts = path.relative_to(ROOT).with_suffix("").parts
        if path.suffix == ".py" and parts[0] in MAY_IMPORT:
            dotted = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[f"featlink.{dotted}" if parts[0] in LINKED else dotted] = path
    return found


def imports(name: str, inside_functions: bool) -> Iterator[tuple[str, int]]:
    """Names that a module imports when it runs, and the lines: none for type checkers alone."""
    todo: list[ast.AST] = list(ast.parse(modules()[name].read_text()).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo += node.orelse
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}:{node.lineno}: a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield (full if full in modules() else str(node.module)), node.lineno
        elif inside_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            todo += ast.iter_child_nodes(node)


def package_of(module: str) -> str:
    """The folder at the top that a module is in."""
    top, _, rest = module.partition(".")
    folder = rest.partition(".")[0]
    return folder if top == "featlink" and folder in LINKED else top


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_only_what_they_may(package: str) -> None:
    wrong = [
        f"{name}:{line} imports {imported}"
        for name in modules()
        if package_of(name) == package
        for imported, line in imports(name, inside_functions=True)
        if package_of(imported) in {*MAY_IMPORT, *OUTSIDE} - {package, *MAY_IMPORT[package]}
    ]
    assert not wrong


@pytest.mark.parametrize("inside_functions", [False, True])
def test_no_module_needs_itself(inside_functions: bool) -> None:
    graph = {name: {found for found, _ in imports(name, inside_functions)} & modules().keys() for name in modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def part_of(module: str) -> str:
    """The part of the house that a module is in: a folder at the top, or one below shared/ or featlink/."""
    folder = package_of(module)
    place = module.removeprefix("featlink.").split(".") if folder in LINKED else module.split(".")
    deep = folder in ("featlink", "shared") and (ROOT / Path(*place[:2])).is_dir()
    return "/".join(place[:2]) if deep and len(place) > 1 else folder


def drawn_map() -> str:
    """Which part imports which, as a table in Markdown."""
    parts: dict[str, set[str]] = {}
    for name in modules():
        others = {part_of(found) for found, _ in imports(name, inside_functions=True) if found in modules()}
        parts.setdefault(part_of(name), set()).update(others - {part_of(name)})
    rows = [
        f"| `{part}` | {', '.join(f'`{other}`' for other in sorted(others))} |"
        for part, others in sorted(parts.items())
    ]
    return "\n".join(["| part | imports |", "|---|---|", *rows]) + "\n"


def test_the_map_of_imports_is_up_to_date() -> None:
    page = (ROOT / "docs" / "house.md").read_text()
    assert drawn_map() in page, f"docs/house.md: the table should be\n{drawn_map()}"


TEXTS = (".py", ".md", ".toml", ".yml", ".yaml", "Makefile", "Dockerfile")
DOCUMENT = re.compile(r"(?<![\w/.:*-])(?:\.{0,2}/)?[\w-]+(?:/[\w-]+)*\.md\b")
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
NAMED = re.compile(r"\b(?:DESI[G]N|ISSU[E]S?|BRIE[F])\b")  # brackets: this file may not name one either


def test_documents_that_are_referred_to_are_here() -> None:
    missing = []
    for path in (path for path in files() if path.name.endswith(TEXTS)):
        text = path.read_text()
        documents = set(DOCUMENT.findall(text)) | (set(LINK.findall(text)) if path.suffix == ".md" else set())
        here = (path.parent, ROOT, ROOT / "docs", ROOT / "docs" / "reference")
        lost = {name for name in documents if not any((folder / name).exists() for folder in here)}
        missing += [f"{path.relative_to(ROOT)}: {name}" for name in sorted(lost | set(NAMED.findall(text)))]
    assert not missing


def test_importing_is_cheap_and_loads_no_torch() -> None:
    code = f"""
import importlib, sys
for name in {LIGHT}:
    importlib.import_module(name)
    heavy = {{"torch", "torchvision", "openvino", "plotly", "ray", "matplotlib"}} & sys.modules.keys()
    if heavy:
        sys.exit(f"{{name}} loads {{', '.join(sorted(heavy))}}")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_waits_have_an_end() -> None:
    """A loop that sleeps, or does nothing, goes on for ever if what it waits for fails: `waiting.wait_until` ends."""
    endless = []
    for path in files():
        if path.suffix != ".py" or path.relative_to(ROOT).parts[0] != "tests" or path.name == "waiting.py":
            continue
        tree = ast.parse(path.read_text())
        bounded = {
            inner
            for block in ast.walk(tree)
            if isinstance(block, ast.AsyncWith) and "asyncio.timeout(" in ast.unparse(block.items[0])
            for inner in ast.walk(block)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.While) and node not in bounded:
                idle = all(isinstance(one, ast.Pass) for one in node.body)
                if idle or re.search(r"\bsleep\(", ast.unparse(node)):
                    endless.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not endless
