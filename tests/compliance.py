"""Which test shows which requirement: reads what tests declare, judges it, and writes the tables of docs/.

``python -m tests.compliance`` writes them; ``--check`` only says what is out of date. Both exit 1 if something is not
shown. Nothing is imported or run to find the declarations.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.conformance.scoring import load_not_yet, load_results
from tests.requirements import REQUIREMENTS, RULES, Requirement, Rule

ROOT: Final = Path(__file__).resolve().parent.parent
COMMAND: Final = "make compliance"
LEVELS: Final = ("MUST", "MUST NOT", "SHOULD", "SHOULD NOT")
# Promises of the protocol itself: without a test they would be words.
ALWAYS_TESTED: Final = frozenset(f"T{number:02}" for number in range(9, 30))

_MARK: Final = "requirement"
# A test that never runs, or is expected to fail, shows nothing.
_NO_EVIDENCE: Final = frozenset({"skip", "xfail"})


@dataclass(frozen=True)
class Declarations:
    """What the tests of a tree declare: per id the tests as ``path::name``, and what is wrong with a declaration."""

    tests: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Document:
    """A document with one generated part between two comments that name it."""

    path: str
    part: str

    @property
    def begin(self) -> str:
        """Return the line before the generated part."""
        return f"<!-- {self.part}: written by {COMMAND} -->"

    @property
    def end(self) -> str:
        """Return the line after the generated part."""
        return f"<!-- end of {self.part} -->"

    def with_part(self, text: str, generated: str) -> str:
        """Return the document's text with a new generated part.

        Raises:
            ValueError: the comments are not there, once each and in this order.
        """
        before, begun, rest = text.partition(self.begin)
        _old, ended, after = rest.partition(self.end)
        if not begun or not ended or self.begin in after or self.end in after:
            raise ValueError(f"{self.path} has to contain “{self.begin}” and then “{self.end}”, once each.")
        return f"{before}{self.begin}\n\n{generated.strip()}\n\n{self.end}{after}"


COMPLIANCE: Final = Document("docs/compliance.md", "tables")
SECURITY: Final = Document("docs/security.md", "rules")


def read_declarations(root: Path) -> Declarations:
    """Return what every ``tests/**/test_*.py`` under a folder declares with ``pytest.mark.requirement``.

    Marks count on functions, classes and modules (``pytestmark``), with texts as arguments.
    """
    found: dict[str, set[str]] = {}
    faults: list[str] = []
    for path in sorted((root / "tests").rglob("test_*.py")):
        name = path.relative_to(root).as_posix()
        module = ast.parse(path.read_text(encoding="utf-8"), filename=name)
        seen: set[int] = set()
        for test, marks in _tests(module):
            for mark in marks:
                seen.add(id(mark.func))
                ids = _ids(mark)
                if not ids:
                    faults.append(f"{name}:{mark.lineno} names no requirement as a text in its mark.")
                for identifier in ids:
                    found.setdefault(identifier, set()).add(f"{name}::{test}")
        for node in ast.walk(module):
            if isinstance(node, ast.Attribute) and _is_mark(node, {_MARK}) and id(node) not in seen:
                faults.append(f"{name}:{node.lineno} marks something that shows nothing: {_PLACES}.")
    return Declarations({name: tuple(sorted(tests)) for name, tests in sorted(found.items())}, tuple(faults))


_PLACES: Final = "only a test that always runs, its class or its module declares a requirement"


def complaints(
    requirements: Sequence[Requirement], rules: Sequence[Rule], declared: Declarations, always: frozenset[str]
) -> list[str]:
    """Return everything that is not shown, not known or not consistent; each is a sentence for a person.

    ``always`` holds the rules that may not be left to a later day.
    """
    found = list(declared.faults)
    ids = [*(item.id for item in requirements), *(rule.id for rule in rules)]
    found += [f"{name} is there twice." for name in sorted({name for name in ids if ids.count(name) > 1})]
    for name, tests in declared.tests.items():
        if name not in ids:
            found.append(f"{tests[0]} declares {name}, which tests/requirements.py does not know.")
    for item in requirements:
        shown = item.id in declared.tests
        found += _misspelt(item)
        if item.not_applicable and shown:
            found.append(f"{item.id} is not applicable, and yet {declared.tests[item.id][0]} shows it.")
        if not item.not_applicable and not shown:
            found.append(f"{item.id} has no test.")
    for rule in rules:
        shown = rule.id in declared.tests
        if not is_sentence(rule.sentence):
            found.append(f"{rule.id} does not read as a sentence.")
        if rule.missing and not is_sentence(rule.missing):
            found.append(f"{rule.id} does not say in a sentence what is missing.")
        if rule.missing and rule.id in always:
            found.append(f"{rule.id} has to be promised.")
        if not rule.missing and not shown:
            found.append(f"{rule.id} is promised and has no test.")
    found += [f"{name} is not among the rules." for name in sorted(always - {rule.id for rule in rules})]
    return found


def is_sentence(text: str) -> bool:
    """Tell whether a text begins with a capital, ends with a full stop, and has more than three words between."""
    return len(text.split()) > 3 and text[:1].isupper() and text.endswith(".") and "\n" not in text


def render_tables(
    requirements: Sequence[Requirement],
    rules: Sequence[Rule],
    declared: Declarations,
    results: Mapping[str, Mapping[str, object]],
    not_yet: Mapping[str, str],
) -> str:
    """Return the generated part of docs/compliance.md; the same data always make the same text."""
    parts = ["## In numbers", _totals(requirements), "## Requirements"]
    for source in dict.fromkeys(item.source for item in requirements):
        parts += [f"### {source}", _requirements_table([r for r in requirements if r.source == source], declared)]
    parts += [
        "## Rules",
        "The promises of [security.md](security.md) and the tests that hold them.",
        _table(
            ("rule", "tests"),
            ([rule.id, _test_links(declared.tests.get(rule.id, ()))] for rule in rules if not rule.missing),
        ),
        "## The official suite",
        "Runs of `@modelcontextprotocol/conformance` by revision of the protocol, as of the last `make conformance`.",
        _suite_table(results, not_yet),
    ]
    return "\n\n".join(parts)


def render_rules(rules: Sequence[Rule]) -> str:
    """Return the generated part of docs/security.md: what is promised, and what is not yet."""
    parts = []
    for group in dict.fromkeys(rule.group for rule in rules):
        kept = [f"- **{rule.id}** {rule.sentence}" for rule in rules if rule.group == group and not rule.missing]
        if kept:
            parts += [f"### {group}", "\n".join(kept)]
    if missing := [f"- **{rule.id}** {rule.sentence} *{rule.missing}*" for rule in rules if rule.missing]:
        parts += ["### Not promised yet", "\n".join(missing)]
    return "\n\n".join(parts)


def generated(declared: Declarations) -> dict[Document, str]:
    """Return the generated part of each document, for the requirements and the results as they are."""
    tables = render_tables(REQUIREMENTS, RULES, declared, load_results(), load_not_yet())
    return {COMPLIANCE: tables, SECURITY: render_rules(RULES)}


def outdated(root: Path, parts: Mapping[Document, str]) -> list[str]:
    """Return a complaint, with the command that mends it, for each document whose generated part is not this one."""
    found = []
    for document, part in parts.items():
        text = (root / document.path).read_text(encoding="utf-8")
        if document.with_part(text, part) != text:
            found.append(f"{document.path} is not up to date: run {COMMAND}.")
    return found


def write(root: Path, parts: Mapping[Document, str]) -> None:
    """Bring the generated part of each document up to date."""
    for document, part in parts.items():
        path = root / document.path
        path.write_text(document.with_part(path.read_text(encoding="utf-8"), part), encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Write the documents, or with ``--check`` only judge them; say what is wrong and return the exit code."""
    if list(arguments) not in ([], ["--check"]):
        print("usage: python -m tests.compliance [--check]", file=sys.stderr)
        return 2
    declared = read_declarations(ROOT)
    found = complaints(REQUIREMENTS, RULES, declared, ALWAYS_TESTED)
    if arguments:
        found += outdated(ROOT, generated(declared))
    else:
        write(ROOT, generated(declared))
    print("\n".join(found) or "Every requirement and every promised rule has its tests.")
    return 1 if found else 0


def _misspelt(item: Requirement) -> Iterator[str]:
    if item.level not in LEVELS:
        yield f"{item.id} has the level {item.level!r}."
    for name in ("sentence", "not_applicable", "departure"):
        text = getattr(item, name)
        if (text or name == "sentence") and not is_sentence(text):
            yield f"{item.id} does not read as a sentence in {name}."
    if urlsplit(item.link).scheme != "https" or not urlsplit(item.link).fragment:
        yield f"{item.id} does not link to a section."


# Reading the declarations.


def _tests(module: ast.Module) -> Iterator[tuple[str, list[ast.Call]]]:
    """Yield each test that always runs, as ``name`` or ``Class::name``, with the marks that apply to it."""
    outer = _module_decorators(module)
    for node in module.body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            for member in node.body:
                yield from _test(member, [*outer, *node.decorator_list], f"{node.name}::")
        else:
            yield from _test(node, outer, "")


def _test(node: ast.stmt, outer: Sequence[ast.expr], prefix: str) -> Iterator[tuple[str, list[ast.Call]]]:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not node.name.startswith("test"):
        return
    decorators = [*outer, *node.decorator_list]
    if any(_is_mark(item, _NO_EVIDENCE) for item in decorators):
        return
    yield (
        f"{prefix}{node.name}",
        [item for item in decorators if isinstance(item, ast.Call) and _is_mark(item, {_MARK})],
    )


def _module_decorators(module: ast.Module) -> list[ast.expr]:
    """Return the marks in ``pytestmark``, one or a list of them."""
    found: list[ast.expr] = []
    for node in module.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in node.targets):
            found += node.value.elts if isinstance(node.value, ast.List | ast.Tuple) else [node.value]
    return found


def _is_mark(node: ast.AST, names: Iterable[str]) -> bool:
    """Tell whether an expression is ``pytest.mark.name`` or ``mark.name``, called or not."""
    target = node.func if isinstance(node, ast.Call) else node
    if not isinstance(target, ast.Attribute) or target.attr not in names:
        return False
    owner = target.value
    if isinstance(owner, ast.Attribute):
        return owner.attr == "mark"
    return isinstance(owner, ast.Name) and owner.id == "mark"


def _ids(mark: ast.Call) -> list[str]:
    """Return the ids a mark names; nothing if any argument is something else than a text."""
    values = [item.value for item in mark.args if isinstance(item, ast.Constant) and isinstance(item.value, str)]
    return values if len(values) == len(mark.args) and not mark.keywords else []


# Writing the tables.


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _totals(requirements: Sequence[Requirement]) -> str:
    def row(name: str, items: Sequence[Requirement]) -> list[str]:
        absent = sum(bool(item.not_applicable) for item in items)
        departures = sum(bool(item.departure) for item in items)
        return [name, *map(str, (len(items), len(items) - absent, departures, absent))]

    sources = dict.fromkeys(item.source for item in requirements)
    rows = [row(source, [item for item in requirements if item.source == source]) for source in sources]
    rows.append(row("**all**", requirements))
    return _table(("source", "requirements", "with tests", "of these with a departure", "not applicable"), rows)


def _requirements_table(items: Sequence[Requirement], declared: Declarations) -> str:
    rows = []
    for item in items:
        sentence = f"[{item.sentence}]({item.link})"
        if item.departure:
            sentence += f" *Departure: {item.departure}*"
        shown = f"*Not applicable: {item.not_applicable}*" if item.not_applicable else ""
        rows.append([f"`{item.id}`", item.level, sentence, shown or _test_links(declared.tests.get(item.id, ()))])
    return _table(("id", "level", "what is asked", "tests"), rows)


def _test_links(tests: Iterable[str]) -> str:
    links = []
    for test in tests:
        path, _, name = test.partition("::")
        links.append(f"[`{name}`](../{path})")
    return "<br>".join(links)


def _suite_table(results: Mapping[str, Mapping[str, object]], not_yet: Mapping[str, str]) -> str:
    versions = sorted({key.rpartition(" ")[2] for key in results})
    rows = []
    for scenario in sorted({key.rpartition(" ")[0] for key in results}):
        runs = {version: results.get(f"{scenario} {version}") for version in versions}
        marks = ["" if run is None else "pass" if run["verdict"] == "pass" else "not yet" for run in runs.values()]
        reasons = dict.fromkeys(not_yet.get(f"{scenario} {version}", "") for version, run in runs.items() if run)
        rows.append([f"`{scenario}`", *marks, "; ".join(reason for reason in reasons if reason)])
    passed = {
        version: [r["verdict"] == "pass" for k, r in results.items() if k.endswith(version)] for version in versions
    }
    rows.append(["**passed**", *(f"{sum(runs)} of {len(runs)}" for runs in passed.values()), ""])
    return _table(("scenario", *versions, "why not yet"), rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
