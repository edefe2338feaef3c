"""`vitrine files`, `vitrine jobs` and the remote part of `vitrine models`: a service elsewhere, by its URL."""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from service.remote import Remote
from service.settings import Settings
from service.watch import watch_job

Parsers = Any  # what argparse's add_subparsers returns
JOBS = "/v1/fine_tuning/jobs"
ENDED = ("succeeded", "failed", "cancelled")
SUBMIT_OPTIONS: dict[
    str, tuple[str, Any, str]
] = {  # by option: field of the API, kind of value, meaning; as of `finetune`, whose table comes with torch
    "task": ("task", ("classification", "multi_label", "regression", "tagging"), "what to learn"),
    "method": ("training_method", ("fine_tune", "few_shot"), "for up to 64 rows a label there is a way of its own"),
    "adapter": ("adapter", ("auto", "full", "lora"), "train the whole model, or low-rank adapters and the head"),
    "lora-rank": ("lora_rank", int, "width of the adapters"),
    "max-length": ("max_length", int, "tokens a row; longer rows are cut"),
    "class-weights": ("class_weights", ("none", "balanced"), "whether every class gets the same say"),
    "metric": ("metric", str, "held-out figure that decides which weights are kept"),
    "patience": ("early_stopping", int, "evaluations without a better figure that end the run"),
    "evaluation-steps": ("evaluation_steps", int, "steps between evaluations"),
    "first-evaluation": ("first_evaluation", int, "step from which on held-out rows are scored"),
    "dropout": ("dropout", float, "share of the values that is set to zero while training"),
    "average-share": ("average_share", float, "share of the steps over which weights are averaged, to be kept"),
}


def add_commands(commands: Parsers, _: Settings) -> None:
    """Adds `files` and `jobs`."""
    files = commands.add_parser("files", help="files of a running service: upload, list, delete").add_subparsers(
        dest="action", required=True
    )
    upload = _remote(files, "upload", "send rows to train on; waits until they are checked", _upload)
    upload.add_argument("paths", nargs="+", type=Path, metavar="file")
    _remote(files, "list", "uploaded files and results, newest first", _list_files)
    _remote(files, "delete", "delete a file", _delete_file).add_argument("file", help="its id, file-...")
    jobs = commands.add_parser("jobs", help="fine-tuning jobs of a running service").add_subparsers(
        dest="action", required=True
    )
    submit = _remote(jobs, "submit", "tune a model on a file of rows", _submit)
    submit.add_argument("--model", default="minilm-l6", help="the base; default: minilm-l6")
    submit.add_argument("--train", required=True, help="a file here, or the id of an uploaded one")
    submit.add_argument("--validation", help="the same, for held-out rows; default: a part of the training rows")
    submit.add_argument("--suffix", help="a word for the model's name")
    submit.add_argument("--epochs", type=int)
    submit.add_argument("--batch-size", type=int)
    submit.add_argument("--learning-rate-multiplier", type=float)
    submit.add_argument("--seed", type=int)
    submit.add_argument("--priority", type=int)
    for option, (name, kind, meaning) in SUBMIT_OPTIONS.items():
        choices, cast = (kind, str) if isinstance(kind, tuple) else (None, kind)
        submit.add_argument(f"--{option}", dest=name, type=cast, choices=choices, help=meaning)
    submit.add_argument("--watch", action="store_true", help="stay and show how it goes")
    _remote(jobs, "list", "jobs, newest first", _list_jobs)
    watch = _remote(jobs, "watch", "progress and curve of a job, live, until it has ended", _watch)
    watch.add_argument("job", help="its id, ftjob-...")
    for action, words in (
        ("cancel", "end a job; what it has learned is kept"),
        ("pause", "take a job out of the queue, or from its worker after the step it is in"),
        ("resume", "let a paused job go on from that step"),
    ):
        _remote(jobs, action, words, _act(action)).add_argument("job", help="its id, ftjob-...")


def add_model_commands(actions: Parsers) -> None:
    """Adds what `models` does at a running service."""
    _remote(actions, "remote-list", "the models of a running service", _list_models)
    promote = _remote(actions, "promote", "let an alias stand for a model of a running service", _promote)
    promote.add_argument("model")
    promote.add_argument("alias")
    promote.add_argument("--metric", help="a held-out figure for the gate, for instance accuracy")
    promote.add_argument("--at-least", type=float, help="refuse a figure below")
    promote.add_argument("--beats-current", action="store_true", help="refuse a figure not above the present model's")
    _remote(actions, "rollback", "let an alias stand for the model before", _roll_back).add_argument("alias")
    _remote(actions, "card", "what a tuned model was made from and how good it is", _card).add_argument("model")
    _remote(actions, "delete", "delete a tuned model of a running service", _delete_model).add_argument("model")


def _remote(
    actions: Parsers, name: str, words: str, run: Callable[[Remote, argparse.Namespace], None]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=words)
    parser.add_argument("--url", help="the service; default: VITRINE_URL, or http://localhost:3000")
    parser.set_defaults(run=lambda arguments: run(Remote(arguments.url), arguments))
    return parser


def _upload(remote: Remote, arguments: argparse.Namespace) -> None:
    for path in arguments.paths:
        print(_line_of_file(_checked(remote, remote.upload(path)["id"])))


def _checked(remote: Remote, file_id: str) -> dict[str, Any]:
    """The file, once the service has looked into it. Raises ValueError with its faults."""
    while (file := remote.get(f"/v1/files/{file_id}"))["status"] == "uploaded":
        time.sleep(0.3)
    if file["status"] == "error":
        raise ValueError(f"{file['filename']} can't be used: {file['status_details']}")
    for warning in file.get("warnings") or []:
        print(f"warning: {file['filename']}: {warning}", file=sys.stderr)
    return file


def _line_of_file(file: Mapping[str, Any]) -> str:
    rows = f"{file['num_rows']:,} rows for {file['task']}" if file.get("num_rows") else file["purpose"]
    return f"{file['id']}  {file['status']}  {file['bytes']:,} bytes  {rows}  {file['filename']}"


def _list_files(remote: Remote, _: argparse.Namespace) -> None:
    for file in remote.pages("/v1/files"):
        print(_line_of_file(file))


def _delete_file(remote: Remote, arguments: argparse.Namespace) -> None:
    print(f"{remote.delete(f'/v1/files/{arguments.file}')['id']} is deleted")


def _submit(remote: Remote, arguments: argparse.Namespace) -> None:
    body: dict[str, Any] = {"model": arguments.model, "training_file": _file_id(remote, arguments.train)}
    if arguments.validation:
        body["validation_file"] = _file_id(remote, arguments.validation)
    wanted = {
        "n_epochs": arguments.epochs,
        "batch_size": arguments.batch_size,
        "learning_rate_multiplier": arguments.learning_rate_multiplier,
    }
    body["hyperparameters"] = {name: value for name, value in wanted.items() if value is not None}
    for name in ("suffix", "seed", "priority", *(name for name, _, _ in SUBMIT_OPTIONS.values())):
        if getattr(arguments, name) is not None:
            body[name] = getattr(arguments, name)
    job = remote.post(JOBS, body)
    print(_line_of_job(job))
    if arguments.watch:
        _end(watch_job(remote, job["id"]))


def _file_id(remote: Remote, given: str) -> str:
    """Of a file that is here, uploaded now, or of one that is there."""
    path = Path(given)
    if path.is_file():
        return str(_checked(remote, remote.upload(path)["id"])["id"])
    if not given.startswith("file-"):
        raise ValueError(f"{given!r} is neither a file here nor the id of an uploaded one (file-...)")
    return given


def _line_of_job(job: Mapping[str, Any]) -> str:
    progress = job.get("progress") or {}
    state = str(job["status"])
    if progress.get("finishing"):
        state += ", all steps done"
    elif state == "running" and progress.get("total_steps"):
        state += f" {100 * progress['step'] // progress['total_steps']}%"
    if job.get("queue_position"):
        state += f", place {job['queue_position']}"
    return f"{job['id']}  {state}  {job['fine_tuned_model'] or job['model']}"


def _list_jobs(remote: Remote, _: argparse.Namespace) -> None:
    for job in remote.pages(JOBS, limit=100):
        print(_line_of_job(job))


def _watch(remote: Remote, arguments: argparse.Namespace) -> None:
    _end(watch_job(remote, arguments.job))


def _end(job: Mapping[str, Any]) -> None:
    """A script sees by the exit status how a job ended."""
    if job["status"] == "failed":
        raise ValueError(f"the job failed: {(job.get('error') or {}).get('message', 'no reason was given')}")
    if job["status"] == "cancelled":
        raise ValueError("the job was cancelled")
    print(f"the model {job['fine_tuned_model']} is ready")


def _act(action: str) -> Callable[[Remote, argparse.Namespace], None]:
    return lambda remote, arguments: print(_line_of_job(remote.post(f"{JOBS}/{arguments.job}/{action}")))


def _list_models(remote: Remote, _: argparse.Namespace) -> None:
    for model in remote.get("/v1/models")["data"]:
        names = f" = {', '.join(model['aliases'])}" if model["aliases"] else ""
        print(f"{model['id']}{names}  {model['task']}  {model['architecture']}  {model['num_layers']}x{model['width']}")


def _promote(remote: Remote, arguments: argparse.Namespace) -> None:
    body: dict[str, Any] = {"alias": arguments.alias, "beats_current": arguments.beats_current}
    body |= {"metric": arguments.metric} if arguments.metric else {}
    body |= {"at_least": arguments.at_least} if arguments.at_least is not None else {}
    _tell_alias(remote.post(f"/v1/models/{arguments.model}/promote", body))


def _roll_back(remote: Remote, arguments: argparse.Namespace) -> None:
    _tell_alias(remote.post(f"/v1/models/{arguments.alias}/rollback"))


def _tell_alias(alias: Mapping[str, Any]) -> None:
    before = f"; before: {alias['previous']}" if alias["previous"] else ""
    print(f"{alias['id']} stands for {alias['model']}{before}")


def _card(remote: Remote, arguments: argparse.Namespace) -> None:
    print(remote.text(f"/v1/models/{arguments.model}/card"))


def _delete_model(remote: Remote, arguments: argparse.Namespace) -> None:
    print(f"{remote.delete(f'/v1/models/{arguments.model}')['id']} is deleted")
