"""Licences: which identifiers the Hub knows, and which one holds for a corpus, as a person confirms it, or a model."""

from __future__ import annotations

from collections.abc import Callable

from ..models.backbones import BACKBONES
from ..validation import UserError, did_you_mean

# https://huggingface.co/docs/hub/repositories-licenses
LICENSES = frozenset({
    "apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m", "bigscience-bloom-rail-1.0",
    "bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "c-uda", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0",
    "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cdla-sharing-1.0",
    "cdla-permissive-1.0", "cdla-permissive-2.0", "wtfpl", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1",
    "eupl-1.2", "agpl-3.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "isc", "h-research",
    "intel-research", "lppl-1.3c", "ms-pl", "apple-ascl", "apple-amlr", "mpl-2.0", "odc-by", "odbl", "openmdw-1.0",
    "openrail++", "osl-3.0", "postgresql", "ofl-1.1", "ncsa", "unlicense", "zlib", "pddl", "lgpl-lr",
    "deepfloyd-if-license", "fair-noncommercial-research-license", "llama2", "llama3", "llama3.1", "llama3.2",
    "llama3.3", "llama4", "grok2-community", "gemma", "unknown", "other",
})  # fmt: skip


def check_license(identifier: str) -> str:
    """The identifier as the Hub writes it.

    Raises:
        ValueError: for one that the Hub does not know, naming the nearest.
    """
    license = identifier.strip().lower()
    if license not in LICENSES:
        raise UserError(
            f"expected an identifier of the Hub's list of licences, found {identifier!r}"
            f"{did_you_mean(license, LICENSES)}; choose one of https://huggingface.co/docs/hub/repositories-licenses."
        )
    return license


VIVAE_LICENSE = "cc-by-nc-4.0", "VIVAE's authors publish it under CC BY-NC 4.0"
OUR_LICENSE = "apache-2.0", "hf_vivae, whose program makes these clips, is Apache-2.0"
KNOWN = {"vivae": VIVAE_LICENSE, "vivae-core": VIVAE_LICENSE, "synthetic": OUR_LICENSE, "noise": OUR_LICENSE}
OF_WEIGHTS = {
    **{backbone.hub_id: backbone.license for backbone in BACKBONES.values()},
    "facebook/wav2vec2-base-960h": "apache-2.0",
    "timm/vit_base_patch16_224.augreg_in21k_ft_in1k": "apache-2.0",
}


def known_license(corpus_name: str) -> str | None:
    """Identifier of the licence that holds for a corpus; None for clips whose licence only their owner knows."""
    return KNOWN[corpus_name][0] if corpus_name in KNOWN else None


def confirm_license(corpus_name: str, given: str | None, ask: Callable[[str], str] | None = None) -> str:
    """The licence that a corpus is published under, as the person who publishes it has confirmed it.

    Args:
        corpus_name: `Corpus.name`.
        given: identifier that the person has named; upper and lower case are the same.
        ask: shows a question and returns what the person types; None where nobody can be asked.

    Raises:
        ValueError: nothing was named or typed, another licence than the one that holds, one that the Hub does not
            know, or `other`, which says nothing without a text.
    """
    if given is None:
        if ask is None:
            raise UserError(_unconfirmed(corpus_name))
        try:
            given = ask(_question(corpus_name))
        except EOFError as error:
            raise UserError(_unconfirmed(corpus_name)) from error
    if corpus_name not in KNOWN:
        return _named(check_license(given))
    holds, why = KNOWN[corpus_name]
    if given.strip().lower() != holds:
        raise UserError(
            f"expected the licence {holds}, because {why}, found {given!r}: confirm it with --license {holds}, "
            "or do not publish these clips."
        )
    return holds


def choose_license(corpus: str, base: str | None, license: str | None) -> str:
    """The licence of a model: as given, or as its clips and the weights that it started from demand.

    Args:
        corpus: name of its corpus.
        base: Hub id or folder of the weights that it started from; None for random ones.
        license: an identifier of the Hub's list; None for that of VIVAE, for that of the weights where a program made
            the clips, and for `unknown` where these are not known or exclude each other.

    Raises:
        ValueError: for an identifier that the Hub does not know, and for one with other terms than clips or weights
            demand of what is made of them.
    """
    usual = _usual_license(corpus, base)
    if license is None or check_license(license) == usual:
        return usual
    license = check_license(license)
    _check_terms(license, known_license(corpus) or "unknown", OF_WEIGHTS.get(base, "unknown"), base)
    return license


def _usual_license(corpus: str, base: str | None) -> str:
    of_clips = known_license(corpus) or "unknown"
    if base is None or of_clips == "unknown":
        return of_clips
    of_weights = OF_WEIGHTS.get(base, "unknown")
    if "-nc" not in of_clips:
        return of_weights  # clips that a program made demand nothing
    return "unknown" if of_weights == "unknown" or _shares_alike(of_weights) else of_clips


def _check_terms(license: str, of_clips: str, of_weights: str, base: str | None) -> None:
    non_commercial, alike = "-nc" in of_clips, _shares_alike(of_weights)
    if non_commercial and alike:
        raise UserError(
            f"expected no licence for a model that was trained on VIVAE ({of_clips}) and started from {base} "
            f"({of_weights}), whose terms exclude each other, found {license}; leave it out."
        )
    if non_commercial and "-nc" not in license:
        raise UserError(
            f"expected a non-commercial licence for a model that was trained on VIVAE, found {license}; leave it out, "
            f"or give one with the terms of {of_clips}."
        )
    if alike and not _shares_alike(license):
        raise UserError(
            f"expected a licence with the terms of {of_weights} and no others for a model that started from {base}, "
            f"found {license}; leave it out, or give a later version of {of_weights}."
        )


def _shares_alike(license: str) -> bool:
    """Whether it wants what is made of a work under its own terms, and under none besides."""
    return license.startswith("cc-by-sa-")


def _named(license: str) -> str:
    if license == "other":
        raise UserError(
            "expected a licence that its identifier names, found 'other', for which the Hub asks a name and a text: "
            "choose one of its list, such as cc-by-4.0"
        )
    return license


def _question(corpus_name: str) -> str:
    if corpus_name not in KNOWN:
        return (
            "Type the identifier of the licence under which you may publish these clips "
            "(https://huggingface.co/docs/hub/repositories-licenses has the list): "
        )
    holds, why = KNOWN[corpus_name]
    return f"These clips can be published under {holds} only, because {why}. Type {holds} to confirm it: "


def _unconfirmed(corpus_name: str) -> str:
    if corpus_name not in KNOWN:
        return (
            "expected the licence under which you may publish these clips, found none: name its identifier of the "
            "Hub's list, for example with --license cc-by-4.0"
        )
    holds, why = KNOWN[corpus_name]
    return f"expected a confirmed licence, found none: {why}, so confirm it with --license {holds}"
