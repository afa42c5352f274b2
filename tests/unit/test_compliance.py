"""Every requirement has a test, every test names one that exists, and docs/ says which is which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.compliance import (
    ALWAYS_TESTED,
    COMMAND,
    ROOT,
    Declarations,
    Document,
    complaints,
    generated,
    is_sentence,
    main,
    outdated,
    read_declarations,
    render_rules,
    render_tables,
    write,
)
from tests.requirements import REQUIREMENTS, RULES, Requirement, Rule

ASKED = Requirement("rfc-1-tokens", "MUST", "Tokens are kept in a safe place.", "https://rfc.example/1#2", "RFC 1")
OTHER = replace(ASKED, id="rfc-1-cookies", level="SHOULD NOT", sentence="Cookies are not sent to strangers.")
RULE = Rule("T09", "Where", "Nobody is sent anywhere else.")
SHOWN = Declarations({"rfc-1-tokens": ("tests/test_a.py::test_a",), "T09": ("tests/test_a.py::test_b",)})
DOCUMENT = Document("docs/table.md", "tables")


def judged(
    requirements: Sequence[Requirement] = (ASKED,),
    rules: Sequence[Rule] = (RULE,),
    declared: Declarations = SHOWN,
    always: frozenset[str] = frozenset({"T09"}),
) -> list[str]:
    return complaints(requirements, rules, declared, always)


def declared_in(tmp_path: Path, source: str, name: str = "test_a.py") -> Declarations:
    """Return what a tree with one file declares."""
    path = tmp_path / "tests" / "deep" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"import pytest\n\n{source}", encoding="utf-8")
    return read_declarations(tmp_path)


# The tree as it is.


@pytest.fixture(scope="module")
def here() -> Declarations:
    """Return what the tests of this tree declare."""
    return read_declarations(ROOT)


def test_every_requirement_and_every_promise_has_its_tests(here: Declarations) -> None:
    found = complaints(REQUIREMENTS, RULES, here, ALWAYS_TESTED)
    assert not found, "\n".join(found)


def test_the_documents_are_up_to_date(here: Declarations) -> None:
    found = outdated(ROOT, generated(here))
    assert not found, "\n".join(found)


def test_the_rules_are_numbered_from_1_to_44() -> None:
    assert [rule.id for rule in RULES] == [f"T{number:02}" for number in range(1, 45)]
    assert {f"T{number:02}" for number in range(9, 30)} == ALWAYS_TESTED


def test_the_specification_and_every_standard_it_names_are_sources() -> None:
    sources = {item.source for item in REQUIREMENTS}
    standards = (6749, 6750, 7009, 7523, 7591, 7636, 8414, 8693, 8707, 9207, 9449, 9700, 9728)
    assert {f"RFC {number}" for number in standards} <= sources
    assert len([source for source in sources if source.startswith("MCP 2026-07-28: ")]) == 5


# What is complained about.


def test_nothing_is_wrong_where_everything_is_shown() -> None:
    assert judged() == []


def test_a_requirement_without_a_test_is_named() -> None:
    assert judged(requirements=(ASKED, OTHER)) == ["rfc-1-cookies has no test."]


def test_a_test_that_names_an_unknown_requirement_is_named() -> None:
    declared = Declarations({**SHOWN.tests, "rfc-1-tokenz": ("tests/test_a.py::test_c",)})

    assert judged(declared=declared) == [
        "tests/test_a.py::test_c declares rfc-1-tokenz, which tests/requirements.py does not know."
    ]


def test_a_promised_rule_without_a_test_is_named() -> None:
    declared = Declarations({"rfc-1-tokens": SHOWN.tests["rfc-1-tokens"]})

    assert judged(declared=declared) == ["T09 is promised and has no test."]


def test_a_rule_of_the_protocol_cannot_be_left_for_later() -> None:
    later = replace(RULE, missing="Nobody has written it so far.")

    assert judged(rules=(later,)) == ["T09 has to be promised."]
    assert judged(rules=(later,), always=frozenset()) == []
    assert "T09 is not among the rules." in judged(rules=())


def test_what_is_not_applicable_says_why_and_has_no_test() -> None:
    why = "This application starts no program."

    assert judged(requirements=(ASKED, replace(OTHER, not_applicable=why))) == []
    assert judged(requirements=(replace(ASKED, not_applicable=why),)) == [
        "rfc-1-tokens is not applicable, and yet tests/test_a.py::test_a shows it."
    ]
    assert judged(requirements=(ASKED, replace(OTHER, not_applicable="stdio"))) == [
        "rfc-1-cookies does not read as a sentence in not_applicable."
    ]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"level": "MAY"}, "rfc-1-tokens has the level 'MAY'."),
        ({"sentence": "tokens"}, "rfc-1-tokens does not read as a sentence in sentence."),
        ({"departure": "not here"}, "rfc-1-tokens does not read as a sentence in departure."),
        ({"link": "https://rfc.example/1"}, "rfc-1-tokens does not link to a section."),
        ({"link": "http://rfc.example/1#2"}, "rfc-1-tokens does not link to a section."),
    ],
    ids=str,
)
def test_a_careless_entry_is_named(change: dict[str, str], complaint: str) -> None:
    assert judged(requirements=(replace(ASKED, **change),)) == [complaint]  # type: ignore[arg-type]  # wrong on purpose


def test_a_careless_rule_is_named() -> None:
    assert judged(rules=(replace(RULE, sentence="nowhere"),)) == ["T09 does not read as a sentence."]
    assert judged(rules=(replace(RULE, missing="later"),), always=frozenset()) == [
        "T09 does not say in a sentence what is missing."
    ]


def test_an_id_that_is_there_twice_is_named() -> None:
    assert judged(requirements=(ASKED, replace(OTHER, id="rfc-1-tokens"))) == ["rfc-1-tokens is there twice."]


@pytest.mark.parametrize("text", ["", "Not this", "not a real sentence.", "Two\nlines are here.", "No full stop here"])
def test_a_sentence_is_one(text: str) -> None:
    assert not is_sentence(text)
    assert is_sentence("This one is a sentence.")


# How declarations are read.


def test_marks_of_functions_classes_and_modules_are_read(tmp_path: Path) -> None:
    declared = declared_in(
        tmp_path,
        'pytestmark = [pytest.mark.django_db, pytest.mark.requirement("module")]\n\n'
        '@pytest.mark.parametrize("x", [1])\n@pytest.mark.requirement("a", "b")\n@pytest.mark.requirement("c")\n'
        "def test_function(x): ...\n\n"
        '@pytest.mark.requirement("class")\nclass TestClass:\n'
        '    @pytest.mark.requirement("a")\n    async def test_method(self): ...\n',
    )

    function, method = "tests/deep/test_a.py::test_function", "tests/deep/test_a.py::TestClass::test_method"
    assert declared.faults == ()
    assert declared.tests == {
        "a": (method, function),
        "b": (function,),
        "c": (function,),
        "class": (method,),
        "module": (method, function),
    }


def test_words_about_a_mark_are_no_mark(tmp_path: Path) -> None:
    text = '"""Say @pytest.mark.requirement("a") here."""\n\ndef test_a(): ...  # pytest.mark.requirement("b")\n'

    assert declared_in(tmp_path, text) == Declarations()
    assert declared_in(tmp_path, '@pytest.mark.requirement("a")\ndef test_a(): ...\n', "helper.py") == Declarations()


@pytest.mark.parametrize(
    "marked",
    [
        '@pytest.mark.requirement("a")\ndef helper(): ...',
        '@pytest.mark.requirement("a")\n@pytest.mark.skip\ndef test_a(): ...',
        '@pytest.mark.requirement("a")\n@pytest.mark.xfail(strict=True)\ndef test_a(): ...',
        '@pytest.mark.skip\n@pytest.mark.requirement("a")\nclass TestA:\n    def test_a(self): ...',
        'pytestmark = pytest.mark.skip\n\n@pytest.mark.requirement("a")\ndef test_a(): ...',
        '@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.requirement("a"))])\ndef test_a(x): ...',
        'MARK = pytest.mark.requirement("a")\n\n@MARK\ndef test_a(): ...',
    ],
)
def test_a_mark_that_shows_nothing_is_named(tmp_path: Path, marked: str) -> None:
    declared = declared_in(tmp_path, marked)

    assert declared.tests == {}
    assert len(declared.faults) == 1
    assert "marks something that shows nothing" in declared.faults[0]
    assert declared.faults[0] in judged(declared=Declarations(SHOWN.tests, declared.faults))


@pytest.mark.parametrize("arguments", ["", "ID", '"a", ID', 'f"{ID}"', 'name="a"', "7"])
def test_a_mark_whose_ids_cannot_be_read_is_named(tmp_path: Path, arguments: str) -> None:
    declared = declared_in(tmp_path, f"@pytest.mark.requirement({arguments})\ndef test_a(): ...\n")

    assert declared.tests == {}
    assert declared.faults == ("tests/deep/test_a.py:3 names no requirement as a text in its mark.",)


# What is written.


def test_a_document_that_is_out_of_date_is_named_with_the_command_that_mends_it(tmp_path: Path) -> None:
    path = tmp_path / DOCUMENT.path
    path.parent.mkdir()
    path.write_text(f"# Words\n\n{DOCUMENT.begin}\n\n| old |\n\n{DOCUMENT.end}\n\nMore words.\n", encoding="utf-8")

    assert outdated(tmp_path, {DOCUMENT: "| new |"}) == [f"docs/table.md is not up to date: run {COMMAND}."]
    write(tmp_path, {DOCUMENT: "| new |"})
    assert outdated(tmp_path, {DOCUMENT: "| new |"}) == []
    assert path.read_text(encoding="utf-8") == (
        f"# Words\n\n{DOCUMENT.begin}\n\n| new |\n\n{DOCUMENT.end}\n\nMore words.\n"
    )


@pytest.mark.parametrize("lines", [(), (0,), (1,), (1, 0), (0, 1, 0, 1)], ids=str)
def test_a_document_without_its_place_is_not_written(lines: tuple[int, ...]) -> None:
    text = "\n".join((DOCUMENT.begin, DOCUMENT.end)[line] for line in lines)

    with pytest.raises(ValueError, match=r"docs/table\.md has to contain"):
        DOCUMENT.with_part(text, "| new |")


def test_the_tables_hold_requirements_tests_totals_and_the_suite() -> None:
    absent = replace(OTHER, not_applicable="This application bakes no cookies.", departure="It sends none at all.")
    results = {
        "auth/a 2025-11-25": {"verdict": "pass"},
        "auth/a 2026-07-28": {"verdict": "fail"},
        "auth/b 2026-07-28": {"verdict": "pass"},
    }

    text = render_tables((ASKED, absent), (RULE,), SHOWN, results, {"auth/a 2026-07-28": "a thing | to come"})

    for line in (
        "| RFC 1 | 2 | 1 | 1 | 1 |",
        "| `rfc-1-tokens` | MUST | [Tokens are kept in a safe place.](https://rfc.example/1#2) "
        "| [`test_a`](../tests/test_a.py) |",
        "| `rfc-1-cookies` | SHOULD NOT | [Cookies are not sent to strangers.](https://rfc.example/1#2) "
        "*Departure: It sends none at all.* | *Not applicable: This application bakes no cookies.* |",
        "| T09 | [`test_b`](../tests/test_a.py) |",
        "| `auth/a` | pass | not yet | a thing \\| to come |",
        "| `auth/b` |  | pass |  |",
        "| **passed** | 1 of 1 | 1 of 2 |  |",
    ):
        assert line in text.splitlines()
    # The order in which results were written down makes no difference.
    again = render_tables((ASKED, absent), (RULE,), SHOWN, dict(reversed(results.items())), {"auth/a 2026-07-28": ""})
    assert again == text.replace("a thing \\| to come", "")


def test_a_rule_stands_in_one_list_only() -> None:
    later = Rule("T10", "Where", "People go where they want.", missing="Nobody has built it so far.")

    kept, _, missing = render_rules((RULE, later)).partition("### Not promised yet")

    assert kept.strip() == "### Where\n\n- **T09** Nobody is sent anywhere else."
    assert missing.strip() == "- **T10** People go where they want. *Nobody has built it so far.*"


def test_the_command_judges_and_knows_no_other_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0
    assert main(["--what"]) == 2
    assert "usage" in capsys.readouterr().err
