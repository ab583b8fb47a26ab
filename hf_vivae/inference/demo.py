"""A web page that labels a clip, which is dropped, picked or recorded; this machine serves it."""

import math
import os
import signal
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from ..annotations.segment import Segment
from ..checkpoints.timeline_settings import timeline_settings
from ..corpus import EMOTIONS
from ..corpus.manifest import SAMPLING_RATE, read_manifest
from ..corpus.schema import GENERATED
from ..corpus.synthetic import synthesize_clip
from ..models import LogMelFeatureExtractor
from ..reporting.plots import BLUE, blank_figure
from ..validation import UserError
from .scorer import LONGEST_CLIP, Scorer
from .timeline import BLOCK_SECONDS, Recording, Windows, find_segments, make_timeline
from .timeline_figure import timeline_figure

if TYPE_CHECKING:
    from gradio import Blocks
    from matplotlib.figure import Figure


LONG = 3.0  # seconds above which a clip has a timeline
LONGEST = 600.0  # seconds of a recording at most; `hf-vivae timeline` takes any
MOST_SAMPLES = 2**26  # in all channels, 256 MiB in memory; 10 minutes of 48 kHz stereo are 57,600,000
NARROW = 5.5  # inches, so that axes are readable on a phone
KEPT_SECONDS = 300  # after which a dropped or recorded file is deleted; until then it can be played
SWEEP_SECONDS = 60  # between two searches for older files
GONE_MINUTES = (KEPT_SECONDS + SWEEP_SECONDS) // 60
WAITING = 20  # requests in the queue, of which one is computed at a time; further ones are refused
LIMITS = (
    "The model chooses one of the labels that it was trained on, for any sound: speech, music and noise get one, too, "
    "unless unknown is among its labels. "
    "A label is not evidence of what a person feels. The model must not decide on people."
)
# text of the page by the corpus that a checkpoint was trained on
ORIGINS = {
    "synthetic": "Trained on synthetic clips, which a program made, and on no human voice. Its labels of human voices "
    "mean nothing.",
    "noise": "Trained on white noise, as a control. Its labels mean nothing.",
    "vivae": "Trained on VIVAE, in which speakers portray emotions (CC BY-NC 4.0: no commercial use).",
    "vivae-core": "Trained on VIVAE's core set, in which speakers portray emotions (CC BY-NC 4.0: no commercial use).",
    "emogator": "Trained on EmoGator, in which speakers express emotions on request (Apache-2.0).",
    "folder": "Trained on clips of this checkpoint's author, without further information.",
    "segments": "Trained on segments of recordings of this checkpoint's author, without further information.",
}
DELETED = (
    f"expected a clip on this machine, found a deleted one (clips are deleted within {GONE_MINUTES} minutes); drop or "
    "record it again."
)


def build_demo(checkpoints: Sequence[str], examples: Sequence[Path] = (), local: bool = True) -> "Blocks":
    """Return the web page as a Gradio app.

    Args:
        checkpoints: folders or Hub ids; the first one is selected at the start.
        examples: synthetic clips to try.
        local: True where the user's own machine serves the page, which the page states.
    """
    import gradio

    where = "Sound stays on this machine" if local else "Sound is sent here and scored"
    where = f"{where}, and is deleted within {GONE_MINUTES} minutes."
    gradio.set_static_paths(list(examples))  # else they are copied to the folder of clips, and deleted
    with gradio.Blocks(title="hf_vivae", analytics_enabled=False, delete_cache=(SWEEP_SECONDS, KEPT_SECONDS)) as page:
        gradio.Markdown(f"# Emotion in non-verbal vocalisation\n{LIMITS} {where}")
        with gradio.Row():
            with gradio.Column():
                sound = gradio.Audio(sources=["upload", "microphone"], type="filepath", label="A clip", buttons=[])
                choice = gradio.Dropdown(list(checkpoints), value=checkpoints[0], label="Checkpoint")
                if examples:
                    gradio.Examples(
                        [[str(path)] for path in examples], sound, label="Synthetic examples, no human voices"
                    )
            with gradio.Column():
                bars = gradio.HTML(_message("Drop, pick or record a clip."), elem_id="bars")
                picture = gradio.Plot(label="Clip", show_label=False, visible=False)
        timeline = gradio.Plot(label="Labels over time", show_label=False, visible=False)
        segments = gradio.HTML(visible=False, elem_id="segments")
        outputs = [bars, picture, timeline, segments]
        gradio.on(
            [page.load, sound.change, choice.change], _answer, [sound, choice], outputs, api_visibility="private",
            trigger_mode="always_last",  # else a clip is ignored while another is being answered
        )  # fmt: skip
    return page.queue(max_size=WAITING, default_concurrency_limit=1)


def run_demo(checkpoints: Sequence[str], port: int | None) -> int:
    """Serve the page until Ctrl-C or SIGTERM, and return the exit code."""
    if find_spec("gradio") is None:
        raise UserError(
            "expected gradio, which hf-vivae demo needs, found none; pip install 'hf_vivae[demo]' and repeat the "
            "command."
        )
    from .demo_server import check_port, launch

    if port is not None:
        check_port(port)
    scorer_of(checkpoints[0])  # a missing checkpoint is an error of this command, not of the page
    for name in ("SIGTERM", "SIGHUP"):  # end as with Ctrl-C, else recordings stay; Windows has only the first
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores the second
            signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="hf_vivae-") as folder:  # accessible to this user alone
        os.environ["GRADIO_TEMP_DIR"] = folder
        launch(build_demo(checkpoints, write_examples(Path(folder))), port)
    return 0


def write_examples(folder: Path) -> list[Path]:
    """Write a synthetic clip of each emotion as WAV into a folder, and return the files."""
    files = []
    for emotion in EMOTIONS:
        row = next(row for row in read_manifest() if (row["emotion"], row["intensity"]) == (emotion, "strong"))
        files.append(folder / f"synthetic_{emotion}.wav")
        soundfile.write(files[-1], synthesize_clip(row["file_name"]), SAMPLING_RATE)
    return files


@lru_cache(maxsize=2)
def scorer_of(checkpoint: str) -> Scorer:
    """Return a checkpoint; the last two stay in memory."""
    return Scorer(checkpoint)


def _answer(path: str | None, checkpoint: str) -> tuple[Any, Any, Any, Any]:
    """Return bars or an error as HTML, the clip's figure, and for a long clip its timeline as figure and as HTML."""
    import gradio

    hidden = gradio.update(value=None, visible=False)
    try:
        scorer = scorer_of(checkpoint)
        if path is None:
            return _message("Drop, pick or record a clip.") + _origin(scorer), hidden, hidden, hidden
        recording = Recording.open(Path(path))
        _check_size(recording)
        samples, rate = _load_beginning(scorer, recording), scorer.sampling_rate
        (scores,) = scorer.score([{"array": samples, "sampling_rate": rate}])
        if isinstance(scores, ValueError):
            raise UserError(str(scores)) from scores
        over_time = as_text = hidden
        if recording.seconds > LONG:
            thresholds = timeline_settings(scorer.model.config)
            windows = Windows(thresholds.window, thresholds.hop, thresholds.gate_db)
            timeline = make_timeline(scorer, recording, windows)
            labelled = find_segments(timeline, thresholds.min_seconds, thresholds.min_score)
            over_time = gradio.update(value=timeline_figure(timeline, labelled, width=NARROW), visible=True)
            as_text = gradio.update(value=_segments(labelled), visible=True)
    except UserError as error:
        deleted = path is not None and not Path(path).is_file()  # possible at any of the lines above
        return _message(DELETED if deleted else str(error)), hidden, hidden, hidden
    picture = gradio.update(value=clip_figure(samples, rate), visible=True)
    cut = len(samples) / rate if len(samples) / rate < recording.seconds - 0.05 else None
    return _bars(scorer, scores, cut), picture, over_time, as_text


def _check_size(recording: Recording) -> None:
    """Refuse a recording that would take minutes or gigabytes by its header."""
    if recording.seconds > LONGEST:
        minutes, seconds = divmod(math.ceil(recording.seconds), 60)
        raise UserError(
            f"expected up to {LONGEST / 60:g}:00 minutes, found {minutes}:{seconds:02d}; hf-vivae timeline takes "
            "recordings of any length."
        )
    samples = round(recording.seconds * recording.sampling_rate) * recording.channels
    if samples > MOST_SAMPLES:
        raise UserError(
            f"expected up to {MOST_SAMPLES:,} samples in all channels, found {samples:,}; save it as stereo of 48 kHz."
        )


def _load_beginning(scorer: Scorer, recording: Recording) -> np.ndarray:
    """Return the part of a recording that the model takes, `(samples,)`, decoded up to `LONGEST_CLIP` seconds."""
    if recording.seconds <= LONGEST_CLIP:
        return scorer.load_audio(str(recording.path))
    rate = scorer.sampling_rate
    blocks = islice(recording.blocks(rate), math.ceil(LONGEST_CLIP / BLOCK_SECONDS))
    samples = np.concatenate(list(blocks))[: round(rate * LONGEST_CLIP)]
    return scorer.load_audio({"array": samples, "sampling_rate": rate, "path": recording.path})


def _bars(scorer: Scorer, scores: np.ndarray, cut: float | None) -> str:
    """Return bars as HTML, the likeliest first; `cut` is the number of seconds used of a longer clip."""
    order = np.argsort(-scores)
    rows = "".join(
        f'<span class="{"best" if rank == 0 else ""}" id="label-{index}">{escape(scorer.labels[index])}</span>'
        f'<meter min="0" max="1" value="{scores[index]:.4f}" aria-labelledby="label-{index}"></meter>'
        f'<span class="score">{scores[index]:.0%}</span>'
        for rank, index in enumerate(order)
    )
    if scorer.temperature is None:
        note = "Probabilities are those of the network, most likely overconfident: this checkpoint was not calibrated."
    else:
        note = f"Calibrated on validation clips (temperature {scorer.temperature:.2f})."
    if scorer.unknown is not None:
        note = f"Unknown: none of the other labels. {note}"
    if cut is not None:
        note = f"This model takes the first {cut:.1f} s of a clip. {note}"
    return f'<div class="bars">{rows}</div>{_origin(scorer)}<p>{note}</p>'


def _origin(scorer: Scorer) -> str:
    """Return the checkpoint's training corpus as HTML, with a warning for generated clips."""
    corpus = str(scorer.training_corpus)
    unknown = "This checkpoint does not state what it was trained on."
    if isinstance(scorer.training_corpus, str):  # of a checkpoint from elsewhere, it may be anything
        unknown = f"Trained on the dataset {escape(corpus)}, without further information."
    text = ORIGINS.get(corpus, unknown)
    return _message(text) if corpus in GENERATED else f"<p>{text}</p>"


def _segments(segments: Sequence[Segment]) -> str:
    """Return the content of the timeline's figure as HTML, for screen readers."""
    rows = "".join(
        f"<li>{segment.start:.2f} s to {segment.end:.2f} s: {escape(segment.label)} ({segment.score:.0%})</li>"
        for segment in segments
    )
    return f"<details><summary>Labels over time as text</summary><ol>{rows}</ol></details>"


def _message(text: str) -> str:
    return f'<div class="message" role="status">{escape(text)}</div>'


MEL_BANDS, FFT, HOP = 64, 1024, 256
RANGE_DB = 80


def clip_figure(samples: np.ndarray, rate: int) -> "Figure":
    """Return a figure of the waveform above the mel spectrogram.

    Args:
        samples: `(samples,)`.
        rate: in Hz.
    """
    figure = blank_figure(5.5, 4)
    above, below = figure.subplots(2, 1, sharex=True)
    seconds = len(samples) / rate
    above.plot(np.arange(len(samples)) / rate, samples, color=BLUE, linewidth=0.5)
    above.set(ylabel="amplitude", xlim=(0, seconds))
    extractor = LogMelFeatureExtractor(
        sampling_rate=rate, num_samples=max(len(samples), FFT), hop_length=HOP, fft_length=FFT, num_mel_bins=MEL_BANDS,
        top_db=RANGE_DB,
    )  # fmt: skip
    image = extractor.extract([samples])[0, 0]
    shown = below.imshow(image, origin="lower", aspect="auto", extent=(0, seconds, 0, MEL_BANDS), cmap="magma")
    below.set(xlabel="time (s)", ylabel="mel band")
    figure.colorbar(shown, ax=[above, below], label="dB")
    return figure
