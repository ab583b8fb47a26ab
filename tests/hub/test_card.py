"""Model cards: the whole text, its order, tables, links and code."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from fake_publications import OTHERS, publish, write_checkpoint
from fake_runs import clips
from huggingface_hub import ModelCard
from loopback_hub.card_rules import check_card
from markdown_it import MarkdownIt

from hf_vivae.hub.metadata import card_stem
from hf_vivae.hub.model_card import card_pictures, render_card
from hf_vivae.hub.publication import Publication
from hf_vivae.models import MODELS, PROBE, REGISTERED, split_name
from hf_vivae.training.recipes import parse_run

ROOT = Path(__file__).parents[2]
CARDS, EXPECTED = ROOT / "model_cards", Path(__file__).with_name("model_card_expected.md")
REPO = "someone/bursts"
SECTIONS = ["Input and output", "Use it", "Scores", "Training", "Intended use and limits"]
COMMAND = ["train.py", "--model", "vit-32-30", "--data_dir", "/home/anna/VIVAE.zip", "--output_dir=/home/anna/runs/a"]


def body(text: str) -> str:
    return ModelCard(text).text.strip()


def blocks(text: str, language: str) -> list[str]:
    return [token.content for token in MarkdownIt().parse(body(text)) if token.info == language]


@pytest.fixture(scope="module")
def publication(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("run"), corpus="vivae", count=216, command=COMMAND)


@pytest.fixture(scope="module")
def card(publication):
    return render_card(CARDS, REPO, publication)


def test_the_whole_card(card, tmp_path):
    found = tmp_path / "card.md"
    found.write_text(card, encoding="utf-8")
    assert card == EXPECTED.read_text(encoding="utf-8"), f"where this is meant: cp {found} {EXPECTED}"


def test_sections_come_in_the_order_that_readers_need(card):
    tokens = MarkdownIt().parse(body(card))
    titles = [text.content for heading, text in pairwise(tokens) if heading.type == "heading_open"]
    assert titles == ["vit-32-30 on VIVAE", *SECTIONS, "Citation"]
    assert check_card(card, "model") == ([], [])


def test_tables_are_whole_and_links_lead_somewhere(card, publication):
    lines = [line for line in body(card).splitlines() if line.startswith("|")]
    tokens = MarkdownIt("commonmark").enable("table").parse(body(card))
    assert sum(token.type == "tr_open" for token in tokens) + sum("---" in line for line in lines) == len(lines)
    assert {line.count("|") for line in lines} == {6, 7}
    children = [child for token in tokens for child in token.children or ()]
    targets = {child.attrs.get("href", child.attrs.get("src")) for child in children} - {None}
    pictures = {target for target in targets if not re.match(r"https://[\w.]+/\S+$", target)}
    assert pictures == card_pictures(publication).keys() == {"accuracy-by-group.png", "confusion.png"}
    assert all(child.content for child in children if child.type == "image"), "a picture without alternative text"


def test_no_folder_of_the_machine_gets_out(card, publication):
    assert "/home" not in card
    assert str(publication.checkpoint.parent) not in card
    (command,) = blocks(card, "bash")
    assert shlex.split(command) == [
        "python", "recipes/train.py", "--model", "vit-32-30", "--data_dir", "VIVAE.zip", "--output_dir=a",
    ]  # fmt: skip
    run, args = parse_run(shlex.split(command)[2:], ROOT / "recipes")
    assert (run.model, Path(run.data_dir).name, args.output_dir) == ("vit-32-30", "VIVAE.zip", "a")


def test_every_model_has_a_source():
    stems = {file.stem for file in CARDS.glob("*.yaml")}
    assert stems == {card_stem(model) for model in (*REGISTERED, *OTHERS)}
    assert stems == {*MODELS, "classic", "probe", "encoder", "other"}
    sources = {stem: yaml.safe_load((CARDS / f"{stem}.yaml").read_text()) for stem in MODELS}
    assert all(bool(source["base_model"]) is bool(MODELS[stem].pretrained) for stem, source in sources.items())


@pytest.mark.parametrize("model", [*MODELS, *OTHERS])
def test_the_card_of_every_model(model, tmp_path):
    command = ["train.py", "--model", model, "--data", "vivae"]
    text = render_card(CARDS, REPO, publish(tmp_path, model, "vivae", command=command, count=36))
    network = write_checkpoint(tmp_path / "again", model)
    fitted = 32 if model.startswith(PROBE) else 0  # mean and deviation of 16 dimensions, which are saved as well
    assert f"**Size**: {network.num_parameters() + fitted:,} parameters" in text
    use, short = blocks(text, "python")
    assert f'"audio-classification", "{REPO}"' in use
    assert f'hf_vivae.load_classifier("{REPO}")' in short
    assert len([line for line in use.splitlines() if line]) == 5 + ("samples[:" in use)
    for block in (use, short):
        compile(block, "card", "exec")
    library = model in ("wav2vec2", "someone/hubert-tiny")
    assert ("trust_remote_code" in text) is not library
    assert ("soundfile timm`" in text) is (model == "vit-base")
    (command,) = blocks(text, "bash")
    assert parse_run(shlex.split(command)[2:], ROOT / "recipes")[0].model == model
    starts = re.search(r"\*\*Starts from\*\* the weights of \[(.+?)\]", text)
    assert (starts and starts[1]) == ModelCard(text).data.base_model == base_of(model)


def base_of(model: str) -> str | None:
    return MODELS[model].pretrained if model in MODELS else split_name(model)[1]


@pytest.mark.parametrize("model", ["vit-32-30", "wav2vec2"])
def test_its_code_runs_and_gives_the_scores_of_ours(model, tmp_path, monkeypatch, capsys):
    publication = publish(tmp_path, model, count=36)
    text = render_card(CARDS, str(publication.checkpoint), publication)
    rate = 16000 if model == "wav2vec2" else 44100
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (rate * 3 // 2, 2))  # stereo, longer than the model's input
    monkeypatch.chdir(tmp_path)
    soundfile.write("clip.wav", noise, rate)
    scores = []
    for block in blocks(text, "python"):
        exec(compile(block, "card", "exec"), {})
        scores.append({found["label"]: found["score"] for found in yaml.safe_load(capsys.readouterr().out)})
    assert set(scores[0]) == set(publication.labels)
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


@pytest.mark.parametrize(
    ("corpus", "first"),
    [
        ("synthetic", "**Synthetic clips, not VIVAE.**"),
        ("noise", "**White noise, not VIVAE.**"),
        ("folder", "**Other clips, not the VIVAE release.**"),
        ("vivae", "# mlp on VIVAE"),
        ("vivae-core", "# mlp on VIVAE's core set"),
    ],
)
def test_the_first_line_names_the_clips(corpus, first, tmp_path):
    text = render_card(CARDS, REPO, publish(tmp_path, "mlp", corpus))
    assert body(text).startswith(first)
    tables = [line for line in body(text).splitlines() if re.match(r"\| (score|speaker|intensity) (\(.*\) )?\|", line)]
    assert len(tables) == 3
    assert all((f"({corpus})" in line) is (corpus in ("synthetic", "noise")) for line in tables)
    assert ("holz2020vivae" in text) is corpus.startswith("vivae")


def test_a_training_under_way_has_no_scores(publication):
    record = {name: entry for name, entry in publication.record.items() if name not in ("seconds", "peak_memory_mb")}
    unfinished = Publication(publication.checkpoint, record, publication.labels)
    text = render_card(CARDS, REPO, unfinished)
    assert "**Training is not finished.** These weights are not final, and have not been tested." in text
    assert "They train on 72 clips under the protocol `speaker-k-fold`, which keeps 72 clips for their test." in text
    assert not re.search(r"## Scores|UAR|took|\.png", text)
    assert card_pictures(unfinished) == {}


def test_text_of_others_is_shown_and_no_markup(tmp_path):
    rows = [{**row, "speaker": f"<b>|{row['speaker']}"} for row in clips(72)]
    text = render_card(CARDS, REPO, publish(tmp_path, rows=rows))
    assert "<b>" not in MarkdownIt("commonmark").enable("table").render(body(text))
    assert r"\<b\>\|S01" in text


def test_people_of_a_folder_are_not_named(tmp_path):
    settings = {"protocol": "leave-one-speaker-out"}
    rows = [{**row, "speaker": row["speaker"].replace("S", "Anna M")} for row in clips(72)]
    publication = publish(tmp_path, corpus="folder", rows=rows, settings=settings)
    text = render_card(CARDS, REPO, publication)
    assert "Anna" not in text
    assert "| speaker 1 | 12 |" in text
    assert "fold 1 and seed" in text
    (axes, *_) = card_pictures(publication)["accuracy-by-group.png"].axes
    assert next(label.get_text() for label in axes.get_yticklabels()) == "speaker 1 (12)"
