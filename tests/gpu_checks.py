"""What only a GPU can show; `make check-gpu` runs it on a machine that has one. Everything else here is tested on CPUs.

The real models must lie in the cache of the state folder; nothing is fetched.
"""

import contextlib
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModel

from model.batch import pad, pad_ids, unpad
from model.explain.attention import raw_attention
from model.generation import Sampling, Writing, write_all
from model.heads import TextModel
from model.tokenizer import Encoding
from model.weights import load_model, read_tensors
from service.engine.graphs import GpuRecorder, Graphs
from tests.house import House, made_house
from tests.memory_run import classify as classify_long
from tests.memory_run import model_of
from tests.parallel_run import CASES, COMMON
from tests.parallel_run import texts as random_texts
from tests.small import random_model, small_config
from training.config import Optimisation, Recipe
from training.events import Noted, Started, TrainingEvent
from training.finetune import finetune, load_data
from training.memory import measure_need
from training.parallel import ALONE
from training.sharding import NotEnoughMemory, Placement
from training.trainer import Interrupted, Objective, Trainer

ROOT = Path(__file__).parents[1]
CPU, GPU = torch.device("cpu"), torch.device("cuda")
CACHE = Path(os.environ.get("VITRINE_HOME", ROOT / ".vitrine")).absolute() / "cache"
ARCHITECTURES = ("encoder", "decoder", "encoder_decoder")
ON_ONE_GPU = [name for name in CASES if name != "out of memory"]


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Float32 products as they are, not in TensorFloat-32; memory of one test is no other's."""
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("norm_first", [False, True])
def test_every_architecture_computes_what_it_does_on_a_cpu(architecture: str, norm_first: bool) -> None:
    model = random_model(small_config(architecture, norm_first=norm_first))
    source, target = (pad_ids(random_texts(9, seed), 0) for seed in (0, 1))

    def hidden(device: torch.device) -> torch.Tensor:
        model.to(device)
        with torch.inference_mode():
            if architecture == "encoder_decoder":
                return model.stack(source.to(device), target.to(device)).cpu()
            return model.body(source.to(device)).cpu()

    real = (target if architecture == "encoder_decoder" else source).real
    on_cpu = hidden(CPU)[real]
    assert float((hidden(GPU)[real] - on_cpu).abs().max()) < 1e-4


def test_attention_of_a_gpu_is_that_of_a_cpu() -> None:
    model = random_model(small_config("encoder"))
    encoding = Encoding.of_ids(random_texts(1, 3)[0])
    on_cpu = raw_attention(model, encoding)
    assert float((raw_attention(model.to(GPU), encoding) - on_cpu).abs().max()) < 1e-5


@pytest.mark.parametrize("architecture", ["decoder", "encoder_decoder"])
def test_a_gpu_writes_the_same_text(architecture: str) -> None:
    model = random_model(small_config(architecture))

    def written(device: torch.device) -> list[list[int]]:
        texts = [Writing(prompt, Sampling(max_tokens=12, temperature=0.0)) for prompt in random_texts(5, 4)]
        write_all(model.to(device), texts)
        return [text.ids for text in texts]

    assert written(GPU) == written(CPU)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-4), (torch.bfloat16, 0.1)])
def test_real_weights_give_what_transformers_gives_on_the_same_gpu(dtype: torch.dtype, most: float) -> None:
    model, tokenizer = load_model(CACHE / "minilm-l6")
    theirs = AutoModel.from_pretrained(CACHE / "minilm-l6", dtype=torch.float32).eval().to(GPU)
    sentences = ["A film that is as good as it is long.", "Dull.", "一部 not quite convincing film"] * 9
    batch = pad(tokenizer.encode(sentences, 128), model.config.pad_id).to(GPU)
    with torch.inference_mode():
        wanted = theirs(input_ids=batch.ids, attention_mask=batch.real.long(), token_type_ids=batch.segments)
        found = model.to(GPU, dtype).body(batch)
    assert float((found - wanted.last_hidden_state)[batch.real].abs().max()) < most
    if dtype == torch.bfloat16:
        alike = F.cosine_similarity(found[:, 0].float(), wanted.last_hidden_state[:, 0])
        assert float(alike.min()) > 0.999


@pytest.mark.parametrize("architecture", ["encoder", "decoder"])
def test_recorded_passes_give_what_their_operations_give(architecture: str, caplog: pytest.LogCaptureFixture) -> None:
    """While another thread computes on the same card, as explanations do."""
    body = random_model(small_config(architecture)).to(GPU, torch.bfloat16).body
    kept, stop = Graphs(body, GpuRecorder(GPU)), threading.Event()

    def compute_beside() -> None:
        with torch.inference_mode():
            while not stop.is_set():
                body.forward_unpadded(unpad([Encoding.of_ids([7] * 50)]).to(GPU)).cpu()

    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(compute_beside)
        try:
            for seed in range(60):
                texts = random_texts(1 + seed % 12, seed)
                documents = unpad([Encoding.of_ids(ids) for ids in texts]).to(GPU)
                with torch.inference_mode():
                    found, wanted = kept.read(documents), body.forward_unpadded(documents)
                assert float((found - wanted).abs().max()) < 0.05
        finally:
            stop.set()
        beside.result()
    assert len(kept) > 3
    assert caplog.messages == [], "none failed, none differed"


def test_a_service_replays_what_comes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Graphs] = []
    of = Graphs.of

    def noted(model: TextModel, device: torch.device) -> Graphs | None:
        found = of(model, device)
        made.extend([found] if found is not None else [])
        return found

    monkeypatch.setattr(Graphs, "of", noted)
    with made_house(tmp_path, "cuda") as house:
        answers = [
            house.ask("POST", "/v1/embeddings", house.ann, json={"model": "tiny", "input": "red cat"}).json()
            for _ in range(4)
        ]
    first, *others = (answer["data"][0]["embedding"] for answer in answers)
    assert sum(map(len, made)) > 0
    for other in others:
        assert other == pytest.approx(first, abs=0.02)


def run_on(device: torch.device, objective: Objective, fields: dict[str, Any], folder: Path, **more: Any) -> Trainer:
    placement = Placement(objective.model, device, ALONE)
    trainer = Trainer(objective, Optimisation(**(COMMON | fields)), folder, "run", placement=placement, **more)
    trainer.events = list(trainer.run())  # type: ignore[attr-defined]
    return trainer


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in trainer.model.named_parameters()}


def largest_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.mark.parametrize("case", ON_ONE_GPU)
def test_every_kind_of_run_ends_with_the_weights_of_a_cpu(case: str, tmp_path: Path) -> None:
    """In float64."""
    make, fields = CASES[case]
    on_cpu, on_gpu = (run_on(device, make(), fields, tmp_path / device.type) for device in (CPU, GPU))
    assert on_gpu.position.step == on_cpu.position.step
    assert largest_difference(weights_of(on_cpu), weights_of(on_gpu)) < 1e-6


@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_run_that_was_interrupted_continues_to_the_same_weights(bfloat16: bool, tmp_path: Path) -> None:
    def objective() -> Objective:
        torch.manual_seed(0)
        model = model_of(64, 2, task="classification", labels=("a", "b"), pooling="first", pooler="tanh")
        return classify_long(model, 16, 40, 5, steps=8)

    fields = {"bfloat16": bfloat16, "num_epochs": 1, "evaluation_steps": None}
    whole = run_on(GPU, objective(), fields, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run_on(GPU, objective(), fields, tmp_path / "part", interrupted=iter([False] * 4 + [True] * 99).__next__)
    part = run_on(GPU, objective(), fields, tmp_path / "part")
    assert [sorted(entry) for entry in part.position.history] == [sorted(entry) for entry in whole.position.history]
    difference = largest_difference(weights_of(whole), weights_of(part))
    print(f"resumed, bfloat16 {bfloat16}: the weights differ by at most {difference:.1e}")
    assert difference < 1e-5


def long_run() -> Objective:
    torch.manual_seed(0)
    model = model_of(512, 6, task="classification", labels=("a", "b"), pooling="first", pooler="tanh", dropout=0.0)
    return classify_long(model, 32, 500, 400, steps=3)


LONG = {"bfloat16": False, "num_epochs": 1, "evaluation_steps": None}


def test_memory_is_estimated_from_above_and_not_by_far(tmp_path: Path) -> None:
    objective = long_run()
    placement = Placement(objective.model, GPU, ALONE)
    need = measure_need(objective.model, lambda count: objective.loss(objective.longest(count), 0).total, placement)
    torch.cuda.reset_peak_memory_stats()
    trainer = run_on(GPU, objective, LONG, tmp_path)
    rows = trainer.surroundings.micro_batch_size
    peak = torch.cuda.max_memory_allocated()
    print(f"estimated {need.peak(rows) / 2**30:.2f} GiB with {rows} rows at once, taken {peak / 2**30:.2f} GiB")
    assert peak <= need.peak(rows) < 1.6 * peak


def test_a_gpu_that_others_fill_gets_fewer_rows_at_once_and_the_same_weights(tmp_path: Path) -> None:
    """The room is there when the run is estimated, and gone at its third step."""
    calm = run_on(GPU, long_run(), LONG, tmp_path / "calm")
    peak = torch.cuda.max_memory_allocated()
    taken: list[torch.Tensor] = []
    objective = long_run()
    loss = objective.loss

    def crowded(rows: Sequence[int], step: int) -> Any:
        if step == 1 and not taken:
            torch.cuda.empty_cache()
            free, _ = torch.cuda.mem_get_info()
            taken.append(torch.empty(max(0, free - peak // 2), dtype=torch.uint8, device=GPU))
        return loss(rows, step)

    objective.loss = crowded  # type: ignore[method-assign]
    tight = run_on(GPU, objective, LONG, tmp_path / "tight")
    assert taken
    told = [event.message for event in tight.events if isinstance(event, Noted)]  # type: ignore[attr-defined]
    print(f"notes: {told}; rows at once {calm.surroundings.micro_batch_size} -> {tight.surroundings.micro_batch_size}")
    assert tight.surroundings.micro_batch_size < calm.surroundings.micro_batch_size
    assert largest_difference(weights_of(calm), weights_of(tight)) < 1e-4


def test_a_base_that_can_not_fit_is_refused_before_the_first_step(tmp_path: Path) -> None:
    objective = long_run()
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    hog = torch.empty(free - 2**25, dtype=torch.uint8, device=GPU)
    try:
        with pytest.raises(NotEnoughMemory):
            run_on(GPU, objective, LONG, tmp_path)
    finally:
        del hog


def test_a_file_is_tuned_and_its_model_judges(tmp_path: Path, minilm_rows: Path) -> None:
    data = load_data(minilm_rows, None, Recipe())
    recipe = Recipe(num_epochs=2, max_length=64)
    events: list[TrainingEvent] = list(finetune(CACHE / "minilm-l6", data, recipe, tmp_path, GPU))
    (started,) = [event for event in events if isinstance(event, Started)]
    print(started)
    assert read_tensors(tmp_path / "model" / "model.safetensors")


@pytest.fixture
def minilm_rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    rows = "".join(f"a good film number {n},good\na dull film number {n},dull\n" for n in range(60))
    path.write_text("text,label\n" + rows, encoding="utf-8")
    return path


@contextlib.contextmanager
def worker_of(house: House) -> Iterator[None]:
    """A real worker process, on the GPU, of the service that lives in this process."""
    environment = os.environ | {
        "VITRINE_HOME": str(house.settings.home),
        "VITRINE_DEVICE": "cuda",
        "VITRINE_TRAINING_GPU": "shared",
    }
    command = [sys.executable, "-m", "service.jobs.process"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with made_house(tmp_path, "cuda") as made:
        yield made


def test_the_service_answers_from_a_gpu_and_tunes_on_it(house: House) -> None:
    shown = {model["id"]: model for model in house.ask("GET", "/v1/models", house.ann).json()["data"]}
    print({name: (model["dtype"], model["recorded_passes"]) for name, model in shown.items()})
    body = {"model": house.model, "input": [f"red cat {number}" for number in range(40)]}
    answers = house.ask("POST", "/v1/classify", house.ann, json=body).json()["data"]
    assert len(answers) == 40
    vectors = house.ask("POST", "/v1/embeddings", house.ann, json={"model": "tiny", "input": ["red"]}).json()
    assert sum(value**2 for value in vectors["data"][0]["embedding"]) == pytest.approx(1.0, abs=1e-3)
    assert torch.cuda.memory_allocated() > 0, "the models are on the GPU"
    attention = house.ask("GET", "/v1/attention?model=tiny&input=red+cat", house.ann)
    assert attention.status_code == 200
    with worker_of(house):
        wait(lambda: house.ask("GET", f"/v1/fine_tuning/jobs/{house.job}", house.ann).json()["status"], "succeeded")
    tuned = house.ask("GET", f"/v1/fine_tuning/jobs/{house.job}", house.ann).json()["fine_tuned_model"]
    told = house.ask("GET", f"/v1/fine_tuning/jobs/{house.job}/events?limit=100", house.ann).json()["data"]
    print([event["message"] for event in told][-4:])
    (answer,) = house.ask("POST", "/v1/classify", house.ann, json={"model": tuned, "input": "red cat"}).json()["data"]
    assert answer["label"] in ("x", "y")


def wait(status: Callable[[], str], wanted: str) -> None:
    deadline = time.monotonic() + 60
    while (found := status()) != wanted:
        assert time.monotonic() < deadline, found
        assert found != "failed"
        time.sleep(0.5)


def test_two_processes_share_one_gpu_in_turn() -> None:
    """A training process leaves the card as it was: what it held is free when it has ended."""
    torch.cuda.empty_cache()
    before, _ = torch.cuda.mem_get_info()
    code = "import torch; x = torch.empty(2**30, dtype=torch.uint8, device='cuda'); print(x.numel())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert io.StringIO(done.stdout).readline().strip() == str(2**30)
    after, _ = torch.cuda.mem_get_info()
    assert after > before - 2**28
