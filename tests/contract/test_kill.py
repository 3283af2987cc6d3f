"""The kill test with fresh processes: the command line, SIGKILL at random steps, `konspekt resume`, the same bytes."""

import random
import subprocess
import sys

import pytest

KILL = """
import os, signal, sys
from konspekt.core import folders
from konspekt.engine import loop
at, where = int(sys.argv[1]), sys.argv[2]
count = 0
def counted(original):
    def wrapped(*arguments):
        global count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)
    return wrapped
if where == "step":
    loop.Loop._step = counted(loop.Loop._step)
else:
    folders.flush = counted(folders.flush)
from konspekt.cli.app import main
main(sys.argv[3:])
"""
FITS = {
    "table": ["mlp-classifier", "data=iris", "epochs=6", "norm=batch", "dropout=0.2", "schedule=cosine", "patience=3"],
    "images": ["image-classifier", "data=digits", "epochs=1", "image_size=16", "augment=shift"],
}


def konspekt(*arguments, prefix=("-m", "konspekt")):
    command = [sys.executable, *prefix, *arguments]
    environment = {"OMP_NUM_THREADS": "1", "PATH": ""}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", FITS)
def test_killed_twenty_times_the_weights_are_the_same(name, tmp_path):
    fit = ["fit", *FITS[name], "checkpoint_every=2"]
    whole = konspekt(*fit, f"run_dir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    wanted = (tmp_path / "whole" / "model" / "weights.safetensors").read_bytes()
    draw = random.Random(0)
    for number in range(20):
        run = tmp_path / f"run{number}"
        where = draw.choice(["step", "flush"])
        at = draw.randrange(3, 20) if where == "step" else draw.randrange(6, 40)
        killed = konspekt(str(at), where, *fit, f"run_dir={run}", prefix=("-c", KILL))
        assert killed.returncode == -9, (where, at, killed.stderr)
        resumed = konspekt("resume", str(run))
        assert resumed.returncode == 0, (where, at, resumed.stderr)
        assert (run / "model" / "weights.safetensors").read_bytes() == wanted, (where, at)
