"""Passes of one runtime over the same sentences, one each time it is told to. Runs in a virtual environment of its own,
which has nothing of ours; `bench_inference.py` makes that and calls this.

Reads lines: "pass" -> the seconds of one pass; "vectors FILE" -> writes mean-pooled unit vectors there. Texts are
tokenized before, length-sorted, in batches of 32; a pass counts what comes after.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

BATCH = 32


class Mean(torch.nn.Module):
    """A model of transformers with the pooling of all-MiniLM-L6-v2."""

    def __init__(self, folder):
        super().__init__()
        self.model = AutoModel.from_pretrained(folder, attn_implementation="sdpa").eval()

    def forward(self, input_ids, attention_mask, token_type_ids):
        hidden = self.model(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)[0]
        weight = attention_mask[..., None].to(hidden.dtype)
        return ((hidden * weight).sum(1) / weight.sum(1)).float()


def of_transformers(folder, dtype, _):
    model = Mean(folder).to(dtype=getattr(torch, dtype))

    def run(batch):
        with torch.inference_mode():
            return model(**batch).numpy()

    return run


def exported(folder, work):
    """The ONNX file of the model, made once."""
    path = Path(work) / "model.onnx"
    if not path.is_file():
        example = {name: torch.ones(2, 8, dtype=torch.int64) for name in INPUTS}
        axes = {name: {0: "batch", 1: "tokens"} for name in INPUTS} | {"vectors": {0: "batch"}}
        torch.onnx.export(
            Mean(folder), tuple(example.values()), str(path), input_names=list(INPUTS), output_names=["vectors"],
            dynamic_axes=axes, opset_version=17, dynamo=False,
        )  # fmt: skip
    return path


def of_onnxruntime(folder, dtype, work):
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = exported(folder, work)
    if dtype == "int8":
        quantized = path.with_name("model.int8.onnx")
        if not quantized.is_file():
            quantize_dynamic(path, quantized, weight_type=QuantType.QInt8, per_channel=True)
        path = quantized
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {name: tensor.numpy() for name, tensor in batch.items()})[0]


def of_openvino(folder, dtype, work):
    import openvino

    core = openvino.Core()
    hints = {"INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[dtype], "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(core.read_model(exported(folder, work)), "CPU", hints)
    return lambda batch: compiled({name: tensor.numpy() for name, tensor in batch.items()})[0]


def of_ctranslate2(folder, dtype, work):
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    path = Path(work) / "ctranslate2"
    if not path.is_dir():
        TransformersConverter(str(folder)).convert(str(path))
    encoder = ctranslate2.Encoder(str(path), compute_type=dtype, intra_threads=torch.get_num_threads())

    def run(batch):
        lengths = batch["attention_mask"].sum(1).tolist()
        rows = [row[:length] for row, length in zip(batch["input_ids"].tolist(), lengths, strict=True)]
        hidden = np.array(encoder.forward_batch(rows).last_hidden_state)
        weight = batch["attention_mask"].numpy()[..., None]
        return (hidden * weight).sum(1) / weight.sum(1)

    return run


INPUTS = ("input_ids", "attention_mask", "token_type_ids")
RUNTIMES = {
    "transformers": of_transformers, "onnxruntime": of_onnxruntime, "openvino": of_openvino,
    "ctranslate2": of_ctranslate2,
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", choices=RUNTIMES, required=True)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True, help="a JSON list")
    parser.add_argument("--work", type=Path, required=True, help="where converted models are kept")
    given = parser.parse_args()
    texts = json.loads(given.texts.read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(given.base)
    lengths = [len(ids) for ids in tokenizer(texts, truncation=True, max_length=512)["input_ids"]]
    order = sorted(range(len(texts)), key=lambda index: lengths[index])
    groups = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    batches = [
        dict(tokenizer([texts[i] for i in group], truncation=True, max_length=512, padding=True, return_tensors="pt"))
        for group in groups
    ]
    run = RUNTIMES[given.runtime](given.base, given.dtype, given.work)
    run(batches[0])
    print(json.dumps({"tokens": sum(lengths), "version": version_of(given.runtime)}), flush=True)
    for line in sys.stdin:
        if line.startswith("pass"):
            began = time.perf_counter()
            for batch in batches:
                run(batch)
            print(time.perf_counter() - began, flush=True)
        else:
            vectors = np.empty((len(texts), run(batches[0]).shape[1]), dtype=np.float32)
            for group, batch in zip(groups, batches, strict=True):
                vectors[group] = run(batch)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            np.save(line.split(maxsplit=1)[1].strip(), vectors)
            print("saved", flush=True)


def version_of(runtime):
    from importlib.metadata import version

    return f"{runtime} {version(runtime)}"


if __name__ == "__main__":
    main()
