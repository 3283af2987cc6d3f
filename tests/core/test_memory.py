import platform

import pytest

from konspekt.core.errors import ResourceError
from konspekt.core.memory import available_memory, check_room, keep_freed_memory


def test_what_is_not_there_is_refused_and_what_is_there_is_not():
    check_room(1, "a byte")
    with pytest.raises(ResourceError, match=r"a mountain needs 1,048,576.0 GiB of memory, and .* GiB are free"):
        check_room(2**50, "a mountain")
    assert available_memory() > 2**20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept_unless_the_environment_says_otherwise(monkeypatch):
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    assert keep_freed_memory()
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000")
    assert not keep_freed_memory()
