"""The Trainer of transformers, as its users would call it: one run, one line of JSON. Runs in a virtual environment of
its own, which has nothing of ours; `bench_finetune.py` makes that and calls this."""

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)


class Rows(torch.utils.data.Dataset):
    """Tokenized rows with a class number each."""

    def __init__(self, path, tokenizer, labels, max_length):
        rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
        encoded = tokenizer([row["text"] for row in rows], truncation=True, max_length=max_length)
        self.items = [
            {"input_ids": ids, "attention_mask": mask, "labels": labels.index(row["label"])}
            for ids, mask, row in zip(encoded["input_ids"], encoded["attention_mask"], rows, strict=True)
        ]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Clock(TrainerCallback):
    """Seconds and held-out accuracy at each evaluation; seconds at each step."""

    def __init__(self):
        self.evaluations, self.steps = [], []

    def on_train_begin(self, *_, **__):
        self.began = time.perf_counter()

    def on_step_end(self, *_, **__):
        self.steps.append(time.perf_counter() - self.began)

    def on_evaluate(self, _arguments, state, _control, metrics, **__):
        self.evaluations.append([state.global_step, time.perf_counter() - self.began, metrics["eval_accuracy"]])


def accuracy(outputs):
    """Labels come from the same call: length grouping reorders the rows."""
    logits, labels = outputs
    return {"accuracy": float((np.argmax(logits, axis=-1) == labels).mean())}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", required=True)
    parser.add_argument("--train", required=True)
    parser.add_argument("--validation", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--max-length", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 and batches grouped by length")
    parser.add_argument("--by-length", action="store_true", help="batches grouped by length, in float32")
    parser.add_argument("--max-steps", type=int, default=-1, help="stop early and do not evaluate: for a rate")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", required=True)
    given = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    set_seed(given.seed)
    tokenizer = AutoTokenizer.from_pretrained(given.base)
    labels = sorted({json.loads(line)["label"] for line in Path(given.train).read_text(encoding="utf-8").splitlines()})
    train, validation, test = (
        Rows(path, tokenizer, labels, given.max_length) for path in (given.train, given.validation, given.test)
    )
    model = AutoModelForSequenceClassification.from_pretrained(given.base, num_labels=len(labels), dtype="float32")
    rate_only = given.max_steps > 0
    arguments = TrainingArguments(
        output_dir=given.output,
        per_device_train_batch_size=given.batch_size,
        per_device_eval_batch_size=64,
        learning_rate=given.learning_rate,
        warmup_steps=0.1,
        num_train_epochs=given.epochs,
        max_steps=given.max_steps,
        bf16=given.bf16,
        train_sampling_strategy="group_by_length" if given.bf16 or given.by_length else "random",
        use_cpu=given.device == "cpu",
        seed=given.seed,
        save_strategy="no",
        eval_strategy="no" if rate_only else "epoch",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_num_workers=0,
    )
    clock = Clock()
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=validation,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=accuracy,
        callbacks=[clock],
    )
    trainer.train()
    seconds = time.perf_counter() - clock.began
    result = {"seconds": seconds, "steps": clock.steps, "evaluations": clock.evaluations}
    if not rate_only:
        trainer.args.train_sampling_strategy = "random"  # else the rows to predict are reordered by length too
        logits, wanted = trainer.predict(test)[:2]
        result["right"] = (np.argmax(logits, axis=-1) == wanted).astype(int).tolist()
        result["confidence"] = torch.softmax(torch.from_numpy(logits).float(), dim=-1).max(dim=-1).values.tolist()
    result["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result["versions"] = {"transformers": transformers.__version__, "torch": torch.__version__}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
