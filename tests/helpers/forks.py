"""New processes without six seconds of imports: forks of one that has imported everything and done nothing else.

A fork has a command line, a working folder, variables and standard streams of its own, as a new interpreter has. What
libraries read from variables while they are imported is the first process's, so there is one for each set of those.
"""

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# runs what a line asks for in a fork and answers with its pid, or says how a fork has ended: null while it has not
SERVER = """
import atexit, gc, json, os, runpy, signal, sys, tempfile, threading
import datasets, huggingface_hub.hf_api, matplotlib.figure, peft, sklearn.linear_model, timm, transformers.trainer
import hf_vivae.hub.model_card, hf_vivae.hub.push, hf_vivae.training.run

gc.collect()
gc.freeze()
job = None
for line in sys.stdin:
    ask = json.loads(line)
    if isinstance(ask, int):
        pid, status = os.waitpid(ask, os.WNOHANG)
        print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
    elif pid := os.fork():
        print(pid, flush=True)
    else:
        job = ask
        break
if job is not None:
    for number, name in enumerate(job["streams"]):
        os.dup2(os.open(name, os.O_WRONLY if number else os.O_RDONLY), number)
    sys.stdin = open(0, closefd=False)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    sys.argv[:] = job["argv"]
    tempfile.tempdir = None  # which some import may have looked up
    status = 1
    try:
        if job["code"] is None:
            sys.path[0] = os.path.dirname(sys.argv[0])
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            exec(compile(job["code"], "<string>", "exec"), {"__name__": "__main__"})
        status = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        else:
            status = end.code or 0
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
    # as the interpreter ends, but for its taking all modules apart, which copies their memory and takes seconds
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
"""
# variables that libraries read while they are imported, and others named so that are read each time
AT_IMPORT = ("HF_", "HUGGING", "TRANSFORMERS_", "OMP_", "ONEDNN_", "PYTHON")
LATER = ("HF_TOKEN", "HF_VIVAE_CACHE")
_servers: dict[str, subprocess.Popen] = {}


class Fork:
    """A process under way, with the methods of `subprocess.Popen`, and of text as there with `text=True`.

    Args:
        argv: a script and its arguments; with `code`, what `sys.argv` is.
        code: Python code that is run in place of a script, as by `python -c`.
        input: what standard input holds.
        env: all of its variables; those of this process by default.
        cwd: its working folder; that of this process by default.
    """

    def __init__(
        self,
        argv: Sequence[Any],
        code: str | None = None,
        input: str = "",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.args, self.returncode = [str(word) for word in argv], None
        env = dict(os.environ if env is None else env)
        self._server = _server(env)
        folder = tempfile.mkdtemp(prefix="fork-")
        # silently, whenever the garbage is collected: in a test, the warning of TemporaryDirectory may be an error
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._streams = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
        for stream, text in zip(self._streams, (input, "", ""), strict=True):
            stream.write_text(text)
        words = self.args if code is None else ["-c", *self.args]
        streams = [str(path) for path in self._streams]
        job = {"argv": words, "code": code, "env": env, "cwd": str(cwd or Path.cwd()), "streams": streams}
        self.pid = self._ask(job)

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._ask(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        ends = math.inf if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > ends:
                self.kill()
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.005)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        return tuple(path.read_text() for path in self._streams[1:])

    def _ask(self, question: dict[str, Any] | int) -> int | None:
        self._server.stdin.write(json.dumps(question) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


def fork_group(argv: Sequence[Any], processes: int, code: str | None = None) -> list[Fork]:
    """Processes of one group, with the variables that `torchrun` gives them; see `Fork`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    group |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    return [
        Fork(argv, code, env=os.environ | group | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(processes)
    ]


def run_forked(argv: Sequence[Any], check: bool = False, **more: Any) -> subprocess.CompletedProcess:
    """Run a script or code to its end, as `subprocess.run` does; the arguments are those of `Fork`."""
    fork = Fork(argv, **more)
    output = fork.communicate()
    done = subprocess.CompletedProcess(fork.args, fork.returncode, *output)
    if check:
        done.check_returncode()
    return done


def _server(env: Mapping[str, str]) -> subprocess.Popen:
    read = {name: env[name] for name in sorted(env) if name.startswith(AT_IMPORT) and name not in LATER}
    key = json.dumps(read)
    if key not in _servers:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        _servers[key] = subprocess.Popen([sys.executable, "-c", SERVER], env=dict(env), **pipes)
    return _servers[key]
