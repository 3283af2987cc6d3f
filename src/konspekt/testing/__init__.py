"""The contract checks, for this project's tests and for whoever registers systems elsewhere.

from konspekt.core import entries
from konspekt.testing import checks_of

@pytest.mark.parametrize("entry", [e for e in entries() if e.module.startswith("my_package")])
def test_contract(entry, tmp_path): ...
"""

from konspekt.testing.checks import CHECKS, ContractError, checks_of, smallest
from konspekt.testing.refusals import refusing
from konspekt.testing.tiny import tiny

__all__ = ["CHECKS", "ContractError", "checks_of", "refusing", "smallest", "tiny"]
