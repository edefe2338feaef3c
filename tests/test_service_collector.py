"""What is loaded is left alone by Python's collector, which works as before for all else."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from service.collector import loading


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    yield
    gc.enable()


class Knot:
    """Part of a cycle: goes only when the collector finds it."""

    def __init__(self) -> None:
        self.self = self


def test_what_is_loaded_is_not_searched_and_what_comes_after_is() -> None:
    with loading():
        assert not gc.isenabled()
        kept = weakref.ref(Knot())
    assert gc.isenabled()
    let_go = weakref.ref(Knot())
    gc.collect()
    assert kept() is not None
    assert let_go() is None


def test_it_collects_again_after_a_module_that_does_not_load() -> None:
    with pytest.raises(ImportError), loading():
        raise ImportError
    assert gc.isenabled()


def test_within_another_loading_nothing_is_collected_until_the_outer_one_is_over() -> None:
    with loading():
        with loading():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_nothing_is_searched_when_the_process_ends() -> None:
    """A handler that was registered before runs after: by then all is frozen, what came after the loading too."""
    script = (
        "import atexit, gc\n"
        "atexit.register(lambda: print(len(gc.get_objects()) < 100, gc.get_freeze_count() > 1000))\n"
        "from service.collector import loading\n"
        "with loading(): import json\n"
        "later = [[] for _ in range(1000)]\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.split() == ["True", "True"]
