"""Which GPU serves and which trains, for hosts of every kind; none of them has to be there."""

import pytest

from service.placement import serving_device, training_place


@pytest.mark.parametrize(
    ("setting", "worker", "gpus", "device"),
    [
        ("auto", 1, 0, "cpu"), ("auto", 1, 1, "cuda:0"), ("cuda", 1, 1, "cuda:0"), ("cpu", 1, 4, "cpu"),
        ("auto", 2, 4, "cuda:1"), ("auto", 4, 4, "cuda:3"), ("auto", 5, 4, "cuda:0"), ("auto", 3, 2, "cuda:0"),
    ],
)  # fmt: skip
def test_each_api_process_owns_a_gpu_of_its_own(setting: str, worker: int, gpus: int, device: str) -> None:
    assert str(serving_device(setting, worker, gpus)) == device


@pytest.mark.parametrize("gpus", range(1, 9))
@pytest.mark.parametrize("api_workers", range(1, 9))
def test_apart_a_job_never_trains_where_a_process_serves(api_workers: int, gpus: int) -> None:
    place = training_place("auto", "apart", api_workers, gpus)
    serving = {serving_device("auto", worker, gpus) for worker in range(1, api_workers + 1)}
    assert place.device not in serving
    assert (place.device.type == "cpu") == (len(serving) == gpus), "a free GPU is used"
    assert bool(place.note) == (place.device.type == "cpu"), "and when there is none, the user is told"


def test_what_is_told_names_the_remedy() -> None:
    assert "the only GPU serves" in training_place("auto", "apart", 1, 1).note
    assert "all 2 GPUs serve; VITRINE_TRAINING_GPU=shared" in training_place("auto", "apart", 3, 2).note


@pytest.mark.parametrize(
    ("setting", "wanted", "api_workers", "gpus", "device"),
    [
        ("auto", "shared", 1, 1, "cuda:0"), ("auto", "shared", 4, 4, "cuda:3"), ("auto", "apart", 0, 1, "cuda:0"),
        ("auto", "apart", 2, 0, "cpu"), ("cpu", "shared", 1, 2, "cpu"), ("cuda", "apart", 1, 2, "cuda:1"),
    ],
)  # fmt: skip
def test_shared_or_without_a_service_beside_the_last_gpu_trains(
    setting: str, wanted: str, api_workers: int, gpus: int, device: str
) -> None:
    place = training_place(setting, wanted, api_workers, gpus)  # type: ignore[arg-type]
    assert (str(place.device), place.note) == (device, "")
