"""Mistakes of users, each in a process of its own: every one ends in a sentence or works, and none in a traceback.

python tests/hardness/mistakes.py
"""

import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from subprocess import TimeoutExpired

TESTS = Path(__file__).parents[1]
if __name__ == "__main__":
    sys.path[:0] = [str(TESTS / "helpers"), str(TESTS), str(TESTS.parent)]
    import conftest  # noqa: F401 (no network, and caches in a temporary folder)

import datasets  # noqa: E402
import numpy as np  # noqa: E402
import soundfile  # noqa: E402
from checkpoints_of import write_checkpoint  # noqa: E402
from emogator_copies import CLIP  # noqa: E402
from fake_runs import write_run  # noqa: E402
from forks import Fork  # noqa: E402
from huggingface_hub.constants import HF_HUB_CACHE  # noqa: E402
from tiny import CONFIGS, clips  # noqa: E402
from transformers import BertConfig, BertForSequenceClassification  # noqa: E402

# root without its capabilities owns its files as everybody does, and may not read what it has locked; the end is that
# of the interpreter but for its taking all modules apart, which in a fork copies their memory and takes seconds
COMMAND = """
import ctypes, os, sys, traceback
if sys.platform == "linux":
    ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
from hf_vivae_cli import app
code = 1
try:
    app(prog_name="hf-vivae")
except SystemExit as end:
    code = end.code or 0
except BaseException:
    traceback.print_exc()
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)
"""
SENTENCE, WORKS, TRACEBACK, HANG, OTHER = "sentence", "works", "traceback", "hang", "other"
ENDLESS = 60  # seconds after which a command counts as one that never ends; all of them take a few
SOME_FAILED = 3  # exit code of predict
NOTES = ("in fold ", "no report: ")  # lines below a sentence that tell where it happened
SHOWN = 110  # characters of a sentence in the table
ERROR = re.compile(r"[\w.]+(Error|Exception|NotFound)\b")  # the line of a traceback that names it
RATE = 16000
MLP = json.dumps(CONFIGS["mlp"])
VIT = json.dumps(CONFIGS["vit-32-30"])
CORPUS = "--data folder --data_dir ../corpus"
TRAIN = f"train {CORPUS} --protocol random-80-20 --num_train_epochs 1 --disable_tqdm true --output_dir run"
TRAIN_MLP = f"{TRAIN} --model mlp --model_config '{MLP}'"
EVALUATE = f"evaluate {CORPUS} --output_dir scores"
ABSENT_TRACKER = next(name for name in ("wandb", "comet_ml", "clearml", "dvclive") if find_spec(name) is None)


@dataclass(frozen=True)
class Mistake:
    """A command line that cannot be meant, or whose inputs cannot be used.

    Args:
        what: the mistake.
        command: words behind `hf-vivae` as in a shell; the folder it runs in lies beside those of `make_inputs`.
        says: words of the sentence, or of the output of what works, that tell what is wrong.
        ends: how it shall end, `sentence` or `works`.
        variables: of the environment, whose values may hold `{root}`, the folder of the inputs.
    """

    what: str
    command: str
    says: str
    ends: str = SENTENCE
    variables: Mapping[str, str] = field(default_factory=dict)


# in the groups of the review that counted them; the first of each group ended in a traceback then, or never
FORMER = {
    "predict": 13,
    "timeline, explain, export, demo, doctor": 7,
    "train": 13,
    "evaluate, explore, push, reproduce, search, ablate": 5,
    "corpora, label maps, curves, predictions of others": 0,  # added after the review
}
MISTAKES = {
    "predict": (
        Mistake("config.json cut", "predict ../cut ../corpus", "/config.json"),
        Mistake("model.safetensors cut", "predict ../half ../corpus", "expected whole weights"),
        Mistake("config.json of BERT", "predict ../letters ../corpus", "bert"),
        Mistake("unknown model_type", "predict ../newer ../corpus", "nosuch_net"),
        Mistake("unknown feature extractor", "predict ../deaf ../corpus", "NoSuchFeatureExtractor"),
        Mistake("labels that do not fit the head", "predict ../relabelled ../corpus",
                "shapes that its config.json states"),
        Mistake("a GPU that is not there", "predict ../good ../corpus --device cuda:7", "cuda:7"),
        Mistake("no name of a device", "predict ../good ../corpus --device gpu", "gpu"),
        Mistake("output below a file", "predict ../good ../corpus --output ../notes.txt/x.csv", "notes.txt"),
        Mistake("a dataset that is not there", "predict ../good --dataset ../nowhere", "nowhere"),
        Mistake("a split that is not there", "predict ../good --dataset ../tables --split tset", "tset"),
        Mistake("a dataset of loose WAV", "predict ../good --dataset ../loose --output x.csv",
                "2 clips scored", WORKS),
        Mistake("output in /proc", "predict ../good ../corpus --output /proc/x.csv", "/proc"),
        Mistake("a clip that is not there", "predict ../good ../none.wav", "none.wav"),
        Mistake("a folder without clips", "predict ../good ../empty", "expected clips in the folder"),
        Mistake("output as .doc", "predict ../good ../corpus --output x.doc", "x.doc"),
        Mistake("checkpoint misspelt", "predict goood ../corpus", "'goood'"),
        Mistake("a Hub id without network", "predict someone/nothing ../corpus", "HF_HUB_OFFLINE"),
        Mistake("a damaged table", "predict ../good ../damaged.parquet", "expected a table of parquet"),
        Mistake("output that is an input", "predict ../good ../tables/train.parquet --output ../tables/train.parquet",
                "expected a new file as --output"),
        Mistake("a flag misspelt", "predict ../good ../corpus --dvice cpu", "--dvice"),
    ),
    "timeline, explain, export, demo, doctor": (
        Mistake("weights not readable", "timeline ../locked ../clip.wav", "Permission denied"),
        Mistake("output below a file, .csv", "timeline ../good ../clip.wav --output ../notes.txt/x.csv", "notes.txt"),
        Mistake("output below a file, .png", "timeline ../good ../clip.wav --output ../notes.txt/x.png", "notes.txt"),
        Mistake("picture below a file", "explain ../good ../clip.wav --output ../notes.txt/x.png", "notes.txt"),
        Mistake("export to a file", "export ../good ../notes.txt", "notes.txt"),
        Mistake("a port above 65535", "demo ../good --port 99999", "99999"),
        Mistake("a negative seed", f"{TRAIN_MLP} --seed -1", "--seed"),
        Mistake("a recording that is not there", "timeline ../good ../none.wav", "none.wav, found none"),
        Mistake("a text as a recording", "timeline ../good ../text.wav", "no readable audio"),
        Mistake("an empty recording", "timeline ../good ../empty.wav", "empty.wav"),
        Mistake("a silent recording", "timeline ../good ../silent.wav", "found silence"),
        Mistake("a recording with NaN", "timeline ../good ../nan.wav", "NaN"),
        Mistake("a recording without a header", "timeline ../good ../noise.raw", "noise.raw"),
        Mistake("a folder without recordings", "timeline ../good ../empty", "expected recordings in the folder"),
        Mistake("a hop of 0", "timeline ../good ../clip.wav --hop 0", "--hop of at least 0.01"),
        Mistake("a window that is no number", "timeline ../good ../clip.wav --window soon", "--window"),
        Mistake("a timeline as .doc", "timeline ../good ../clip.wav --output x.doc", "x.doc"),
        Mistake("a clip of 10 ms", "explain ../good ../short.wav", "found 10 ms"),
        Mistake("a label misspelt", "explain ../good ../clip.wav --label angr", "did you mean anger?"),
        Mistake("an unknown method", "explain ../good ../clip.wav --method lime", "'lime'"),
        Mistake("gradients without a spectrogram", "explain ../mlp ../clip.wav --method gradient", "use occlusion"),
        Mistake("export of nothing", "export ../nowhere onnx", "'../nowhere'"),
        Mistake("a page of nothing", "demo ../nowhere", "'../nowhere'"),
        Mistake("a port that is no number", "demo ../good --port nine", "--port"),
        Mistake("an unknown flag of doctor", "doctor --fix", "--fix"),
        Mistake("an argument of doctor", "doctor now", "(now)"),
    ),
    "train": (
        Mistake("--config with a list as run", f"{TRAIN} --config ../settings.json", "'run': ['mlp']"),
        Mistake("--config of a binary file", f"{TRAIN} --config ../noise.raw", "noise.raw"),
        Mistake("hidden_sizes that are no numbers",
                f"""{TRAIN} --model mlp --model_config '{{"hidden_sizes": "x"}}'""", "hidden_sizes"),
        Mistake("no attention heads",
                f"""{TRAIN} --model vit-32-30 --model_config '{{"num_attention_heads": 0}}'""", "num_attention_heads"),
        Mistake("BERT by its Hub id", f"{TRAIN} --model someone/letters", "found a bert"),
        Mistake("BERT by its folder", f"{TRAIN} --model ../letters", "bert"),
        Mistake("config.json cut", f"{TRAIN} --model ../cut", "/config.json"),
        Mistake("model.safetensors cut", f"{TRAIN} --model ../half", "expected whole weights"),
        Mistake("an unknown tracker", f"{TRAIN_MLP} --report_to nosuch", "nosuch"),
        Mistake("a tracker that is not installed", f"{TRAIN_MLP} --report_to {ABSENT_TRACKER}", ABSENT_TRACKER),
        Mistake("DeepSpeed without its file", f"{TRAIN_MLP} --deepspeed nosuch.json", "deepspeed"),
        Mistake("an unknown compiler", f"{TRAIN_MLP} --torch_compile_backend nosuch", "nosuch"),
        Mistake("code of a checkpoint without consent", f"{TRAIN} --model ../evil", "--trust_remote_code"),
        Mistake("model misspelt", f"{TRAIN} --model mpl", "did you mean mlp?"),
        Mistake("a flag misspelt", f"{TRAIN} --modle mlp", "did you mean --model?"),
        Mistake("recipe misspelt", f"{TRAIN_MLP} --recipe tunned", "did you mean tuned?"),
        Mistake("protocol misspelt", f"{TRAIN_MLP} --protocol speaker-kfold", "speaker-kfold"),
        Mistake("task misspelt", f"{TRAIN_MLP} --task emotions", "emotions"),
        Mistake("epochs that are no number", f"{TRAIN_MLP} --num_train_epochs many", "'many'"),
        Mistake("no epochs", f"{TRAIN_MLP} --num_train_epochs 0", "--num_train_epochs"),
        Mistake("--model_config that is no JSON", f"{TRAIN} --model mlp --model_config '{{hidden: 1}}'",
                "expected JSON in --model_config"),
        Mistake("augmentation misspelt", f"""{TRAIN_MLP} --augment '{{"time_mask": 1}}'""",
                "did you mean time_masks?"),
        Mistake("a fold that is not there", f"{TRAIN_MLP} --folds 7", "--folds between 0 and 0"),
        Mistake("clips that are not there", f"{TRAIN_MLP} --data_dir ../nowhere", "expected a folder of labelled"),
        Mistake("a cache below a file", TRAIN_MLP, "notes.txt",
                variables={"HF_VIVAE_CACHE": "{root}/notes.txt/cache"}),
        Mistake("a negative learning rate", f"{TRAIN_MLP} --learning_rate -0.001", "learning_rate"),
        Mistake("run folder below a file", f"{TRAIN_MLP} --output_dir ../notes.txt/run", "notes.txt"),
        Mistake("clips with NaN", f"{TRAIN_MLP} --data_dir ../spoilt", "NaN"),
    ),
    "evaluate, explore, push, reproduce, search, ablate": (
        Mistake("run.json without predictions.parquet", f"{EVALUATE} ../unpredicted", "predictions.parquet"),
        Mistake("config.json cut", f"{EVALUATE} ../cut", "/config.json"),
        Mistake("model.safetensors cut", f"{EVALUATE} ../half", "expected whole weights"),
        Mistake("BERT", f"{EVALUATE} ../letters", "bert"),
        Mistake("predict into a folder without permission", "predict ../good ../corpus --output ../closed/x.csv",
                "Permission denied"),
        Mistake("runs that are not there", "evaluate ../nowhere", "found no folder ../nowhere"),
        Mistake("a folder without runs", "evaluate ../empty", "expected run folders of finished trainings"),
        Mistake("a run that is not finished", "evaluate ../unfinished", "no results.json"),
        Mistake("damaged predictions", "evaluate ../unreadable", "predictions.parquet"),
        Mistake("damaged results", "evaluate ../torn", "results.json"),
        Mistake("baseline misspelt", "evaluate ../runs --baseline mpl --output_dir scores", "expected the name of a"),
        Mistake("an ensemble of nothing", "evaluate ../runs --output_dir scores --ensemble nosuch", "as --ensemble"),
        Mistake("no run at all", "evaluate", "RUN"),
        Mistake("an unknown corpus", "evaluate ../good --data speech --output_dir scores", "speech"),
        Mistake("a task without a corpus", "evaluate ../runs --task valence", "expected --data together with --task"),
        Mistake("labels that a checkpoint does not know", "evaluate ../good --data folder --data_dir ../coughs "
                "--output_dir scores", "found cough, laugh"),
        Mistake("report below a file", "evaluate ../runs --output_dir ../notes.txt/scores", "notes.txt"),
        Mistake("report into a run folder", "evaluate ../own/1-of-3 --output_dir ../own/1-of-3", "run.json"),
        Mistake("a Hub id without network", f"{EVALUATE} someone/nothing", "HF_HUB_OFFLINE"),
        Mistake("clips that are not there", "explore --data folder --data_dir ../nowhere",
                "expected a folder of labelled"),
        Mistake("one class", "explore --data folder --data_dir ../lonely", "found only anger"),
        Mistake("a clip that is not in the corpus", f"explore {CORPUS} --output_dir out --clip none.wav", "none.wav"),
        Mistake("a negative threshold of silence", f"explore {CORPUS} --trim_db -3", "--trim_db above 0"),
        Mistake("a pattern with a bracket too many", f"explore {CORPUS} --speaker_pattern '('", "regular expression"),
        Mistake("metadata without labels", "explore --data folder --data_dir ../unnamed", "column label"),
        Mistake("metadata of clips that are not there", "explore --data folder --data_dir ../listed", "absent"),
        Mistake("metadata.parquet that is none", "explore --data folder --data_dir ../misnamed", "a parquet table"),
        Mistake("an archive that is none", "explore --data vivae --data_dir ../notes.zip", "notes.zip"),
        Mistake("a download while offline", "explore --data vivae --data_url http://127.0.0.1:9/VIVAE.zip",
                "HF_HUB_OFFLINE"),
        Mistake("an empty file among the clips", "explore --data folder --data_dir ../hollow", "0 bytes"),
        Mistake("repository without owner", "push ../runs --repo mine", "expected --repo owner/name"),
        Mistake("a run that is not there", "push ../nowhere --repo someone/it", "no folder ../nowhere"),
        Mistake("a run and a dataset", "push ../runs --dataset --repo someone/it", "a run folder or --dataset"),
        Mistake("a dataset without a licence", f"push --dataset {CORPUS} --repo someone/it", "--license"),
        Mistake("push without a token", "push ../runs --repo someone/it --yes", "HF_TOKEN"),
        Mistake("an unknown model", f"reproduce {CORPUS} --quick true --models resnet", "resnet"),
        Mistake("patches with an x", f"reproduce {CORPUS} --quick true --patches 32x30", "'32x30'"),
        Mistake("no trials", f"search {CORPUS} --model mlp --trials 0", "--trials of 1 or more"),
        Mistake("a space that is not there", f"search {CORPUS} --model mlp --space ../nowhere.yaml", "nowhere.yaml"),
        Mistake("a space that is no YAML", f"search {CORPUS} --model mlp --space ../settings.yaml", "settings.yaml"),
        Mistake("an unknown ingredient", f"ablate {CORPUS} --model vit-32-30 --ingredients salt", "'salt'"),
    ),
    "corpora, label maps, curves, predictions of others": (
        Mistake("no MP3 of EmoGator", "explore --data emogator --data_dir ../corpus", "named as 000001-03-1.mp3"),
        Mistake("a part of EmoGator", "explore --data emogator --data_dir ../part", "6425 missing"),
        Mistake("MP3s of other names", "explore --data emogator --data_dir ../renamed", "1 with other names (a.mp3)"),
        Mistake("a category misspelt", "explore --data emogator --data_dir ../part --categories anger Awe",
                "did you mean Anger?"),
        Mistake("EmoGator while offline", "explore --data emogator", "HF_HUB_OFFLINE"),
        Mistake("a dataset without its name", "explore --data hub", "--dataset_name"),
        Mistake("a dataset that is not there", "explore --data hub --dataset_name someone/nothing", "HF_HUB_OFFLINE"),
        Mistake("a dataset without labels", "explore --data hub --dataset_name ../tables", "--label_column"),
        Mistake("a dataset without audio", "explore --data hub --dataset_name ../silence.parquet", "--audio_column"),
        Mistake("several columns of audio", "explore --data hub --dataset_name ../stereo.parquet", "2 (left, right)"),
        Mistake("a corrupt clip in a dataset", "explore --data hub --dataset_name ../corrupt.parquet",
                "--on_bad_audio skip"),
        Mistake("an option of another corpus", f"explore {CORPUS} --dataset_split test", "found --dataset_split"),
        Mistake("a label map of other labels", f"explore {CORPUS} --label_map ../others.yaml", "found none of them"),
        Mistake("a label map without a label", f"explore {CORPUS} --label_map ../short.yaml", "found none for fear"),
        Mistake("a label map that is not there", f"explore {CORPUS} --label_map ../none.yaml", "none.yaml"),
        Mistake("a label map that is a list", f"explore {CORPUS} --label_map ../settings.json", "settings.json"),
        Mistake("two corpora without a common label",
                "evaluate --cross ../good --data folder --data_dir ../coughs --output_dir scores", "--label_map"),
        Mistake("every run on no corpus", "evaluate --cross ../good", "expected --data for each corpus"),
        Mistake("two corpora without --cross", f"evaluate ../good --data noise {CORPUS}", "add --cross"),
        Mistake("predictions on other corpora", f"evaluate --cross ../bands.csv {CORPUS} --output_dir scores",
                "predictions of another program"),
        Mistake("predictions that are no probabilities", "evaluate ../bands.csv --output_dir scores", "row 1"),
        Mistake("splits that a corpus lacks", f"{TRAIN_MLP} --protocol given", "--data hub"),
        Mistake("folds over a text", f"train {CORPUS} --protocol random-80-20 --write_folds ../notes.txt",
                "notes.txt"),
        Mistake("a curve without speakers", f"curve {CORPUS} --model mlp --output_dir out", "--speaker_pattern"),
        Mistake("more speakers than there are",
                f"curve {CORPUS} --speaker_pattern '^(S.)_' --model mlp --speakers 9 --output_dir out", "found 9"),
    ),
}  # fmt: skip


def make_inputs(root: Path) -> None:
    """Write all that the commands name as `../name`; each of the damaged ones is damaged in one way."""
    _make_sounds(root)
    _make_corpora(root)
    _make_checkpoints(root)
    _make_runs(root)
    (root / "notes.txt").write_text("no folder\n")
    (root / "notes.zip").write_text("no archive\n")
    (root / "settings.json").write_text(json.dumps({"run": ["mlp"], "training": {}}))
    (root / "settings.yaml").write_text("learning_rate: {low: 1e-5\n")
    (root / "others.yaml").write_text("cough: fear\nlaugh: anger\n")
    (root / "short.yaml").write_text("anger: anger\nlaugh: fear\n")
    (root / "bands.csv").write_text("file,label,p_anger,p_fear\nS0_0.wav,anger,4.2,-1.3\n")
    (root / "empty").mkdir()
    (root / "closed").mkdir(mode=0o555)


def _make_sounds(root: Path) -> None:
    sound = clips(RATE, count=1)[0]
    for name, samples in {
        "clip": sound, "silent": np.zeros(RATE), "nan": np.full(RATE, np.nan), "short": sound[: RATE // 100],
    }.items():  # fmt: skip
        soundfile.write(root / f"{name}.wav", samples, RATE, subtype="FLOAT")
    (root / "text.wav").write_text("no sound\n")
    (root / "empty.wav").touch()
    (root / "noise.raw").write_bytes((sound * 2**15).astype("<i2").tobytes())
    (root / "loose").mkdir()
    for number in range(2):
        shutil.copy(root / "clip.wav", root / "loose" / f"{number}.wav")
    (root / "tables").mkdir()
    table = datasets.Dataset.from_dict({"audio": [str(root / "clip.wav")] * 2})
    table.cast_column("audio", datasets.Audio(decode=False)).to_parquet(root / "tables" / "train.parquet")
    labels = {"label": ["anger", "fear"]}
    datasets.Dataset.from_dict(labels).to_parquet(root / "silence.parquet")
    sound = {"path": "clip.wav", "bytes": (root / "clip.wav").read_bytes()}
    for name, columns in {
        "stereo": {"left": [sound, sound], "right": [sound, sound]},
        "corrupt": {"audio": [sound, {"path": "bad.wav", "bytes": b"RIFF"}]},
    }.items():
        table = datasets.Dataset.from_dict(columns | labels)
        for column in columns:
            table = table.cast_column(column, datasets.Audio(decode=False))
        table.to_parquet(root / f"{name}.parquet")
    for name, file in {"part": "000001-03-1.mp3", "renamed": "a.mp3"}.items():
        (root / name).mkdir()
        (root / name / file).write_bytes(CLIP)
    (root / "damaged.parquet").write_bytes((root / "tables" / "train.parquet").read_bytes()[:-100])


def _make_corpora(root: Path) -> None:
    def write(name: str, labels: Sequence[str]) -> Path:
        for number, sound in enumerate(clips(RATE, count=16)):
            file = root / name / labels[number % len(labels)] / f"S{number % 4}_{number}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(file, sound, RATE)
        return root / name

    write("corpus", ["anger", "fear"])
    write("lonely", ["anger"])
    write("coughs", ["cough", "laugh"])
    shutil.copy(root / "nan.wav", write("spoilt", ["anger", "fear"]) / "anger")
    (write("hollow", ["anger", "fear"]) / "fear" / "S1_0.wav").touch()
    (write("unnamed", ["anger", "fear"]) / "metadata.csv").write_text("file,feeling\nanger/S0_0.wav,anger\n")
    (write("listed", ["anger", "fear"]) / "metadata.csv").write_text("file,label\nanger/none.wav,anger\n")
    (write("misnamed", ["anger", "fear"]) / "metadata.parquet").write_text("file,label\nanger/S0_0.wav,anger\n")


def _make_checkpoints(root: Path) -> None:
    good = write_checkpoint(root / "good")
    write_checkpoint(root / "mlp", "mlp")
    bert = BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        max_position_embeddings=8,
    )  # fmt: skip
    cached, commit = Path(HF_HUB_CACHE, "models--someone--letters"), "0" * 40
    BertForSequenceClassification(bert).save_pretrained(cached / "snapshots" / commit)
    (cached / "refs").mkdir(exist_ok=True)
    (cached / "refs" / "main").write_text(commit)

    def damage(name: str, file: str, content: bytes | dict) -> None:
        path = shutil.copytree(good, root / name) / file
        if isinstance(content, dict):
            kept = json.loads(path.read_text())
            kept.pop("auto_map", None)  # else the classes that it names are loaded, whatever the type
            content = json.dumps(kept | content).encode()
        path.write_bytes(content)

    damage("cut", "config.json", (good / "config.json").read_bytes()[:100])
    damage("half", "model.safetensors", (good / "model.safetensors").read_bytes()[:2000])
    damage("letters", "config.json", json.dumps(bert.to_dict()).encode())
    damage("newer", "config.json", {"model_type": "nosuch_net"})
    damage("deaf", "preprocessor_config.json", {"feature_extractor_type": "NoSuchFeatureExtractor"})
    damage(
        "relabelled", "config.json", {"id2label": {"0": "cough", "1": "laugh"}, "label2id": {"cough": 0, "laugh": 1}}
    )
    (shutil.copytree(good, root / "locked") / "model.safetensors").chmod(0)
    (root / "evil").mkdir()
    mapped = {"AutoConfig": "evil.EvilConfig", "AutoModelForAudioClassification": "evil.Evil"}
    (root / "evil" / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": mapped}))
    (root / "evil" / "evil.py").write_text("raise SystemExit('executed')\n")


def _make_runs(root: Path) -> None:
    write_run(root / "runs")
    write_run(root / "own")
    (unfinished,) = write_run(root / "unfinished", folds=[0])
    (unfinished / "results.json").unlink()
    (unreadable,) = write_run(root / "unreadable", folds=[0])
    (unreadable / "predictions.parquet").write_text("no table\n")
    (torn,) = write_run(root / "torn", folds=[0])
    (torn / "results.json").write_text('{"fold": ')
    shutil.copytree(root / "good", root / "unpredicted")
    record = json.loads((root / "runs" / "1-of-3" / "run.json").read_text())
    record["run"] |= {"select_on": "validation", "resample": True}
    (root / "unpredicted" / "run.json").write_text(json.dumps(record))


@dataclass(frozen=True)
class End:
    """The end of a mistake.

    Args:
        kind: `sentence`, `works`, `traceback`, `hang`, or `other`: it failed with no sentence or with several.
        sentence: or the error of a traceback, or all that was printed by what works.
    """

    kind: str
    sentence: str

    def is_right(self, mistake: Mistake) -> bool:
        """Return whether a user is helped, as the mistake says."""
        return self.kind == mistake.ends and mistake.says in self.sentence


def run_mistake(root: Path, mistake: Mistake, before: str = "") -> End:
    """The end of a mistake, in a folder of its own beside the inputs; its process runs the code `before` first."""
    folder = tempfile.mkdtemp(dir=root)
    variables = {name: value.format(root=root) for name, value in mistake.variables.items()}
    fork = Fork(shlex.split(mistake.command), code=before + COMMAND, env=os.environ | variables, cwd=Path(folder))
    try:
        printed, errors = fork.communicate(ENDLESS)
    except TimeoutExpired:
        fork.wait()
        return End(HANG, "")
    return classify(fork.returncode, printed, errors)


def classify(code: int, printed: str, errors: str) -> End:
    """The end that an exit code and both outputs are."""
    lines = [line for line in errors.splitlines() if line.strip()]
    last = lines[-1] if lines else f"exit code {code}, and nothing said"
    sentences = [line for line in lines if line.startswith("error: ")]
    alone = len(sentences) == 1 and all(line.startswith(NOTES) for line in lines[lines.index(sentences[0]) + 1 :])
    if "Traceback (most recent call last)" in errors + printed:
        return End(TRACEBACK, next((line for line in reversed(lines) if ERROR.match(line)), last))
    if code == 0:
        return End(WORKS, printed + errors)
    if code == 1 and alone:
        return End(SENTENCE, sentences[0])
    if code == SOME_FAILED and not sentences and lines:
        return End(SENTENCE, last)
    if code == 2 and lines and lines[0].startswith("Usage: ") and last.startswith("Error: "):
        return End(SENTENCE, last)
    return End(OTHER, last)


def main() -> int:
    """Print the table; the exit code, 1 where a traceback or a hang is left."""
    listed = [(group, mistake) for group, mistakes in MISTAKES.items() for mistake in mistakes]
    counts: Counter[str] = Counter()
    print("| number | group | mistake | end | sentence |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        make_inputs(root)
        for number, (group, mistake) in enumerate(listed, 1):
            end = run_mistake(root, mistake)
            counts[end.kind] += 1
            shown = " ".join(end.sentence.replace(f"{root}/", "").split())[:SHOWN].replace("|", "\\|")
            note = "" if end.is_right(mistake) else f" (expected {mistake.ends}: {mistake.says})"
            print(f"| {number} | {group} | {mistake.what} | {end.kind}{note} | {shown} |", flush=True)
    print(f"\n{len(listed)} mistakes: {', '.join(f'{count} {kind}' for kind, count in counts.most_common())}")
    return int(any(counts[kind] for kind in (TRACEBACK, HANG, OTHER)))


if __name__ == "__main__":
    sys.exit(main())
