"""The folder of a comparison: which one it may be, and in what order it is written."""

import pytest

from konspekt.core.comparisons import usable, write_comparison
from konspekt.core.errors import ConfigError, ResourceError

FILES = {"comparison.csv": b"a\n1\n", "comparison.json": b"{}\n"}


def test_a_new_folder_an_empty_one_and_that_of_an_earlier_comparison(tmp_path):
    place = tmp_path / "a" / "b"
    assert write_comparison(place, FILES) == place
    assert {p.name: p.read_bytes() for p in place.iterdir()} == FILES
    (place / "report.html").write_text("a page")
    write_comparison(str(place), FILES | {"comparison.csv": b"other"})
    assert (place / "comparison.csv").read_bytes() == b"other"
    (tmp_path / "empty").mkdir()
    assert usable(tmp_path / "empty") == tmp_path / "empty"
    assert not list((tmp_path / "empty").iterdir())  # asking makes nothing


@pytest.mark.parametrize("what", ["a file", "a folder"])
def test_something_else_is_left_alone(tmp_path, what):
    place = tmp_path / "here"
    if what == "a folder":
        place.mkdir()
    other = place / "thesis.txt" if what == "a folder" else place
    other.write_text("mine")
    with pytest.raises(ConfigError, match="here: something else is there already; give a folder that is empty"):
        write_comparison(place, FILES)
    assert other.read_text() == "mine"
    assert not (place / "comparison.csv").exists()


def test_a_disk_that_refuses_leaves_no_mark(tmp_path):
    (tmp_path / "here" / "comparison.csv").mkdir(parents=True)  # no file can be put in its place
    (tmp_path / "here" / "comparison.json").touch()
    with pytest.raises(ResourceError, match=r"cannot write .*comparison\.csv"):
        write_comparison(tmp_path / "here", FILES)
    assert (tmp_path / "here" / "comparison.json").read_bytes() == b""
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match=r"cannot write .*file/here"):
        write_comparison(tmp_path / "file" / "here", FILES)
