"""`konspekt info NET` shows the net's layers."""

import re

import pytest

from konspekt.cli.app import main


@pytest.fixture
def info(capsys, monkeypatch):
    """Run the command; exit code, output, error."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(["info", *arguments])
        return stop.value.code, *capsys.readouterr()

    return call


def test_the_layers_of_a_net(info):
    code, out, err = info("vgg16")
    assert (code, err) == (0, "")
    assert re.search(r"^features\.0 +Conv 3x3 +64x224x224 +1,792 ", out, re.M)
    assert re.search(r"^total +138,357,544 +15\.5 G ", out, re.M)
    assert "(224 + 2*1 - 3)" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_net_with_arguments_in_full_for_images_of_a_size(info):
    code, out, _ = info("resnet18(width=0.25)", "--verbose", "--image-size", "64")
    assert code == 0
    assert re.search(r"^conv1 +Conv 7x7/2 +16x32x32 +2,352 ", out, re.M)
    assert "\n    (64 + 2*3 - 7) // 2 + 1 = 32\n" in out
    assert "layer4.1.bn2" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("adam", "--verbose"), "adam is no net: arguments, --verbose and --image-size are for nets"),
        (("resnet18(widht=1)",), "has no argument 'widht'; did you mean 'width'"),
        (("resnett18",), "'resnett18' is not registered; did you mean 'resnet18'"),
        (("vgg11", "--image-size", "16"), "image_size must be (height, width) of at least 32 x 32"),
    ],
)
def test_wrong_usage(info, arguments, said):
    code, _, err = info(*arguments)
    assert code == 2
    assert said in " ".join(err.split())
