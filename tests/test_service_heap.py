"""Freed memory goes back to the system, also from between what is still held."""

import threading
from pathlib import Path

import psutil
import pytest
import torch

from service import heap
from service.heap import give_back
from tests.house import made_house

MEBIBYTE = 2**20


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


def test_what_a_thread_left_between_held_blocks_is_given_back() -> None:
    held: list[torch.Tensor] = []

    def take() -> None:
        blocks = [torch.zeros(2**14) for _ in range(3_200)]  # 64 KiB each, below what malloc maps by itself
        held.extend(blocks[::100])

    give_back()  # what tests before have left would be taken again
    before = resident()
    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    kept = resident() - before
    assert kept > 100 * MEBIBYTE, "else this test shows nothing"
    give_back()
    assert resident() - before < kept / 4
    assert all(float(block.sum()) == 0.0 for block in held)


def test_a_running_service_gives_back_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = threading.Semaphore(0)
    monkeypatch.setattr(heap, "SECONDS_BETWEEN", 0.02)
    monkeypatch.setattr(heap, "give_back", times.release)
    with made_house(tmp_path, "cpu"):
        assert all(times.acquire(timeout=60) for _ in range(3))
