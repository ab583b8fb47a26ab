"""The numbers of an exploration, its files, its output and its errors."""

import json
import re

import numpy as np
import pytest
import soundfile
from runner import ROOT, script

from hf_vivae.corpus import EMOTIONS, INTENSITIES, load_corpus
from hf_vivae.corpus.schema import Corpus
from hf_vivae.exploration import figures
from hf_vivae.exploration.describe import describe, explore, read_clips
from hf_vivae.validation import UserError

EXPLORE = ROOT / "recipes" / "explore.py"


class TestNumbers:
    def test_lengths_are_those_of_the_files(self, tiny_vivae, explored):
        numbers = explored[0]
        samples = np.array([soundfile.info(file).frames for file in sorted((tiny_vivae / "full_set").iterdir())])
        for unit, values in (("samples", samples), ("seconds", samples / 44100)):
            found = numbers["lengths"][unit]
            assert found == pytest.approx({
                "count": 48, "min": min(values), "max": max(values), "mean": np.mean(values), "std": np.std(values),
                "lower_quartile": np.percentile(values, 25), "median": np.percentile(values, 50),
                "upper_quartile": np.percentile(values, 75),
            })  # fmt: skip
        assert numbers["sampling_rates"] == {"44100": 48}
        edges, counts = numbers["histogram"]["edges"], numbers["histogram"]["counts"]
        assert (numbers["histogram"]["unit"], len(edges), len(counts), sum(counts)) == ("samples", 17, 16, 48)
        assert np.diff(edges) == pytest.approx(np.full(16, (max(samples) - min(samples)) / 16))
        assert counts[3] == ((samples >= edges[3]) & (samples < edges[4])).sum()

    def test_labels_have_counts_and_shares(self, tmp_path):
        for label, clips in (("b", 3), ("a", 1), ("c", 2)):
            (tmp_path / label).mkdir()
            for index in range(clips):
                soundfile.write(tmp_path / label / f"{index}.wav", np.ones(80), 8000)
        numbers = describe(read_clips(load_corpus("folder", data_dir=tmp_path)))
        assert {name: entry["count"] for name, entry in numbers["labels"].items()} == {"a": 1, "b": 3, "c": 2}
        assert sum(entry["share"] for entry in numbers["labels"].values()) == pytest.approx(1)
        assert numbers["majority"] == {"label": "b", "share": 0.5}
        assert numbers["chance"] == pytest.approx(1 / 3)

    @pytest.mark.parametrize("by", ["speaker", "intensity", "emotion"])
    def test_groups_partition_the_clips(self, tiny, explored, by):
        numbers = explored[0]
        names = {"speaker": sorted(set(tiny.dataset["speaker"])), "intensity": list(INTENSITIES), "emotion": EMOTIONS}
        groups = numbers[f"by_{by}"]
        assert list(groups) == list(names[by])
        assert sum(group["samples"]["count"] for group in groups.values()) == 48
        column = tiny.dataset[by][:]
        last = list(groups)[-1]
        code = last if by == "speaker" else list(names[by]).index(last)
        seconds = np.array(tiny.dataset["duration"])[[value == code for value in column]]
        assert groups[last]["seconds"]["mean"] == pytest.approx(seconds.mean())
        assert groups[last]["seconds"]["count"] == len(seconds)

    def test_emotions_are_counted_by_speaker_and_intensity(self, tiny, explored):
        rows = tiny.dataset.remove_columns("audio").to_list()
        for row in rows:
            row["intensity"] = INTENSITIES[row["intensity"]]
        for by in ("speaker", "intensity"):
            table = explored[0][f"emotion_by_{by}"]
            assert sum(sum(counts.values()) for counts in table.values()) == 48
            for emotion, counts in table.items():
                for group, count in counts.items():
                    members = [row for row in rows if EMOTIONS[row["emotion"]] == emotion and row[by] == group]
                    assert count == len(members), (emotion, group)

    def test_the_file_holds_what_is_returned_and_what_is_missing(self, tiny, explored):
        numbers, _, folder = explored
        assert json.loads((folder / "exploration.json").read_text()) == numbers
        assert numbers["corpus"] == "vivae"
        assert numbers["problems"] == list(tiny.problems) != []

    def test_rates_may_differ(self, folder_corpus):
        numbers = describe(read_clips(folder_corpus(rates=(8000, 16000, 44100))))
        lengths = [100 * (index + 1) / (8000, 16000, 44100)[index % 3] for index in range(32)]
        assert numbers["lengths"]["seconds"]["mean"] == pytest.approx(np.mean(lengths))
        assert numbers["sampling_rates"] == {"8000": 11, "16000": 11, "44100": 10}
        assert numbers["histogram"]["unit"] == "seconds"
        assert numbers["histogram"]["edges"][-1] == pytest.approx(max(lengths))
        assert "the clips have 3 sampling rates, so the histogram counts seconds and not samples" in numbers["notes"]

    def test_clips_without_a_speaker_are_a_group_and_a_note(self, folder_corpus):
        lines = [
            "file,label,speaker",
            *(f"class-{i:02d}/clip_{i}.wav,l{i % 2},{'ann' if i else ''}" for i in range(4)),
        ]
        numbers = describe(read_clips(folder_corpus(clips=4, metadata="\n".join(lines))))
        assert {name: group["samples"]["count"] for name, group in numbers["by_speaker"].items()} == {
            "ann": 3,
            "(none)": 1,
        }
        assert numbers["notes"] == [
            "1 of 4 clips have no known speaker and form the group (none)",
            "no clip has a known intensity, so there is no by_intensity.png",
        ]

    def test_a_label_without_clips_counts_for_chance_and_is_noted(self, tiny):
        few = Corpus("vivae", tiny.dataset.filter(lambda row: row["emotion"] != 2))
        numbers = describe(read_clips(few))
        assert numbers["labels"]["fear"] == {"count": 0, "share": 0.0}
        assert numbers["notes"] == ["no clip has the label fear"]
        assert numbers["chance"] == pytest.approx(1 / 6)


class TestExample:
    def test_by_default_its_length_is_nearest_the_median(self, tiny, explored):
        seconds = np.array(tiny.dataset["duration"])
        distance = np.abs(seconds - np.median(seconds))
        chosen = explored[0]["example"]
        row = tiny.dataset["file"][:].index(chosen["file"])
        assert distance[row] == distance.min()
        assert chosen["seconds"] == seconds[row]

    def test_it_is_the_clip_that_is_named(self, tiny, tmp_path):
        name = tiny.dataset["file"][7]
        assert explore(tiny, tmp_path, name)[0]["example"]["file"] == name

    def test_an_unknown_clip_is_an_error_with_the_nearest_name(self, tiny, tmp_path):
        name = tiny.dataset["file"][7]
        sentence = (
            f"expected a clip of the corpus as the example, found '{name[:-1]}' (did you mean {name}?); "
            "give a name of the column file."
        )
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            explore(tiny, tmp_path / "out", name[:-1])
        assert not (tmp_path / "out").exists()


class TestScript:
    def test_it_writes_prints_and_names_the_files(self, tiny_vivae, tmp_path, capsys):
        argv = ["--data_dir", str(tiny_vivae), "--allow_partial", "--output_dir", str(tmp_path / "out")]
        script(EXPLORE).main(argv)
        printed = capsys.readouterr().out
        assert printed.startswith("48 vivae clips at 44,100 Hz: 6 labels, 4 speakers, 4 intensities\n")
        assert "always achievement is right for 16.7% of the vivae clips, chance for 16.7%" in printed
        written = {path.name for path in (tmp_path / "out").iterdir()}
        assert written == {"exploration.json", *(f"{key}.png" for key in figures.FIGURES)}
        assert all(str(tmp_path / "out" / name) in printed for name in written)

    def test_the_default_output_folder(self, folder_corpus, tmp_path, monkeypatch):
        folder_corpus()
        monkeypatch.chdir(tmp_path)
        script(EXPLORE).main(["--data", "folder", "--data_dir", "clips"])
        assert (tmp_path / "runs" / "folder" / "exploration" / "exploration.json").is_file()

    @pytest.mark.parametrize(
        ("argv", "sentence"),
        [
            (
                ["--data", "synthetic", "--trim_db", "0"],
                "expected --trim_db above 0, found 0; usual values are 20 to 60.",
            ),
            (
                ["--data", "synthetic", "--synthetic_sed", "1"],
                "unknown argument '--synthetic_sed' (did you mean --synthetic_seed?); see --help_all for all of them.",
            ),
            (["--clpi=x"], "unknown argument '--clpi' (did you mean --clip?); see --help_all for all of them."),
            (
                ["--data", "folder"],
                "expected the folder of the clips with --data folder, found none; give it with --data_dir.",
            ),
            (
                ["--data", "synthetic", "--subset", "core"],
                "expected only options that --data synthetic has, found --subset; leave them out.",
            ),
        ],
    )
    def test_misspelt_and_missing_arguments_are_named(self, argv, sentence):
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            script(EXPLORE).main(argv)

    def test_an_unknown_choice_is_named(self):
        with pytest.raises(
            ValueError, match=r"^argument --subset: invalid choice: 'ful' .*; see --help_all for all arguments\.$"
        ):
            script(EXPLORE).main(["--subset", "ful"])

    @pytest.mark.parametrize("output", ["file", "/proc/x"])  # where root cannot write, either
    def test_an_output_path_that_is_no_folder_is_named(self, output, tiny_vivae, tmp_path):
        (tmp_path / "file").write_text("")
        folder = tmp_path / output
        argv = ["--data_dir", str(tiny_vivae), "--allow_partial", "--output_dir", str(folder)]
        sentence = rf"^expected a folder to write to as --output_dir, found {folder} \(.*\); give another place"
        with pytest.raises(UserError, match=sentence):
            script(EXPLORE).main(argv)
