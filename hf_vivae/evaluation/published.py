"""Figures published on VIVAE: tables with ours where protocol and score are the same, and of all others."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..files import read_yaml
from ..reporting.tables import FROM, SCORE_NAMES, TO, Row, Table, make_table
from ..validation import UserError

PUBLISHED = Path(__file__).with_name("published.yaml")
METRICS = {**SCORE_NAMES, "f1": "F1"}
POOLED, OVER_FOLDS = "pooled over clips", "mean over folds"
AVERAGINGS = (POOLED, OVER_FOLDS, "mean over six data sets")
CORPORA = {
    "synthetic": "synthetic clips",
    "noise": "pure noise",
    "folder": "another corpus",
    "vivae-core": "VIVAE's core set",
}
BASELINES = (  # 202 of its 1085 clips are of pleasure
    "Chance is an accuracy and a UAR of 16.7%; always predicting pleasure, the most frequent label, is right for "
    "18.6% of VIVAE's clips."
)


@dataclass(frozen=True)
class Score:
    """One score of a system; any field but the system may be None in a publication.

    Args:
        system: its name; of a publication the model's name in this package, if it has one.
        metric: key of `METRICS`.
        value: share from 0 to 1; None where it is undefined or no figure was found.
        protocol: name of the protocol of this package, or of that with the same splits.
        averaging: one of `AVERAGINGS`.
        selection: score or clips that selected the epoch.
        seeds: number of trainings with different seeds.
        clips: number of tested clips.
    """

    system: str
    metric: str | None
    value: float | None
    protocol: str | None
    averaging: str | None
    selection: str | None
    seeds: int | None
    clips: int | None

    @property
    def score(self) -> str | None:
        """Names of metric and averaging; None where the metric is unknown."""
        if self.metric is None or self.averaging is None:
            return METRICS.get(self.metric)
        return f"{METRICS[self.metric]}, {self.averaging}"


@dataclass(frozen=True)
class PublishedScore(Score):
    """A published figure, or one that was searched for and not found.

    Args:
        source: short name of the publication.
        reference: citation, location of the figures in it, and remarks on all of them.
        sd: published standard deviation; `selection` or `averaging` states over what.
        not_comparable: reason for which it is comparable with no figure of ours; None where protocol and score decide.
    """

    source: str
    reference: str
    sd: float | None
    not_comparable: str | None


@dataclass(frozen=True)
class OurScore(Score):
    """One score of an evaluated system.

    Args:
        corpus: name of the corpus.
        whole_vivae: true for all 1085 clips of VIVAE, without problems, tested in all folds of the protocol.
        task: name of the task.
        low: lower 95 % bound; None where there is none.
        high: upper bound.
    """

    corpus: str
    whole_vivae: bool
    task: str
    low: float | None
    high: float | None


def read_published(path: Path = PUBLISHED) -> list[PublishedScore]:
    """Return all published figures, in the order of their file.

    Args:
        path: of a YAML list of entries with the fields of `PublishedScore`.

    Raises:
        UserError: an entry has other keys, an unknown metric or averaging, a value that is no share, or no value and
            no reason.
    """
    entries = read_yaml(path, list)
    return [_read(entry, f"{path.name}, entry {number}") for number, entry in enumerate(entries, start=1)]


def _read(entry: dict[str, Any], source: str) -> PublishedScore:
    names = {field.name for field in fields(PublishedScore)}
    for keys, which in ((entry.keys() - names, "also"), (names - entry.keys(), "no")):
        if keys:
            raise UserError(
                f"{source}: expected the keys {', '.join(sorted(names))}, found {which} {', '.join(sorted(keys))}; "
                "correct the entry."
            )
    for key, choices in (("metric", METRICS), ("averaging", AVERAGINGS)):
        if entry[key] is not None and entry[key] not in choices:
            raise UserError(
                f"{source}: expected as {key} null or one of {', '.join(choices)}, found {entry[key]!r}; correct it."
            )
    value, reason = entry["value"], entry["not_comparable"]
    if value is None and reason is None:
        raise UserError(f"{source}: expected a value, or a reason in not_comparable, found neither; add one.")
    if value is not None and not 0 <= value <= 1:
        raise UserError(f"{source}: expected a value from 0 to 1, found {value}; write percent as a share.")
    return PublishedScore(**entry)


def published_tables(ours: Sequence[OurScore], published: Sequence[PublishedScore]) -> list[Table]:
    """Return a table of ours and comparable published figures, if there are any; of all others; and of the sources.

    Args:
        ours: scores of systems; only those of the whole of VIVAE and the task emotion are comparable.
        published: those of `read_published`.
    """
    reasons = [(score, _reason(score, ours)) for score in published]
    comparable = [score for score, reason in reasons if reason is None]
    others = [(score, reason) for score, reason in reasons if reason is not None]
    rows = [{"source": score.source, "reference": score.reference} for score in published]
    distinct = [row for index, row in enumerate(rows) if row not in rows[:index]]
    columns = dict.fromkeys(("source", "reference"))
    tables = [_comparable_table(_on_vivae(ours), comparable)] if comparable else []
    tables.append(_other_table(others))
    return [*tables, make_table("published-sources", "Sources of these figures.", columns, distinct)]


def _reason(score: PublishedScore, ours: Sequence[OurScore]) -> str | None:
    """Return the reason for which a published figure is not comparable with ours; None where it is."""
    if score.not_comparable is not None:
        return score.not_comparable
    on_vivae = _on_vivae(ours)
    if not on_vivae:
        return "; ".join(dict.fromkeys(map(_reason_of_ours, ours)))
    same_protocol = [our for our in on_vivae if our.protocol == score.protocol]
    if not same_protocol:
        return f"its protocol is not that of ours, {_alternatives(our.protocol for our in on_vivae)}"
    if all(our.score != score.score for our in same_protocol):
        return f"its score is not that of ours, {_alternatives(our.score for our in same_protocol)}"
    return None


def _on_vivae(ours: Sequence[OurScore]) -> list[OurScore]:
    return [our for our in ours if _reason_of_ours(our) is None]


def _reason_of_ours(our: OurScore) -> str | None:
    """Return the reason for which a score of ours is comparable with no published one; None where it is."""
    if our.corpus != "vivae":
        return f"ours are of {CORPORA[our.corpus]}"
    if not our.whole_vivae:
        return "ours are of a part of VIVAE"
    return None if our.task == "emotion" else f"ours are of the task {our.task}, not emotion"


def _alternatives(names: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(names))


def _comparable_table(ours: Sequence[OurScore], published: Sequence[PublishedScore]) -> Table:
    columns = {"protocol": None, "score": None, "system": None, "source": None}
    columns |= {"value": ".2%", FROM: ".1%", TO: ".1%", "sd": ".1%", "selection": None, "seeds": "d", "clips": "d"}
    kinds = dict.fromkeys((score.protocol, score.score) for score in published)
    rows = [_row(score) for kind in kinds for score in (*ours, *published) if (score.protocol, score.score) == kind]
    caption = (
        "Ours and published figures on VIVAE with the same protocol and the same score. The selection of the epoch "
        "can still differ: a figure that was selected on test clips is too high. Bounds of ours are 95 % intervals "
        "over speakers, where at least five are known, else over clips; "
        f'published figures have none. "-": not published, or not known. {BASELINES}'
    )
    return make_table("published", caption, columns, rows)


def _row(score: OurScore | PublishedScore) -> Row:
    row = {"protocol": score.protocol, "score": score.score, "system": score.system, "value": score.value}
    row |= {"selection": score.selection, "seeds": score.seeds, "clips": score.clips}
    if isinstance(score, OurScore):
        return {**row, "source": "ours (VIVAE)", FROM: score.low, TO: score.high}
    return {**row, "source": score.source, "sd": score.sd}


def _other_table(others: Sequence[tuple[PublishedScore, str]]) -> Table:
    columns = dict.fromkeys(("source", "protocol", "score", "selection", "figures", "not comparable, because"))
    figures: dict[tuple[str | None, ...], list[str]] = {}
    for score, reason in others:
        figure = f"{score.system}: {'none' if score.value is None else f'{score.value:.2%}'}"
        figure += "" if score.sd is None else f" (sd {score.sd:.1%})"
        figures.setdefault((score.source, score.protocol, score.score, score.selection, reason), []).append(figure)
    rows = [
        dict(zip(columns, (*kind, "; ".join(listed), reason), strict=True))
        for (*kind, reason), listed in figures.items()
    ]
    caption = 'Published on VIVAE, but not comparable with ours, for the reason in the last column. "-": not known.'
    return make_table("published-not-comparable", caption, columns, rows)
