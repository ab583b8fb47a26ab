"""A web page that labels a clip: dropped, picked or recorded. It is served by this machine."""

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

from ..corpus import EMOTIONS
from ..corpus.manifest import SAMPLING_RATE, read_manifest
from ..corpus.synthetic import synthesize_clip
from ..models import LogMelFeatureExtractor
from ..reporting.plots import BLUE, blank_figure
from ..validation import UserError
from .scorer import Scorer
from .sources import LONGEST_CLIP
from .timeline import BLOCK_SECONDS, Recording, Timeline, Windows, find_segments, make_timeline, timeline_figure

if TYPE_CHECKING:
    from gradio import Blocks
    from matplotlib.figure import Figure


LONG = 3.0  # seconds from which a clip has a timeline
LONGEST = 600.0  # of a recording that the page takes; `hf-vivae timeline` takes any
MOST_SAMPLES = 2**26  # of all channels, which are 256 MiB in memory; 10 minutes of 48 kHz stereo are 57,600,000
NARROW = 5.5  # inches, so that axes are readable on a phone
KEPT_SECONDS = 300  # for how long a file stays that was dropped or recorded: as long as it can be played
SWEEP_SECONDS = 60  # how often older ones are looked for
GONE_MINUTES = (KEPT_SECONDS + SWEEP_SECONDS) // 60
WAITING = 20  # requests for an answer, of which one is computed at a time; what comes on top is refused
LIMITS = (
    "The model chooses one of the labels that it was trained on, for any sound: speech, music and noise get one, too. "
    "A label is nothing that could be read off a person. The model must not decide on people."
)
# corpus -> what the page says of a checkpoint trained on it
ORIGINS = {
    "synthetic": "Trained on synthetic clips, which a program made. It has never heard a human voice, and what it "
    "answers to one means nothing.",
    "noise": "Trained on white noise, as a control. Nothing that it answers means anything.",
    "vivae": "Trained on VIVAE, in which speakers portray emotions (CC BY-NC 4.0: no commercial use).",
    "vivae-core": "Trained on VIVAE's core set, in which speakers portray emotions (CC BY-NC 4.0: no commercial use).",
    "folder": "Trained on clips of whoever made this checkpoint, of which it says no more.",
}
GENERATED = ("synthetic", "noise")
DELETED = (
    f"expected a clip that is still here, found one that has been deleted, as all are within {GONE_MINUTES} minutes; "
    "drop or record it again."
)


def build_demo(checkpoints: Sequence[str], examples: Sequence[Path] = (), local: bool = True) -> "Blocks":
    """The page.

    Args:
        checkpoints: folders or Hub ids, the first chosen at the start.
        examples: clips to try, which are synthetic.
        local: whether the machine that serves it is its user's own, which the page says.
    """
    import gradio

    where = "Sound stays on this machine" if local else "Sound is sent here and scored"
    where = f"{where}, and is deleted within {GONE_MINUTES} minutes."
    gradio.set_static_paths(list(examples))  # else they are copied to where clips are deleted, and go with them
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
                picture = gradio.Plot(label="What was heard", show_label=False, visible=False)
        timeline = gradio.Plot(label="What is heard when", show_label=False, visible=False)
        segments = gradio.HTML(visible=False, elem_id="segments")
        outputs = [bars, picture, timeline, segments]
        gradio.on(
            [page.load, sound.change, choice.change], _answer, [sound, choice], outputs, api_visibility="private",
            trigger_mode="always_last",  # else a clip that comes while another answer is under way gets none
        )  # fmt: skip
    return page.queue(max_size=WAITING, default_concurrency_limit=1)


def run_demo(checkpoints: Sequence[str], port: int | None) -> int:
    """Serve the page until Ctrl-C or SIGTERM; the exit code."""
    if find_spec("gradio") is None:
        raise UserError(
            "expected gradio, which hf-vivae demo needs, found none; pip install 'hf_vivae[demo]' and repeat the "
            "command."
        )
    from .demo_server import check_port, launch

    if port is not None:
        check_port(port)
    scorer_of(checkpoints[0])  # a checkpoint that is not there is said here, and not to whoever opens the page
    for name in ("SIGTERM", "SIGHUP"):  # end it as Ctrl-C does, else recordings stay; Windows has only the first
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores the second
            signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="hf_vivae-") as folder:  # which only this user may enter
        os.environ["GRADIO_TEMP_DIR"] = folder
        launch(build_demo(checkpoints, write_examples(Path(folder))), port)
    return 0


def write_examples(folder: Path) -> list[Path]:
    """A synthetic clip of each emotion as WAV in a folder."""
    files = []
    for emotion in EMOTIONS:
        row = next(row for row in read_manifest() if (row["emotion"], row["intensity"]) == (emotion, "strong"))
        files.append(folder / f"synthetic_{emotion}.wav")
        soundfile.write(files[-1], synthesize_clip(row["file_name"]), SAMPLING_RATE)
    return files


@lru_cache(maxsize=2)
def scorer_of(checkpoint: str) -> Scorer:
    """A checkpoint, of which the last two stay in memory."""
    return Scorer(checkpoint)


def _answer(path: str | None, checkpoint: str) -> tuple[Any, Any, Any, Any]:
    """Bars, the clip's picture, and for a long one its timeline, drawn and in words; or, for bars, what is amiss."""
    import gradio

    hidden = gradio.update(value=None, visible=False)
    try:
        scorer = scorer_of(checkpoint)
        if path is None:
            return _message("Drop, pick or record a clip.") + _origin(scorer), hidden, hidden, hidden
        recording = Recording.open(Path(path))
        _check_size(recording)
        samples, rate = _hear_beginning(scorer, recording), scorer.sampling_rate
        (scores,) = scorer.score([{"array": samples, "sampling_rate": rate}])
        if isinstance(scores, ValueError):
            raise UserError(str(scores)) from scores
        long = make_timeline(scorer, recording, Windows()) if recording.seconds > LONG else None
        over_time = gradio.update(value=timeline_figure(long, NARROW), visible=True) if long else hidden
    except (UserError, soundfile.SoundFileError) as error:
        deleted = path is not None and not Path(path).is_file()  # which can happen at any of the lines above
        if not deleted and not isinstance(error, UserError):
            raise
        return _message(DELETED if deleted else str(error)), hidden, hidden, hidden
    shown = gradio.update(value=clip_figure(samples, rate), visible=True)
    words = gradio.update(value=_segments(long), visible=True) if long else hidden
    cut = len(samples) / rate if len(samples) / rate < recording.seconds - 0.05 else None
    return _bars(scorer, scores, cut), shown, over_time, words


def _check_size(recording: Recording) -> None:
    """Refuse by its header what would take minutes or gigabytes."""
    if recording.seconds > LONGEST:
        minutes, seconds = divmod(math.ceil(recording.seconds), 60)
        raise UserError(
            f"expected up to {LONGEST / 60:g}:00 minutes, found {minutes}:{seconds:02d}; hf-vivae timeline takes "
            "recordings of any length."
        )
    samples = round(recording.seconds * recording.sampling_rate) * soundfile.info(recording.path).channels
    if samples > MOST_SAMPLES:
        raise UserError(
            f"expected up to {MOST_SAMPLES:,} samples in all channels, found {samples:,}; save it as stereo of 48 kHz."
        )


def _hear_beginning(scorer: Scorer, recording: Recording) -> np.ndarray:
    """A recording as far as the model hears it, `(samples,)`; what is beyond `LONGEST_CLIP` is not decoded."""
    if recording.seconds <= LONGEST_CLIP:
        return scorer.load_audio(str(recording.path))
    rate = scorer.sampling_rate
    blocks = islice(recording.blocks(rate), math.ceil(LONGEST_CLIP / BLOCK_SECONDS))
    samples = np.concatenate(list(blocks))[: round(rate * LONGEST_CLIP)]
    return scorer.load_audio({"array": samples, "sampling_rate": rate, "path": recording.path})


def _bars(scorer: Scorer, scores: np.ndarray, cut: float | None) -> str:
    """Bars, the likeliest first; `cut` is how many seconds of a longer clip were heard."""
    order = np.argsort(-scores)
    rows = "".join(
        f'<span class="{"best" if rank == 0 else ""}" id="label-{place}">{escape(scorer.labels[place])}</span>'
        f'<meter min="0" max="1" value="{scores[place]:.4f}" aria-labelledby="label-{place}"></meter>'
        f'<span class="score">{scores[place]:.0%}</span>'
        for rank, place in enumerate(order)
    )
    if scorer.temperature is None:
        note = "Probabilities are as the network gives them, most likely too sure: this checkpoint was not calibrated."
    else:
        note = f"Calibrated on validation clips (temperature {scorer.temperature:.2f})."
    if cut is not None:
        note = f"This model hears the first {cut:.1f} s of a clip. {note}"
    return f'<div class="bars">{rows}</div>{_origin(scorer)}<p>{note}</p>'


def _origin(scorer: Scorer) -> str:
    """Return HTML on what the checkpoint was trained on; one of generated clips must not look like one of people."""
    corpus = str(scorer.training_corpus)
    text = ORIGINS.get(corpus, "This checkpoint does not say what it was trained on.")
    return _message(text) if corpus in GENERATED else f"<p>{text}</p>"


def _segments(timeline: Timeline) -> str:
    """What the timeline's picture shows, for those who do not see it."""
    rows = "".join(
        f"<li>{one.start:.2f} s to {one.end:.2f} s: {escape(one.label)} ({one.score:.0%})</li>"
        for one in find_segments(timeline)
    )
    return f"<details><summary>What is heard when, in words</summary><ol>{rows}</ol></details>"


def _message(text: str) -> str:
    return f'<div class="message" role="status">{escape(text)}</div>'


MEL_BANDS, FFT, HOP = 64, 1024, 256
RANGE_DB = 80


def clip_figure(samples: np.ndarray, rate: int) -> "Figure":
    """Waveform above, mel spectrogram below.

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
