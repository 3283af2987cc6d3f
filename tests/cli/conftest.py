"""The command, run in this process in an empty folder, on a terminal of 80 columns."""

import pytest

from konspekt.cli.app import main


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def run(capsys):
    """Run the command: exit code, stdout, stderr."""

    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return call


@pytest.fixture
def narrow():
    """No line is longer than the terminal."""

    def check(text):
        assert [line for line in text.splitlines() if len(line) > 80] == []
        return True

    return check


@pytest.fixture
def fails(narrow):
    """An error is one paragraph on stderr: no output, no traceback."""

    def check(result, code, *parts):
        found, out, err = result
        flat = " ".join(err.split())
        assert found == code, err
        assert out == ""
        assert err.startswith("error: ")
        assert "Traceback" not in err
        assert "not foreseen" not in err
        missing = [p for p in parts if p not in flat]
        assert not missing, f"{missing} not in {flat!r}"
        narrow(err)

    return check
