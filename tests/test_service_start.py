"""What a start of the service loads: seconds for who starts it, in each of its processes."""

import argparse
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from service.__main__ import INTERRUPTED
from service.command import COMMANDS, parser_of
from service.errors import InvalidRequest
from service.serve_cli import check_port, run_serve
from service.settings import Settings
from tests.conftest import ROOT, free_port, new_home

TRAINING = ("torch._dynamo", "sympy", "scipy", "sklearn", "datasets", "pandas", "transformers")


@pytest.mark.parametrize(
    ("process", "unwanted"),
    [
        ("service.app", TRAINING),  # answers requests
        ("service.main", ("torch", *TRAINING)),  # BentoML's own, which starts those
        ("service.command", ("torch", *TRAINING)),  # `vitrine serve`, which becomes BentoML's; `vitrine models list`
        ("service.data_cli", ("torch", "sklearn", "transformers")),  # `vitrine data report`
        ("service.diagram_cli", TRAINING),
        ("service.jobs.process", ("torch", *TRAINING)),  # the job worker's, until there is work
    ],
)
def test_no_process_of_a_start_loads_what_it_does_not_need(
    tmp_path: Path, process: str, unwanted: tuple[str, ...]
) -> None:
    code = f"import sys, {process}; print([name for name in {unwanted} if name in sys.modules])"
    environment = os.environ | {"VITRINE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "[]\n", done.stderr


def test_a_set_up_that_finds_all_there_only_looks(tmp_path: Path, cache: Path) -> None:
    """As at every start of a service, but the first."""
    code = "import sys; from service.command import main; sys.argv = ['vitrine', 'setup']; main(); "
    code += f"print([name for name in {('torch', *TRAINING)} if name in sys.modules])"
    environment = os.environ | {"VITRINE_HOME": str(new_home(tmp_path, cache)), "VITRINE_DEMO_JOB": "false"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_a_model_is_loaded_and_taken_apart_without_the_compiler_of_torch(tmp_path: Path, minilm: Path) -> None:
    """Seconds and 70 MiB in each API process, and a pass on the meta device is enough to load it."""
    code = f"""
import sys
from pathlib import Path
import torch
from model.diagram import draw_config
from model.lora import AdapterBank
from model.weights import load_model
from service.engine.programs import Program
from service.formats import convert
model, tokenizer = load_model(Path({str(minilm)!r}))
bank = AdapterBank(model)
assert len(Program.of(model, torch.device("cpu"))) == 1
bank.plain(0)
draw_config(model.config, "minilm")
convert(model, tokenizer, "int8")
print([name for name in {TRAINING} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_help_and_unknown_commands_are_answered_without_torch(tmp_path: Path) -> None:
    """All commands are told, with the words that the modules which add them say themselves."""
    code = "import atexit, sys; atexit.register(lambda: print([name for name in ('torch',) if name in sys.modules])); "
    code += "from service.command import main; sys.argv = ['vitrine', {word!r}]; main()"
    told = {}
    for word in ("--help", "trian"):
        command = [sys.executable, "-c", code.format(word=word)]
        environment = os.environ | {"VITRINE_HOME": str(tmp_path), "COLUMNS": "200"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
        assert done.stdout.endswith("[]\n"), done.stderr
        told[word] = done.stdout + done.stderr
    every = {name for named in COMMANDS.values() for name in named}
    whole = parser_of(Settings(home=tmp_path), every)
    (commands,) = [action for action in whole._actions if isinstance(action, argparse._SubParsersAction)]
    assert every == commands.choices.keys()
    for action in commands._choices_actions:
        assert re.search(rf"^ +{action.dest} +{re.escape(str(action.help))}$", told["--help"], re.MULTILINE), (
            action.dest
        )
    assert "invalid choice: 'trian'" in told["trian"]
    assert "finetune" in told["trian"]


@pytest.mark.parametrize(
    ("loaded", "words"),
    [
        ("service.command", ["jobs", "list"]),
        ("service.remote_cli", ["jobs", "list"]),
        ("torch", ["models", "export", "a", "b"]),
    ],
)
def test_ctrl_c_ends_a_command_without_a_traceback_while_it_is_loaded_too(
    tmp_path: Path, loaded: str, words: list[str]
) -> None:
    code = f"""
import runpy, sys
class CtrlC:
    def find_spec(self, name, path, target=None):
        if name == {loaded!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, CtrlC())
sys.argv = ["vitrine", *{words}]
runpy.run_module("service", run_name="__main__")
"""
    environment = os.environ | {"VITRINE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (INTERRUPTED, "vitrine: interrupted\n")


def start(tmp_path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service", "serve", "--port", str(free_port())]
    environment = os.environ | {"VITRINE_HOME": str(tmp_path)} | settings
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)


def test_wrong_settings_are_named_a_line_each_without_their_values(tmp_path: Path) -> None:
    done = start(tmp_path, VITRINE_DEVICE="tpu", VITRINE_API_WORKERS="0", VITRINE_DATABASE="my:secret")
    assert done.returncode == 1
    assert sorted(line.split(": ")[1] for line in done.stderr.splitlines()) == [
        "VITRINE_API_WORKERS", "VITRINE_DATABASE", "VITRINE_DEVICE",
    ]  # fmt: skip
    assert "'cpu' or 'cuda'" in done.stderr
    assert "secret" not in done.stderr + done.stdout


@pytest.mark.parametrize("port", [-1, 0, 65_536])
def test_a_port_that_there_is_not_is_refused(tmp_path: Path, port: int) -> None:
    with pytest.raises(InvalidRequest, match=f"--port is {port}; choose from 1 to 65535"):
        run_serve(Settings(home=tmp_path), "127.0.0.1", port)


def test_a_port_that_is_taken_is_refused_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.serve_cli.IN_USE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            InvalidRequest, match=rf"port {port} of 127.0.0.1 can't be served \(Address already in use\)"
        ):
            run_serve(Settings(home=tmp_path), "127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_a_port_that_is_let_go_in_a_moment_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    """As by the processes that answer, when the one that started them was killed and another is started at once."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        threading.Timer(1.0, taken.close).start()
        check_port("127.0.0.1", port)
        assert taken.fileno() == -1
    assert capsys.readouterr().out == f"  port {port} is in use; waiting up to 15 s for what has it to end\n"


def test_settings_that_do_not_fit_this_host_end_the_start(tmp_path: Path) -> None:
    """BentoML would start the process that refuses them again and again."""
    done = start(tmp_path, VITRINE_DTYPE="int8", VITRINE_DEVICE="cuda")
    assert "int8 needs a CPU with AVX2" in done.stderr + done.stdout
    assert done.returncode == 1
