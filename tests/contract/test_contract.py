"""The contract over everything registered; nothing here names a system."""

import pytest

from konspekt.core.registry import KINDS, TASKS, entries
from konspekt.testing import CHECKS, checks_of
from konspekt.testing.tiny import MAKERS


def cases():
    for entry in entries():
        for name, check in checks_of(entry):
            marks = [pytest.mark.xfail(strict=True, reason=entry.waive[name])] if name in entry.waive else []
            yield pytest.param(entry, check, id=f"{entry.kind}-{entry.name}-{name}", marks=marks)


@pytest.mark.parametrize(("entry", "check"), list(cases()))
def test_contract(entry, check, tmp_path):
    check(entry, tmp_path)  # raises ContractError
    assert check.__doc__


def test_every_kind_with_entries_that_can_be_checked_is():
    unchecked = {e.kind for e in entries()} - set(CHECKS)
    assert unchecked <= {"layer", "loss", "metric", "tool"}
    assert set(CHECKS) <= set(KINDS)


def test_there_is_tiny_data_for_every_task():
    assert set(MAKERS) == set(TASKS)


def test_every_estimator_has_a_task():
    assert all(e.task in TASKS for e in entries() if e.kind in ("estimator", "agent"))
