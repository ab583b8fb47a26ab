"""A process that resolves checkpoints of the loopback Hub, for tests of the cache and the network."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from loopback_hub.server import HubServer
from loopback_hub.store import Repo

# resolves what each line asks for, in a process that knows the Hub of the test only
CLIENT = """
import json, logging, sys
from hf_vivae.checkpoints.resolve import resolve_checkpoint

class Keep(logging.Handler):
    def emit(self, record):
        warnings.append(record.getMessage())

logging.getLogger("hf_vivae").addHandler(Keep())
for line in sys.stdin:
    warnings = []
    try:
        found = {"folder": str(resolve_checkpoint(**json.loads(line)))}
    except ValueError as error:
        found = {"error": str(error)}
    print(json.dumps({**found, "warnings": warnings}), flush=True)
"""


class Client:
    """A process that resolves checkpoints, and the Hub that it asks."""

    def __init__(self, hub: HubServer, home: Path) -> None:
        self.hub, self.home = hub, home
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-c", CLIENT], env=hub.environment(home, None), **pipes)

    def __call__(self, repo: str, **named) -> dict:
        """Keys `warnings`, and `folder` or `error`."""
        self.process.stdin.write(json.dumps({"id_or_folder": repo, **named}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def push(self, repo: str, weights: str, branch: str = "main", **more: str) -> str:
        """A commit with these weights; its oid."""
        files = {"config.json": "{}", "model.safetensors": weights, **more}
        return self.repo(repo).commit(branch, "push", self.keep(files)).oid

    def repo(self, name: str) -> Repo:
        store = self.hub.store
        return store.repos.get(("model", name)) or store.create("model", name, private=False)

    def keep(self, files: Mapping[str, str]) -> dict[str, str]:
        """Return the Hub's ids of the contents of files."""
        return {path: self.hub.store.keep(text.encode()) for path, text in files.items()}

    def requests(self) -> list[tuple[str, str, int | None]]:
        """Those since the last call."""
        made = self.hub.log[:]
        self.hub.log.clear()
        return made
