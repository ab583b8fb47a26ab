"""Selection of the source of the clips by name, and its options."""

import re
import shutil

import pytest
from vivae_copies import CLIP, NAMES, spoil

from hf_vivae import corpus
from hf_vivae.corpus import CorpusError, load_corpus


class TestLoadCorpus:
    def test_the_source_is_chosen_by_name(self, tiny_vivae, tmp_path):
        assert load_corpus("vivae", tiny_vivae, allow_partial=True).name == "vivae"
        for label in ("fear", "pain"):
            (tmp_path / label).mkdir()
            (tmp_path / label / "S01_x.wav").write_bytes(CLIP)
            (tmp_path / label / "S02_x.wav").write_bytes(b"")
        read = load_corpus("folder", tmp_path, speaker_pattern="^(S..)_", on_bad_audio="skip")
        assert (read.name, read.dataset["speaker"], len(read.problems)) == ("folder", ["S01", "S01"], 2)

    def test_synthetic_clips_are_read_as_vivae_is(self, whole_vivae, monkeypatch):
        from hf_vivae.corpus import synthetic

        asked = []
        monkeypatch.setattr(
            synthetic, "synthesize_corpus", lambda seed, cache_dir: asked.append((seed, cache_dir)) or whole_vivae
        )
        read = load_corpus("synthetic", synthetic_seed=7)
        assert (read.name, len(read.dataset), asked) == ("synthetic", 1085, [(7, None)])
        assert corpus.load_synthetic(3)["file"] == NAMES

    @pytest.mark.parametrize("name", ["one", "all"])
    def test_damaged_synthetic_clips_are_named_with_the_remedy(self, broken_vivae, monkeypatch, name):
        from hf_vivae.corpus import synthetic

        monkeypatch.setattr(synthetic, "synthesize_corpus", lambda seed, cache_dir: broken_vivae)
        if name == "one":
            spoil(broken_vivae, NAMES[0], None)
            spoil(broken_vivae, NAMES[1], b"")
            lines = (
                f"missing: {NAMES[0]}",
                f"bad audio: {NAMES[1]}: expected sound, found an empty file (0 bytes)",
            )
        else:
            shutil.rmtree(broken_vivae / "full_set")
            lines = ("not one full_set with clips",)
        with pytest.raises(CorpusError) as error:
            load_corpus("synthetic")
        assert str(error.value) == (
            f"expected the synthetic clips in {broken_vivae} as they were generated, found them damaged "
            f"({', '.join(lines)}); delete that folder to generate them again."
        )
        assert error.value.problems == lines

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"data": "vivea"},
                "expected --data to be one of vivae, emogator, hub, folder, segments, synthetic, noise, "
                "found 'vivea' "
                "(did you mean vivae?).",
            ),
            (
                {"data": "folder"},
                "expected the folder of the clips with --data folder, found none; give it with --data_dir.",
            ),
            (
                {"data": "synthetic", "data_dir": "x", "subset": "core"},
                "expected only options that --data synthetic has, found --data_dir, --subset; leave them out.",
            ),
            (
                {"data": "vivae", "data_dir": "x", "data_url": "y"},
                "expected only options that --data vivae with --data_dir has, found --data_url; leave them out.",
            ),
            (
                {"data": "vivae", "speaker_pattern": "(.)"},
                "expected only options that --data vivae has, found --speaker_pattern; leave them out.",
            ),
            (
                {"data": "vivae", "synthetic_seed": 1},
                "expected only options that --data vivae has, found --synthetic_seed; leave them out.",
            ),
            (
                {"data": "folder", "data_dir": "x", "synthetic_seed": 1, "allow_partial": True},
                "expected only options that --data folder has, "
                "found --allow_partial, --synthetic_seed; leave them out.",
            ),
            (
                {"data": "synthetic", "synthetic_seed": 1, "allow_partial": True},
                "expected only options that --data synthetic has, found --allow_partial; leave them out.",
            ),
        ],
    )
    def test_impossible_choices_are_sentences(self, options, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            load_corpus(**options)
