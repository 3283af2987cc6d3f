"""Every test runs on one torch thread: two threads on a busy machine are slower, and sums then depend on the count."""

import pytest
import torch

torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="also run what takes minutes")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--all"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes; make test-all runs it"))
