"""What trimming would cut off a corpus, in numbers: over all clips and for each label, speaker and intensity.

Where labels lose unlike shares, how long a clip is silent tells its label, and a model may learn that.
"""

from typing import Any

from ..trimming import Cuts, trim_statistics
from .exploration_clips import GROUPS, Clips


def describe_trimming(clips: Clips, cuts: Cuts, trim: dict[str, float]) -> dict[str, Any]:
    """The settings and `trim_statistics`, those of each group in `by_emotion`, `by_speaker` and `by_intensity`.

    Args:
        clips: of the corpus.
        cuts: of the same clips in the same order.
        trim: what they were measured with.
    """
    by = {
        f"by_{name}": {group: trim_statistics(cuts.select(rows)) for group, rows in clips.members(name).items()}
        if name in clips.groups
        else None
        for name in GROUPS
    }
    return {**trim, **trim_statistics(cuts), **by}


def format_trimming(numbers: dict[str, Any]) -> list[str]:
    """The numbers of `describe_trimming` for a terminal, in lines."""
    longest = numbers["longest_cut"]
    width = max(map(len, numbers["by_emotion"]))
    before, after = numbers["seconds_before"], numbers["seconds_after"]
    return [
        "",
        f"trimmed {numbers['trim_db']:g} dB below the loudest, margin {numbers['trim_margin']:g} s: "
        f"{numbers['clips_cut']:,} of {numbers['clips']:,} clips are cut, "
        f"{before - after:,.1f} of {before:,.1f} s ({numbers['share_cut']:.1%})",
        f"longest cut: {longest['seconds']:.3f} s of {longest['file']}; "
        f"shortest clip that is left: {numbers['shortest_left']:.3f} s",
        f"{'':{width}}{'clips cut':>12}{'share cut':>12}{'mean start':>12}{'mean end':>12}",
        *(
            f"{label:{width}}{entry['clips_cut']:12,}{entry['share_cut']:12.1%}"
            f"{entry['mean_start']:10.3f} s{entry['mean_end']:10.3f} s"
            for label, entry in numbers["by_emotion"].items()
        ),
    ]
