"""Texts as wide as a terminal: wide and combining characters, tables that fit, and nothing that moves the cursor."""

from __future__ import annotations

import pytest

from mcp_oauth.management.terminal import Cell, cells, columns, fitted, harmless, joined, padded, wrapped

FAMILY = "e\u0301"  # one letter, written as two characters


@pytest.mark.parametrize(
    ("text", "width"), [("", 0), ("plain", 5), ("日本", 4), (FAMILY, 1), ("a\u200db", 2), ("“é”…", 4), ("\uff57", 2)]
)
def test_the_cells_of_a_text_are_those_a_terminal_gives_it(text: str, width: int) -> None:
    assert cells(text) == width


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("as it is", 8, "as it is"),
        ("a little too long", 10, "a little…"),
        ("日本語のツール", 7, "日本語…"),
        ("日本語のツール", 8, "日本語…"),
        ("uncut, however long", None, "uncut, however long"),
    ],
)
def test_a_text_is_cut_to_the_cells_there_are(text: str, width: int | None, shown: str) -> None:
    assert fitted(text, width) == shown
    assert width is None or cells(shown) <= width


def test_a_text_is_filled_up_by_cells() -> None:
    assert padded("日本", 6) == "日本  "


def test_words_are_wrapped_by_cells_and_addresses_stay_whole() -> None:
    address = "https://mcp.example.com/a/long/way/to/go"

    assert wrapped("日本語 日本語 ab", 13, first="> ") == ["> 日本語", "  日本語 ab"]
    assert wrapped(f"See {address} now", 20, first="note ", rest="  ") == ["note See", f"  {address}", "  now"]
    assert wrapped("", 20, first="  empty ") == ["  empty"]


def test_a_table_is_as_wide_as_it_may_be_and_aligned() -> None:
    rows = [[Cell("TOOL", "bold"), Cell("DOES")], [Cell("日本"), Cell("A long description of what it does")]]

    table = ["".join(cell.text for cell in row) for row in columns(rows, 24)]

    assert table == ["TOOL  DOES", "日本  A long descriptio…"]
    assert max(map(cells, table)) == 24
    assert columns(rows, None)[1][1].text == "A long description of what it does"
    assert columns(rows, 24)[0][0].style == "bold"


def test_a_long_name_leaves_room_for_the_rest() -> None:
    table = columns([[Cell("n" * 60), Cell("reads"), Cell("d" * 60)]], 40)

    assert ["".join(cell.text for cell in row) for row in table] == [f"{'n' * 19}…  reads  {'d' * 10}…"]
    assert columns([], 40) == []


def test_nothing_that_controls_a_terminal_is_left() -> None:
    text = "red \x1b[31m\x1b]0;title\x07 C1 \x9b2J back\rfront \u202etxt\u202c\n\tnext\u2028line\x00"

    shown = harmless(text)

    assert all(char.isprintable() or char == "\n" for char in shown)
    assert shown.splitlines()[-2:] == ["    next", "line "]
    assert "[31m" in shown, "What stands there is shown, as text."


def test_blocks_have_an_empty_line_between_them() -> None:
    assert joined([["a", "b"], ["c"]]) == "a\nb\n\nc"
    assert joined([]) == ""
