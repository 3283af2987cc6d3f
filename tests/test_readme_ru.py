"""The Russian README says what README.md says: the same headings, examples, tables, names and links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from konspekt.testing import docs

ROOT = docs.repository(Path(__file__))
FENCE = re.compile(r"^```\w*\n.*?^```$", re.M | re.S)
# what stands between the marks is compared with the registry by tests/test_docs.py
GENERATED = re.compile(f"(?<={docs.BEGIN}\\n).*(?={docs.END})", re.S)
PAGES = {
    name: GENERATED.sub("", (ROOT / path).read_text(encoding="utf-8"))
    for name, path in (("en", docs.README), ("ru", docs.TRANSLATION))
}


def prose(text):
    return FENCE.sub("", text)


def headings(text):
    return re.findall(r"^(#+) (.+)$", prose(text), re.M)


def sections(text):
    """The text below each heading."""
    return re.split(r"^#+ .+$", text, flags=re.M)


def tables(text):
    """Each table as rows of cells."""
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", prose(text), re.M)
    return [[re.split(r"(?<!\\)\|", line)[1:-1] for line in block.strip().splitlines()] for block in blocks]


def spans(text):
    return sorted(re.findall(r"`[^`\n]+`", prose(text)))


def links(text):
    """Where links lead, but for those within the page and between the two."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(text))
    return [target for target in found if not target.startswith("#") and not target.startswith("README")]


def test_each_links_to_the_other_at_the_top():
    for name, other in (("en", docs.TRANSLATION), ("ru", docs.README)):
        assert f"({other})" in PAGES[name].splitlines()[2]


def test_headings_are_as_many_and_as_deep():
    assert [level for level, _ in headings(PAGES["ru"])] == [level for level, _ in headings(PAGES["en"])]


def test_examples_are_the_same():
    assert FENCE.findall(PAGES["ru"]) == FENCE.findall(PAGES["en"])
    assert len(FENCE.findall(PAGES["ru"])) >= 7


def test_tables_have_the_same_shape_and_code():
    mine, theirs = tables(PAGES["ru"]), tables(PAGES["en"])
    assert [[len(row) for row in table] for table in mine] == [[len(row) for row in table] for table in theirs]
    for table, other in zip(mine, theirs, strict=True):
        for row, its in zip(table[2:], other[2:], strict=True):
            if "`" in its[0] or its[0].strip().isdigit():
                assert row[0] == its[0]


def test_each_section_names_the_same_things():
    ours, theirs = (sections(prose(PAGES[name])) for name in ("ru", "en"))
    for (_, heading), mine, its in zip([("#", "top"), *headings(PAGES["en"])], ours, theirs, strict=True):
        assert spans(mine) == spans(its), heading
        assert links(mine) == links(its), heading
        assert mine.count("\n- ") == its.count("\n- "), heading
        assert mine.count("**") == its.count("**"), heading


def test_numbers_are_the_same():
    """A number that one of the two says and the other does not is a change that was made in one place."""

    def numbers(part):
        text = re.sub(r"`[^`\n]+`|\]\([^)]*\)", "", part)
        return sorted(re.findall(r"\d+(?:\.\d+)?", re.sub(r"(?<=\d)[,\s\u00a0\u202f](?=\d{3}\b)", "", text)))

    for (_, heading), mine, its in zip(
        [("#", "top"), *headings(PAGES["en"])], sections(prose(PAGES["ru"])), sections(prose(PAGES["en"])), strict=True
    ):
        assert numbers(mine) == numbers(its), heading


def test_it_is_in_russian():
    """Every paragraph has more Cyrillic letters than Latin ones."""
    for paragraph in re.split(r"\n\s*\n", prose(PAGES["ru"])):
        words = re.sub(r"`[^`]*`|\]\([^)]*\)|\([A-Z, ]+\)", "", paragraph)
        latin, cyrillic = (len(re.findall(letters, words)) for letters in ("[A-Za-z]", "[А-Яа-яЁё]"))
        assert cyrillic > latin or len(words) < 40, paragraph


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_whole(name):
    assert PAGES[name].count(docs.BEGIN) == PAGES[name].count(docs.END) == 1
    assert "—" not in PAGES[name]
