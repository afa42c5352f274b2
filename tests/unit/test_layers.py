"""Imports point down: whoever opens a folder knows what it can and cannot depend on."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "mcp_oauth"

# A module may import from its own line and from the lines below it.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset(
        {"apps", "views", "urls", "forms", "server_fields", "admin", "api", "management", "templatetags", "checks"}
    ),
    frozenset({"services"}),
    frozenset({"oauth", "sessions", "net"}),
    frozenset({"models", "migrations", "fields", "crypto", "conf", "exceptions", "messages", "sentences"}),
)
# These know nothing of Django, so each may import only others that know nothing of it.
WITHOUT_DJANGO = frozenset({"oauth", "net", "exceptions", "messages", "sentences"})
# Within a line: the protocol does no I/O of its own, and the wire does not know what is spoken over it.
NEVER = {"oauth": {"net", "sessions"}, "net": {"sessions"}, "sessions": {"models", "fields"}}


def modules_under(folder: Path) -> Iterator[Path]:
    """Return every Python file in a folder, in a stable order."""
    return (path for path in sorted(folder.rglob("*.py")) if "__pycache__" not in path.parts)


def part_of(path: Path) -> str:
    """Return the first name below the package: ``mcp_oauth/views/pages.py`` is part of ``views``."""
    first = path.relative_to(ROOT / PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported_names(path: Path) -> Iterator[str]:
    """Return the dotted names a file imports, wherever in it the import stands."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def layer_of(part: str) -> int:
    """Return the line a part stands on, counted from the top."""
    for number, parts in enumerate(LAYERS):
        if part in parts:
            return number
    pytest.fail(f"{PACKAGE}/{part} stands on no layer: give it a place in LAYERS and in docs/architecture.md.")


def parts_imported(path: Path) -> set[str]:
    """Return the parts of the application a file imports; names of the package itself are none."""
    names = {name.split(".")[1] for name in imported_names(path) if name.startswith(f"{PACKAGE}.")}
    return {name for name in names if (ROOT / PACKAGE / name).is_dir() or (ROOT / PACKAGE / f"{name}.py").is_file()}


# The package's own __init__ is the public face: it names what stands above it, and imports it on first use.
FILES = [path for path in modules_under(ROOT / PACKAGE) if path != ROOT / PACKAGE / "__init__.py"]


def test_every_module_stands_on_a_layer() -> None:
    for path in FILES:
        layer_of(part_of(path))


@pytest.mark.parametrize("room", ["services", "views", "sessions"])
def test_the_floor_plan_names_every_module_of_a_large_room(room: str) -> None:
    plan = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    [row] = [line for line in plan.splitlines() if line.startswith(f"| `{room}/`")]
    modules = [path.stem for path in FILES if part_of(path) == room and path.stem != "__init__"]

    assert len(modules) > 10
    assert [name for name in modules if f"`{name}`" not in row] == []


def test_no_module_imports_upward() -> None:
    upward = [
        f"{path.relative_to(ROOT)} imports {PACKAGE}.{other}"
        for path in FILES
        for other in sorted(parts_imported(path))
        if layer_of(other) < layer_of(part_of(path))
    ]

    assert not upward


def test_neighbours_keep_their_distance() -> None:
    crossings = [
        f"{path.relative_to(ROOT)} imports {PACKAGE}.{other}"
        for path in FILES
        for other in sorted(parts_imported(path) & NEVER.get(part_of(path), set()))
    ]

    assert not crossings


def module_of(name: str) -> Path | None:
    """Return the file a dotted name of the application leads to: a module, a package, or the module it is a name in."""
    parts = name.split(".")
    for length in (len(parts), len(parts) - 1):
        path = ROOT.joinpath(*parts[:length])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    return None


def test_the_modules_of_the_admin_import_in_one_direction() -> None:
    admin = [path for path in FILES if part_of(path) == "admin"]
    waiting = {path: {found for name in imported_names(path) if (found := module_of(name)) in admin} for path in admin}
    assert len(admin) > 1

    while ready := {path for path, needed in waiting.items() if not needed}:
        waiting = {path: needed - ready for path, needed in waiting.items() if path not in ready}

    assert not waiting, "These import one another."


def test_the_protocol_and_the_wire_name_no_django() -> None:
    strangers = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in FILES
        if part_of(path) in WITHOUT_DJANGO
        for name in imported_names(path)
        if name.split(".")[0] in {"django", "asgiref"}
    ] + [
        f"{path.relative_to(ROOT)} imports {PACKAGE}.{other}"
        for path in FILES
        if part_of(path) in WITHOUT_DJANGO
        for other in sorted(parts_imported(path) - WITHOUT_DJANGO)
    ]

    assert not strangers


def test_importing_the_protocol_and_the_wire_loads_no_django() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in FILES
        if part_of(path) in WITHOUT_DJANGO
    ]
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\nprint('django' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_the_application_depends_on_neither_project_nor_tests() -> None:
    dependent = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules_under(ROOT / PACKAGE)
        for name in imported_names(path)
        if name.split(".")[0] in {"project", "tests"}
    ]

    assert not dependent


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    drawers = [
        str(path.relative_to(ROOT))
        for folder in (PACKAGE, "project", "tests")
        for path in modules_under(ROOT / folder)
        if {"utils", "util", "helpers", "helper", "common", "misc"} & {path.stem, path.parent.name}
    ]

    assert not drawers
