"""Figures published on VIVAE: ours beside those of the same protocol and score, and why the others stand apart."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..files import read_yaml
from ..reporting.tables import FROM, TO, Row, Table, make_table
from ..validation import UserError

PUBLISHED = Path(__file__).with_name("published.yaml")
METRICS = {"accuracy": "accuracy", "uar": "UAR", "macro_f1": "macro F1", "macro_auc": "macro AUC", "f1": "F1"}
POOLED, OVER_FOLDS = "pooled over clips", "mean over folds"
AVERAGINGS = (POOLED, OVER_FOLDS, "mean over six data sets")
CORPORA = {
    "synthetic": "synthetic clips",
    "noise": "pure noise",
    "folder": "another corpus",
    "vivae-core": "VIVAE's core set",
}
BASELINES = (  # 202 of its 1085 clips are of pleasure
    "Chance is an accuracy and a UAR of 16.7%; always saying pleasure, the most frequent label, is right for 18.6% of "
    "VIVAE's clips."
)


@dataclass(frozen=True)
class PublishedScore:
    """A figure that somebody published, or one that was looked for and not found.

    Args:
        source: short name of the publication.
        reference: what to cite, where the figure was read, and what is special about all its figures.
        system: model, by our name where it is one of ours.
        metric: key of `METRICS`; None where unknown, as in all that follows but `not_comparable`.
        value: share from 0 to 1; None where no figure was found.
        sd: published standard deviation; over what, `selection` or `averaging` says.
        protocol: name of the protocol of ours that splits the same way.
        averaging: one of `AVERAGINGS`.
        selection: what chose the epoch.
        seeds: number of trainings with another seed.
        clips: number of tested clips of VIVAE.
        not_comparable: why it never stands beside another figure; None where protocol and score decide.
    """

    source: str
    reference: str
    system: str
    metric: str | None
    value: float | None
    sd: float | None
    protocol: str | None
    averaging: str | None
    selection: str | None
    seeds: int | None
    clips: int | None
    not_comparable: str | None

    @property
    def score(self) -> str | None:
        """Metric and averaging in words; None where even the metric is unknown."""
        return self.metric and _score(self.metric, self.averaging)


@dataclass(frozen=True)
class OurScore:
    """One score of a system of ours.

    Args:
        system: its name.
        corpus: name of the corpus.
        whole_vivae: whether it is VIVAE with its 1085 clips and without problems, tested in all folds of the protocol.
        task: name of the task.
        protocol: name of the protocol.
        metric: key of `METRICS`.
        averaging: `POOLED` or `OVER_FOLDS`.
        value: share from 0 to 1; None where undefined.
        low: lower 95 % bound; None where there is none.
        high: upper bound.
        selection: what chose the epoch, in words.
        seeds: number of seeds.
        clips: number of tested clips.
    """

    system: str
    corpus: str
    whole_vivae: bool
    task: str
    protocol: str
    metric: str
    averaging: str
    value: float | None
    low: float | None
    high: float | None
    selection: str
    seeds: int
    clips: int

    @property
    def score(self) -> str:
        """Metric and averaging in words."""
        return _score(self.metric, self.averaging)


def _score(metric: str, averaging: str | None) -> str:
    return METRICS[metric] if averaging is None else f"{METRICS[metric]}, {averaging}"


def read_published(path: Path = PUBLISHED) -> list[PublishedScore]:
    """All published figures, in the order of their file.

    Args:
        path: of a YAML list of entries with the fields of `PublishedScore`.

    Raises:
        ValueError: for an entry with other keys, an unknown metric or averaging, a value that is no share, or a
            missing value without a reason.
    """
    entries = read_yaml(path, list)
    return [_read(entry, f"{path.name}, entry {number}") for number, entry in enumerate(entries, start=1)]


def _read(entry: dict[str, Any], place: str) -> PublishedScore:
    names = {field.name for field in fields(PublishedScore)}
    for found, said in ((entry.keys() - names, "also"), (names - entry.keys(), "no")):
        if found:
            raise UserError(
                f"{place}: expected the keys {', '.join(sorted(names))}, found {said} {', '.join(sorted(found))}; "
                "correct the entry."
            )
    for key, known in (("metric", METRICS), ("averaging", AVERAGINGS)):
        if entry[key] is not None and entry[key] not in known:
            raise UserError(
                f"{place}: expected as {key} null or one of {', '.join(known)}, found {entry[key]!r}; correct it."
            )
    value, reason = entry["value"], entry["not_comparable"]
    if value is None and reason is None:
        raise UserError(f"{place}: expected a value or why there is none in not_comparable, found neither; add one.")
    if value is not None and not 0 <= value <= 1:
        raise UserError(f"{place}: expected a value from 0 to 1, found {value}; write percent as a share.")
    return PublishedScore(**entry)


def published_tables(ours: Sequence[OurScore], published: Sequence[PublishedScore]) -> list[Table]:
    """Ours beside published figures of the same protocol and score, if there are any; all others; and what to cite.

    Args:
        ours: scores of systems; only those of the whole of VIVAE and the task emotion can stand beside published ones.
        published: those of `read_published`.
    """
    reasons = [(score, _reason(score, ours)) for score in published]
    beside = [score for score, reason in reasons if reason is None]
    apart = [(score, reason) for score, reason in reasons if reason is not None]
    return [*([_beside(_fitting(ours), beside)] if beside else []), _apart(apart), _sources(published)]


def _reason(score: PublishedScore, ours: Sequence[OurScore]) -> str | None:
    """Why a published figure cannot stand beside ours; None where it can."""
    if score.not_comparable is not None:
        return score.not_comparable
    fitting = _fitting(ours)
    if not fitting:
        return "; ".join(dict.fromkeys(map(_unfit, ours)))
    same_protocol = [our for our in fitting if our.protocol == score.protocol]
    if not same_protocol:
        return f"its protocol is not that of ours, {_listed(our.protocol for our in fitting)}"
    if all(our.score != score.score for our in same_protocol):
        return f"its score is not that of ours, {_listed(our.score for our in same_protocol)}"
    return None


def _fitting(ours: Sequence[OurScore]) -> list[OurScore]:
    return [our for our in ours if _unfit(our) is None]


def _unfit(our: OurScore) -> str | None:
    """Why a score of ours can stand beside no published one; None where it can."""
    if our.corpus != "vivae":
        return f"ours are of {CORPORA[our.corpus]}"
    if not our.whole_vivae:
        return "ours are of a part of VIVAE"
    return None if our.task == "emotion" else f"ours are of the task {our.task}, not emotion"


def _listed(names: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(names))


def _beside(ours: Sequence[OurScore], published: Sequence[PublishedScore]) -> Table:
    columns = {"protocol": None, "score": None, "system": None, "source": None}
    columns |= {"value": ".2%", FROM: ".1%", TO: ".1%", "sd": ".1%", "selection": None, "seeds": "d", "clips": "d"}
    kinds = dict.fromkeys((one.protocol, one.score) for one in published)
    rows = [_row(one) for kind in kinds for one in (*ours, *published) if (one.protocol, one.score) == kind]
    caption = (
        "Ours beside what was published on VIVAE with the same protocol and the same score. What selected the epoch "
        "can still differ: a figure that was selected on test clips is flattered. Bounds of ours are 95 % intervals "
        "over speakers, where at least five are known, else over clips; "
        f'published figures have none. "-": not published, or not known. {BASELINES}'
    )
    return make_table("published", caption, columns, rows)


def _row(one: OurScore | PublishedScore) -> Row:
    row = {"protocol": one.protocol, "score": one.score, "system": one.system, "value": one.value}
    row |= {"selection": one.selection, "seeds": one.seeds, "clips": one.clips}
    if isinstance(one, OurScore):
        return {**row, "source": "ours (VIVAE)", FROM: one.low, TO: one.high}
    return {**row, "source": one.source, "sd": one.sd}


def _apart(apart: Sequence[tuple[PublishedScore, str]]) -> Table:
    columns = dict.fromkeys(("source", "protocol", "score", "selection", "figures", "not comparable, because"))
    figures: dict[tuple[str | None, ...], list[str]] = {}
    for one, reason in apart:
        figures.setdefault((one.source, one.protocol, one.score, one.selection, reason), []).append(_figure(one))
    rows = [
        dict(zip(columns, (*kind, "; ".join(said), reason), strict=True)) for (*kind, reason), said in figures.items()
    ]
    caption = 'Published on VIVAE, but not comparable with ours, for the reason in the last column. "-": not known.'
    return make_table("published-not-comparable", caption, columns, rows)


def _figure(one: PublishedScore) -> str:
    if one.value is None:
        return f"{one.system}: none"
    return f"{one.system}: {one.value:.2%}" + ("" if one.sd is None else f" (sd {one.sd:.1%})")


def _sources(published: Sequence[PublishedScore]) -> Table:
    rows = [{"source": one.source, "reference": one.reference} for one in published]
    distinct = [row for place, row in enumerate(rows) if row not in rows[:place]]
    return make_table("published-sources", "Where they are published.", {"source": None, "reference": None}, distinct)
