"""Ctrl-C at a running `konspekt fit`, in a process group of its own: the checkpoint, the advice, and the second press."""

import os
import signal
import sys
import time

import numpy as np
import pytest

from konspekt.cli.app import main
from konspekt.core.errors import InterruptedFit
from konspekt.engine import loop
from konspekt.engine.session import Interrupt
from konspekt.tabular import MLPClassifier

ARGUMENTS = ["data=iris", "hidden=4", "dropout=0.2", "batch_size=40", "epochs=60", "checkpoint_every=100000"]


def fit(run_dir, seconds, log):
    """The command with slow steps, its output in a file."""
    sys.stdout = sys.stderr = log.open("w", buffering=1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    step = loop.Loop._step

    def slow(self):
        step(self)
        log.with_name("stepping").touch()
        until = time.monotonic() + seconds
        while time.monotonic() < until:  # a signal ends a sleep, a computation goes on
            time.sleep(0.01)

    loop.Loop._step = slow
    main(["fit", "mlp-classifier", *ARGUMENTS, f"run_dir={run_dir}"])


def wait_for(what, seconds=30):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.01)


def began(run_dir):
    file = run_dir / "metrics.jsonl"
    return lambda: file.exists() and file.stat().st_size > 0


def test_it_stops_with_a_checkpoint_and_the_advice_leads_to_the_same_weights(
    fork, tmp_path, model_bytes, capsys, monkeypatch
):
    run, log = tmp_path / "run", tmp_path / "output"
    child = fork(lambda: fit(run, 0.03, log))
    wait_for(began(run))
    os.killpg(child, signal.SIGINT)
    _, status = os.waitpid(child, 0)
    said = " ".join(log.read_text().split())
    assert os.waitstatus_to_exitcode(status) == 1, said
    advice = f"go on with: konspekt resume {run}"
    assert "stopped by Ctrl-C after step " in said
    assert advice.replace(" ", "") in said.replace(" ", "")
    assert "Traceback" not in said
    assert advice in (run / "log.txt").read_text()
    assert [p.name[:4] for p in (run / "checkpoint").iterdir()] == ["fit-"]
    assert not (run / "model").exists()

    with pytest.raises(SystemExit) as stop:
        main(["resume", str(run)])
    assert stop.value.code in (0, None), capsys.readouterr()
    whole = tmp_path / "whole"
    with pytest.raises(SystemExit):
        main(["fit", "mlp-classifier", *ARGUMENTS, f"run_dir={whole}"])
    assert model_bytes(run) == model_bytes(whole)


def test_the_second_press_quits_at_once(fork, tmp_path):
    run, log = tmp_path / "run", tmp_path / "output"
    child = fork(lambda: fit(run, 20, log))
    wait_for((tmp_path / "stepping").exists)
    os.killpg(child, signal.SIGINT)
    time.sleep(0.3)
    assert os.waitpid(child, os.WNOHANG) == (0, 0)  # the first waits for the step
    os.killpg(child, signal.SIGINT)
    began = time.monotonic()
    _, status = os.waitpid(child, 0)
    assert time.monotonic() - began < 10
    assert status != 0
    assert not (run / "checkpoint").exists()


def press(moment):
    if moment.step == 4:
        os.kill(os.getpid(), signal.SIGINT)


def test_in_python_it_is_a_keyboard_interrupt(tmp_path):
    X = np.random.default_rng(0).normal(size=(20, 2))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(
        InterruptedFit, match=r"stopped by Ctrl-C after step 4 \(epoch 2\); without run_dir nothing was kept"
    ):
        MLPClassifier(hidden=(2,), batch_size=10).fit(X, X[:, 0] > 0, callbacks=[press])
    assert issubclass(InterruptedFit, KeyboardInterrupt)
    assert signal.getsignal(signal.SIGINT) is before


def test_elsewhere_than_in_the_main_thread_signals_are_left_alone():
    import threading

    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with Interrupt() as interrupt:
            seen.append((signal.getsignal(signal.SIGINT), interrupt.pressed))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False)]
