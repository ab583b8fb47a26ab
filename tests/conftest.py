"""No test uses the network or writes outside a temporary folder; both must be settled before any import."""

import atexit
import gc
import os
import shutil
import sys
import tempfile

HOME = os.environ.get("HF_VIVAE_TESTS")  # the first process of pytest makes it, and its workers share the caches in it
if HOME is None:
    HOME = os.environ["HF_VIVAE_TESTS"] = tempfile.mkdtemp(prefix="hf_vivae-tests-")
    atexit.register(shutil.rmtree, HOME, ignore_errors=True)
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HOME": os.path.join(HOME, "huggingface"),
    "HF_VIVAE_CACHE": os.path.join(HOME, "hf_vivae"),
    "OMP_NUM_THREADS": "1",  # tests run side by side, and two threads on each core are slower than one
    # convolutions of the few channels of these models are wrong in bfloat16 where the processor has AMX, and never end
    # in float16 where it has AVX512-FP16 (oneDNN of torch 2.12 to 2.15; those of real encoders are right)
    "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16",
}

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each new process compiles the package again

from collections import Counter, defaultdict  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402

# the first process of pytest loads this file and runs no test: what takes seconds to import is imported by fixtures
if TYPE_CHECKING:
    from loopback_hub.server import HubServer
    from resolving import Client

    from hf_vivae.corpus import Corpus

RATE = 44100
# files whose tests take longest: they start first, so that at the end no process works on one alone
LONGEST = (
    "hub/test_push.py",
    "reproduction/test_study.py",
    # before the exports, after which torch's autograd refuses to work in a fork
    "search/test_search_study.py",
    "search/test_search_stops.py",
    "inference/test_export.py",
    "test_processes.py",
    "test_version.py",
    "cli/test_cli.py",
    "ablation/test_ablation.py",
    "corpus/test_synthetic.py",
    "inference/test_demo_server.py",
    "models/test_models.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Give files to the processes in the order of their collection, not by their number of tests."""
    config.option.loadscopereorder = False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object | None:
    """Give all files of `hub/` to one process: they share a Hub, and the imports of processes that use it."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/hub" if nodeid.startswith("tests/hub/") else super()._split_scope(nodeid)

    return Scheduling(config, log) if config.option.dist == "loadfile" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order files by time, and the others by their number of tests."""
    folder = config.rootpath / "tests"
    places = {folder / name: place for place, name in enumerate(LONGEST)}
    counts = Counter(item.path for item in items)
    items.sort(key=lambda item: (places.get(item.path, len(places)), -counts[item.path]))


def tone(emotion: int, speaker: int, rng: np.random.Generator) -> np.ndarray:
    """A clip of 0.3 to 1.2 s, `(samples,)`, whose overtones depend on the emotion and whose pitch on the speaker."""
    seconds = np.arange(int(RATE * rng.uniform(0.3, 1.2))) / RATE
    pitch = 180 + 30 * speaker + 5 * rng.standard_normal()
    partials = (0.2 * np.sin(2 * np.pi * pitch * k * seconds) for k in (1, 2 + emotion, 9 + 2 * emotion))
    return sum(partials) + 0.02 * rng.standard_normal(len(seconds))


@pytest.fixture(scope="session")
def tiny_vivae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `full_set/`: two takes of 4 speakers and 6 emotions, 48 of VIVAE's names."""
    import soundfile

    from hf_vivae.corpus import EMOTIONS, INTENSITIES
    from hf_vivae.corpus.manifest import read_manifest

    root = tmp_path_factory.mktemp("tiny_vivae")
    (root / "full_set").mkdir()
    takes = defaultdict(list)
    for row in read_manifest():
        takes[row["speaker"], row["emotion"], row["intensity"]].append(row["file_name"])
    rng = np.random.default_rng(0)
    for speaker in range(4):
        for index, emotion in enumerate(EMOTIONS):
            key = f"S{speaker + 1:02d}", emotion, INTENSITIES[(speaker + index) % 4]
            for name in takes[key][:2]:
                soundfile.write(root / "full_set" / name, tone(index, speaker, rng), RATE, subtype="PCM_16")
    return root


@pytest.fixture(scope="session")
def whole_vivae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 1085 names, with a very short sound in each."""
    from vivae_copies import CLIP, NAMES

    folder = tmp_path_factory.mktemp("whole") / "VIVAE" / "full_set"
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_bytes(CLIP)
    return folder.parent


@pytest.fixture
def short_vivae(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published lengths of VIVAE's clips are those of `whole_vivae` during a test."""
    import hf_vivae.corpus.generated  # noqa: F401 - copies two of the lengths when it is imported
    from hf_vivae.corpus import manifest

    for name in ("SHORTEST", "MEDIAN", "MEAN", "LONGEST"):
        monkeypatch.setattr(manifest, name, 2205)


@pytest.fixture
def broken_vivae(whole_vivae: Path, tmp_path: Path) -> Path:
    """All 1085 names that a test may spoil: the same files by hard links."""
    shutil.copytree(whole_vivae, tmp_path / "VIVAE", copy_function=lambda a, b: Path(b).hardlink_to(a))
    return tmp_path / "VIVAE"


@pytest.fixture(scope="session")
def dataset_repos(tiny_vivae: Path, tmp_path_factory: pytest.TempPathFactory) -> "dict[str, tuple[Corpus, Path]]":
    """Corpora by name, each with its dataset repository."""
    from dataset_repos import write_all

    from hf_vivae.corpus import read_vivae

    return write_all(read_vivae(tiny_vivae, allow_partial=True), tmp_path_factory.mktemp("repos"))


@pytest.fixture(scope="module", autouse=True)
def quick_garbage_collection() -> None:
    """Studies and searches collect garbage after each training; among all imports that takes longer than one."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def quick_curves() -> Iterator[None]:
    """Trainings of this process write pictures of a dot; `reporting/test_figures.py` and processes draw theirs."""
    from PIL import Image

    def save_dots(history: object, folder: Path, *more: object) -> None:
        for name in ("loss", "accuracy"):
            Image.new("RGB", (1, 1)).save(folder / f"{name}.png")

    trainer = sys.modules.get("hf_vivae.training.trainer")  # None where no file of tests trains
    with pytest.MonkeyPatch.context() as patch:
        if trainer is not None:
            patch.setattr(trainer, "save_curves", save_dots)
        yield


@contextmanager
def _without_pictures() -> Iterator[None]:
    from matplotlib.figure import Figure
    from PIL import Image

    def save(self: Figure, file: Path, **kwargs) -> None:
        Image.new("RGB", (1, 1)).save(file, format="png")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        yield


@pytest.fixture(scope="module")
def no_pictures() -> Iterator[None]:
    """Figures are made and not drawn, which takes longer than to train a tiny model: for files that look at none."""
    with _without_pictures():
        yield


@pytest.fixture
def undrawn() -> Iterator[None]:
    """The same for a test of a file in which others look at pictures."""
    with _without_pictures():
        yield


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Client]":
    """A process that resolves checkpoints, and a Hub of its own."""
    from loopback_hub.server import HubServer
    from resolving import Client

    with HubServer() as hub:
        client = Client(hub, tmp_path_factory.mktemp("home"))
        yield client
        client.process.communicate()


@pytest.fixture(scope="session")
def hub() -> "Iterator[HubServer]":
    """A Hub on loopback, on which each test has repositories of its own; clients have its `environment`."""
    from loopback_hub.server import HubServer

    with HubServer() as server:
        yield server


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """Start servers of archives on loopback; see `archive_server.Server` for the arguments."""
    import threading

    import huggingface_hub.constants
    from archive_server import Server

    from hf_vivae.corpus import download

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    servers = []

    def start(*arguments, **options) -> Server:
        servers.append(Server(*arguments, **options))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
