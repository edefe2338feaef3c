"""Diagrams: their numbers against the module and torch's own counter, their text against hostile names, and the files
in docs/ against what the code draws."""

import argparse
import json
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from model.batch import Batch
from model.config import PRESETS, TASKS_OF, TransformerConfig
from model.diagram import Diagram, draw, draw_config, to_mermaid, to_svg, walk
from model.diagram.text import clean, compact, width
from model.folders import CONFIG_FILE
from model.heads import TextModel
from model.lora import LoraConfig, make_trainable
from model.transformer import EncoderDecoder, Trace
from service.app import create_app
from service.diagram_cli import add_commands
from service.settings import Settings
from tests.conftest import ROOT

SVG = "{http://www.w3.org/2000/svg}"
DRAWN = ("transformer-base", "minilm-l6", "gpt2-small")
HOSTILE = '</title><script>alert("1")</script> `a` & #quot; 電影評論 🎬👩‍👩‍👧 %%{init: {}}%% \x00\u202e\ud800 ]]> end'
SMALL = TransformerConfig(
    vocab_size=40, width=24, num_layers=3, num_heads=3, feed_forward_width=20, max_positions=10, dropout=0.0,
    num_segments=2, task="masked_lm",
)  # fmt: skip
PAIR = TransformerConfig(
    vocab_size=40, architecture="encoder_decoder", width=24, num_layers=2, num_heads=3, feed_forward_width=20,
    max_positions=10, dropout=0.0, positions="sinusoidal", bos_id=1, eos_id=2, task="seq2seq",
)  # fmt: skip
CAUSAL = TransformerConfig(
    vocab_size=40, architecture="decoder", width=24, num_layers=3, num_heads=3, feed_forward_width=20,
    max_positions=10, dropout=0.0, norm_first=True, tied_embeddings=False, task="causal_lm",
)  # fmt: skip
TAGGER = SMALL.with_task("tagging", ("O", "B"), pooler="relu")
CLASSIFIER = SMALL.with_task("classification", ("bad", "good"), pooler="tanh")


def on_meta(config: TransformerConfig) -> TextModel:
    with torch.device("meta"):
        return TextModel(config)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def shown_parameters(diagram: Diagram) -> int:
    return sum(part.repeat * block.parameters for part in diagram.sections for row in part.rows for block in row)


@pytest.mark.parametrize("name", PRESETS)
def test_blocks_add_up_to_the_parameters_of_each_preset(name: str) -> None:
    model = on_meta(PRESETS[name])
    diagram = walk(model, name)
    assert diagram.parameters == shown_parameters(diagram) == parameters(model)
    assert f"{parameters(model):,}" in to_svg(diagram)


def full_length(config: TransformerConfig) -> Batch:
    ids = torch.zeros(1, config.max_positions, dtype=torch.int64)
    return Batch(ids, ids, torch.arange(config.max_positions)[None], torch.ones_like(ids))


def counted_flops(model: TextModel) -> int:
    """What torch counts in one text of full length, attention written out."""
    batch, stack = full_length(model.config), model.stack
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        if isinstance(stack, EncoderDecoder):
            memory = stack.encoder(batch, trace=Trace())
            hidden = stack.write(batch, memory, batch.real[:, None, None, :], trace=Trace())
        else:
            hidden = stack(batch, trace=Trace())
        if model.language_model is not None:
            model.vocabulary_logits(hidden)
        elif model.config.task == "tagging":
            model.tag_hidden(hidden)
        elif model.classifier is not None:
            model.classify_pooled(hidden.mean(dim=1))
    return int(counter.get_total_flops())


@pytest.mark.parametrize("config", [SMALL, PAIR, CAUSAL, TAGGER, CLASSIFIER, PRESETS["tiny"]])
def test_flops_equal_those_that_torch_counts(config: TransformerConfig) -> None:
    model = TextModel(config).eval()
    diagram = walk(model, "small")
    expected = diagram.flops_per_token * config.max_positions + diagram.flops_per_text
    assert counted_flops(model) == expected


def test_attention_costs_its_linears_and_four_width_times_context() -> None:
    block = next(block for block in walk(on_meta(SMALL), "small").blocks if block.kind == "attention")
    width, context = SMALL.width, SMALL.max_positions
    assert block.flops == 2 * 4 * width * width + 2 * 2 * width * context


def test_adapters_count_in_parameters_and_flops() -> None:
    plain, tuned = TextModel(CLASSIFIER), TextModel(CLASSIFIER)
    make_trainable(tuned, LoraConfig(rank=2, targets=("qkv",)))
    before, after = walk(plain, "plain"), walk(tuned, "tuned")
    assert after.parameters == parameters(tuned) > before.parameters
    added = CLASSIFIER.num_layers * 2 * 2 * (CLASSIFIER.width + 3 * CLASSIFIER.width)
    assert after.flops_per_token - before.flops_per_token == added
    assert "+ adapters" in to_svg(after)
    assert "+ adapters" not in to_svg(before)


class Wrapped(nn.Module):
    """Stands for a linear that something unknown has replaced."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.in_features, self.out_features = base.in_features, base.out_features
        self.scale = nn.Parameter(torch.ones(base.out_features))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.base(inputs) * self.scale
        return outputs


def test_layers_that_differ_are_drawn_apart_and_unknown_weights_are_shown() -> None:
    model = TextModel(SMALL)
    second = model.encoder.layers[1]
    second.feed_forward.expand = Wrapped(second.feed_forward.expand)  # type: ignore[assignment, union-attr, arg-type]
    model.extra = nn.Linear(3, 5)
    diagram = walk(model, "odd")
    assert diagram.parameters == shown_parameters(diagram) == parameters(model)
    assert [(part.name, part.repeat) for part in diagram.sections if part.is_layer] == [
        ("Layer 1", 1), ("Layer 2", 1), ("Layer 3", 1),
    ]  # fmt: skip
    assert next(block.parameters for block in diagram.blocks if block.name == "Other weights") == 20
    assert diagram.flops_per_token == walk(TextModel(SMALL), "plain").flops_per_token


@pytest.mark.parametrize(("norm_first", "kinds"), [
    (False, ["attention", "add_norm", "feed_forward", "add_norm"]),
    (True, ["norm", "attention", "add", "norm", "feed_forward", "add"]),
])  # fmt: skip
def test_norms_and_residuals_stand_where_the_layer_has_them(norm_first: bool, kinds: list[str]) -> None:
    config = TransformerConfig(vocab_size=9, width=8, num_layers=4, num_heads=2, norm_first=norm_first)
    diagram = walk(on_meta(config), "norms")
    (layer,) = [part for part in diagram.sections if part.is_layer]
    blocks = [row[0] for row in layer.rows]
    assert layer.repeat == 4
    assert [block.kind for block in blocks] == kinds
    residuals = [edge.target for edge in diagram.edges if edge.kind == "residual"]
    assert residuals == [block.id for block in blocks if block.kind in ("add", "add_norm")]


def test_cross_attention_reads_the_encoders_last_block() -> None:
    diagram = walk(on_meta(PAIR), "pair")
    blocks = {block.id: block for block in diagram.blocks}
    (memory,) = [edge for edge in diagram.edges if edge.kind == "memory"]
    encoder = diagram.columns[0].sections[-1]
    assert blocks[memory.target].kind == "cross_attention"
    assert memory.source == encoder.rows[-1][0].id
    assert [dim.letter for dim in blocks[memory.source].output] == ["B", "S", "D"]


# --- properties of both renderers

names = st.one_of(st.text(max_size=60), st.just(HOSTILE), st.text(alphabet="<>&\"'`#;[](){}|%電🎬\n", max_size=40))


@st.composite
def configs(draw: st.DrawFn) -> TransformerConfig:
    architecture = draw(st.sampled_from(["encoder", "decoder", "encoder_decoder"]))
    task = draw(st.sampled_from(TASKS_OF[architecture]))  # type: ignore[index]
    heads = draw(st.integers(1, 16))
    labelled = task in ("classification", "multi_label", "tagging")
    labels = draw(st.lists(names, min_size=2, max_size=9, unique=True)) if labelled else []
    return TransformerConfig(
        vocab_size=draw(st.integers(8, 200_000)),
        architecture=architecture,  # type: ignore[arg-type]
        width=heads * 2 * draw(st.integers(1, 64)),
        num_layers=draw(st.integers(1, 3)),
        num_heads=heads,
        feed_forward_width=draw(st.integers(1, 9000)),
        max_positions=draw(st.integers(1, 9000)),
        num_segments=draw(st.integers(0, 2)),
        positions=draw(st.sampled_from(["learned", "sinusoidal"])),
        activation=draw(st.sampled_from(["relu", "gelu", "gelu_tanh"])),
        norm_first=draw(st.booleans()),
        norm_embeddings=draw(st.booleans()),
        scale_embeddings=draw(st.booleans()),
        tied_embeddings=draw(st.booleans()),
        bos_id=1,
        eos_id=2,
        task=task,
        labels=tuple(labels),
        pooling=draw(st.sampled_from(["mean", "first", "last"])),
        pooler=draw(st.sampled_from(["none", "tanh", "relu"])),
    )


def labels_of(root: ElementTree.Element) -> list[tuple[float, float, float, float, str]]:
    """Left, top, right, bottom and content of every line of text on the page, by the estimate of its width."""
    found = []

    def gather(element: ElementTree.Element, x: float, y: float) -> None:
        if "transform" in element.attrib:
            dx, dy = re.findall(r"-?[\d.]+", element.attrib["transform"])
            x, y = x + float(dx), y + float(dy)
        if element.tag == f"{SVG}text" and element.text:
            size = float(element.attrib["font-size"])
            long = width(element.text, size, "font-weight" in element.attrib)
            left = (
                x + float(element.attrib["x"]) - long * {"middle": 0.5, "end": 1}.get(element.get("text-anchor", ""), 0)
            )
            baseline = y + float(element.attrib["y"])
            found.append((left, baseline - 0.8 * size, left + long, baseline + 0.2 * size, element.text))
        for child in element:
            gather(child, x, y)

    gather(root, 0.0, 0.0)
    return found


@settings(max_examples=80, deadline=None)
@given(config=configs(), name=names)
def test_any_model_is_drawn_whole_and_safely(config: TransformerConfig, name: str) -> None:
    model = on_meta(config)
    diagram = walk(model, name)
    svg, mermaid = to_svg(diagram), to_mermaid(diagram)
    assert (svg, mermaid) == (draw(model, name, "svg"), draw(on_meta(config), name, "mermaid")), "not deterministic"

    root = ElementTree.fromstring(svg.encode("utf-8"))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg", "title", "desc", "g", "rect", "circle", "path", "text",
    }  # fmt: skip
    attributes = {key for element in root.iter() for key in element.attrib}
    assert not {key for key in attributes if key.startswith("on") or key in ("style", "href", "class")}
    assert (root.findtext(f"{SVG}title") or "") == clean(name)
    assert "url(" not in svg

    lines = labels_of(root)
    assert len(lines) > 40
    wide, high = float(root.attrib["width"]), float(root.attrib["height"])
    for left, top, right, bottom, text in lines:
        assert left >= 0 and top >= 0 and right <= wide and bottom <= high, f"{text!r} leaves the page"  # noqa: PT018
    for index, (left, top, right, bottom, text) in enumerate(lines):
        for other in lines[index + 1 :]:
            apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
            assert apart, f"{text!r} and {other[4]!r} overlap"

    for block in diagram.blocks:
        assert len(re.findall(rf"^ *{block.id}[\[(]", mermaid, re.MULTILINE)) == 1
    for line in mermaid.splitlines():
        assert line.count('"') in (0, 2), line
        assert not set("<>`%&") & set(re.sub(r"<br/>|[=.-]+>", "", line)), line
    assert not {unicodedata.category(mark) for mark in svg + mermaid if mark != "\n"} & {"Cc", "Cs"}


def test_hostile_names_lose_what_xml_forbids_and_keep_the_rest() -> None:
    kept = clean(HOSTILE)
    assert "電影評論 🎬👩‍👩‍👧" in kept
    assert not {"\x00", "\u202e", "\ud800"} & set(kept)
    assert clean("one\ntwo\t three") == "one two three"


def test_numbers_are_short_and_round_over_to_the_next_unit() -> None:
    numbers = (0, 1_536, 9_999, 10_000, 99_960, 999_400, 999_600, 2_362_368, 23_440_896, 109_514_298, 7 * 10**12)
    expected = ["0", "1,536", "9,999", "10.0K", "100K", "999K", "1.00M", "2.36M", "23.4M", "110M", "7.00T"]
    assert [compact(number) for number in numbers] == expected


# --- the command, the files in docs/, the route


def run_command(folder: Path, *arguments: str) -> None:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(required=True), Settings(home=folder))
    parsed = parser.parse_args(["diagram", *arguments])
    parsed.run(parsed)


@pytest.mark.parametrize("name", DRAWN)
def test_pictures_in_docs_are_what_the_code_draws(name: str, tmp_path: Path) -> None:
    run_command(tmp_path, name, "--output", str(tmp_path / "now.svg"))
    command = f"vitrine diagram {name} --output docs/diagrams/{name}.svg"
    kept = ROOT / "docs" / "diagrams" / f"{name}.svg"
    assert kept.read_bytes() == (tmp_path / "now.svg").read_bytes(), f"{kept.name} is stale; run: {command}"


def test_the_ending_of_the_file_is_its_format(tmp_path: Path) -> None:
    for ending, form in (("svg", "svg"), ("mmd", "mermaid")):
        run_command(tmp_path, DRAWN[0], "--output", str(tmp_path / f"a.{ending}"))
        run_command(tmp_path, DRAWN[0], "--output", str(tmp_path / "b.txt"), "--format", form)
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / "b.txt").read_bytes()
    with pytest.raises(ValueError, match=r"x\.pdf: a diagram is written as \.svg or \.mmd"):
        run_command(tmp_path, DRAWN[0], "--output", str(tmp_path / "x.pdf"))
    assert not (tmp_path / "x.pdf").exists()


def test_command_draws_a_folder_and_says_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BENTOML_HOME", raising=False)
    folder = tmp_path / "my-model"
    folder.mkdir()
    model = TextModel(CLASSIFIER)
    (folder / CONFIG_FILE).write_text(json.dumps(model.config.to_dict()), encoding="utf-8")
    run_command(tmp_path, str(folder), "--format", "mermaid")
    assert capsys.readouterr().out == draw(model, "my-model", "mermaid")
    with pytest.raises(ValueError, match=r"'nothing' does not exist.*presets: transformer-base"):
        run_command(tmp_path, "nothing")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """The application with one model in its store; nothing of it runs beside the requests."""
    home = tmp_path_factory.mktemp("diagram")
    folder = home / "model"
    folder.mkdir()
    (folder / CONFIG_FILE).write_text(json.dumps(CLASSIFIER.to_dict()), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("BENTOML_HOME", raising=False)
        app, gate = create_app(Settings(home=home, run_worker=False))
        app.state.parts.registry.store.publish(folder, "ft:tiny/a:1", "diagram:1", "tiny", None)
        return TestClient(gate, base_url="http://localhost")


PATH = "/v1/models/ft:tiny/a:1/diagram"


@pytest.mark.parametrize(("query", "accept", "form"), [
    ("", "*/*", "svg"),
    ("", "image/avif,image/webp,image/svg+xml,image/*,*/*;q=0.8", "svg"),
    ("", "text/plain", "mermaid"),
    ("", "text/vnd.mermaid", "mermaid"),
    ("?format=svg", "text/plain", "svg"),
    ("?format=mermaid", "image/svg+xml", "mermaid"),
])  # fmt: skip
def test_route_draws_by_format_and_accept(client: TestClient, query: str, accept: str, form: str) -> None:
    answer = client.get(PATH + query, headers={"accept": accept})
    assert answer.status_code == 200, answer.text
    assert answer.text == draw_config(CLASSIFIER, "ft:tiny/a:1", form)  # type: ignore[arg-type]
    types = {"svg": "image/svg+xml", "mermaid": "text/plain; charset=utf-8"}
    assert answer.headers["content-type"] == types[form]
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_route_refuses_other_formats_and_unknown_models(client: TestClient) -> None:
    wrong = client.get(f"{PATH}?format=png")
    assert wrong.status_code == 400
    assert wrong.json()["error"]["param"] == "format"
    assert "'svg' or 'mermaid'" in wrong.json()["error"]["message"]
    assert client.get("/v1/models/none/diagram").status_code == 404
    assert client.get(PATH.removesuffix("/diagram")).json()["id"] == "ft:tiny/a:1"


def test_openapi_declares_both_formats(client: TestClient) -> None:
    documented = client.get("/openapi.json").json()["paths"]["/v1/models/{model_id}/diagram"]["get"]
    assert {"image/svg+xml", "text/plain"} <= documented["responses"]["200"]["content"].keys()
