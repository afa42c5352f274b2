"""The requirements files serve every supported Python, name no index and pin every file by its hash."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = ("requirements.txt", "requirements-dev.txt")
PIN = re.compile(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==([^\s;]+)(?: ; (.+?))? \\$", re.MULTILINE)


def pins(name: str) -> list[tuple[str, str, str]]:
    """Return package, version and marker of every pin in a file."""
    return PIN.findall((ROOT / name).read_text(encoding="utf-8"))


def declared(*extras: str) -> set[str]:
    """Return the packages that pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(item for extra in extras for item in project["optional-dependencies"][extra])]
    return {re.split(r"[^a-z0-9-]", item.lower(), maxsplit=1)[0] for item in wanted}


@pytest.mark.parametrize("name", FILES)
def test_one_file_gives_old_pythons_the_lts_and_new_ones_the_current_django(name: str) -> None:
    django = {marker: version for package, version, marker in pins(name) if package == "django"}

    assert django["python_full_version < '3.12'"].startswith("5.2.")
    assert not django["python_full_version >= '3.12'"].startswith("5.")


@pytest.mark.parametrize("name", FILES)
def test_every_requirement_is_pinned_with_hashes_and_no_address(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()

    assert pins(name)
    for line in lines:
        assert "://" not in line
        assert line.startswith(("    --hash=sha256:", "    #")) or PIN.match(f"{line}\n"), line


def test_the_files_hold_what_the_project_declares() -> None:
    runtime, everything = ({(package, version) for package, version, _ in pins(name)} for name in FILES)

    assert declared("server") <= {package for package, _ in runtime}
    assert declared("server", "dev") <= {package for package, _ in everything}
    assert runtime <= everything


@pytest.mark.parametrize(("folder", "extras"), [("mcp_oauth", ()), ("project", ("server", "dev"))])
def test_whatever_is_imported_is_declared(folder: str, extras: tuple[str, ...]) -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / folder).rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names} | {
        node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level
    }
    foreign = {name.split(".")[0] for name in imported} - sys.stdlib_module_names - {"mcp_oauth", "project"}
    providers = packages_distributions()

    undeclared = {
        name
        for name in foreign
        if not {package.lower().replace("_", "-") for package in providers.get(name, [name])} & declared(*extras)
    }
    assert not undeclared
