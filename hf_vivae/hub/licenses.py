"""Licences of corpora and models: the Hub's list, confirmation for a corpus, and choice for a model."""

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
    """Return an identifier of a licence as the Hub writes it.

    Raises:
        UserError: for one that the Hub does not know, naming the nearest.
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
KNOWN = {
    "vivae": VIVAE_LICENSE,
    "vivae-core": VIVAE_LICENSE,
    "emogator": ("apache-2.0", "EmoGator's authors publish it under Apache-2.0"),
    "synthetic": OUR_LICENSE,
    "noise": OUR_LICENSE,
}
OF_WEIGHTS = {
    **{backbone.hub_id: backbone.license for backbone in BACKBONES.values()},
    "facebook/wav2vec2-base-960h": "apache-2.0",
    "timm/vit_base_patch16_224.augreg_in21k_ft_in1k": "apache-2.0",
}


# licences of clips whose terms permit any licence of a model of them
PERMISSIVE = ("apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-3.0", "cdla-permissive-2.0")


def known_license(corpus_name: str, of_card: str | None = None) -> str | None:
    """Return the licence of a corpus; None for clips whose licence only their owner knows.

    Args:
        corpus_name: `Corpus.name`.
        of_card: `Corpus.license`; one without a text of the Hub's list, such as `other`, is not known.
    """
    if corpus_name in KNOWN:
        return KNOWN[corpus_name][0]
    return of_card if of_card in LICENSES - {"other", "unknown"} else None


def confirm_license(
    corpus_name: str, given: str | None, ask: Callable[[str], str] | None = None, of_card: str | None = None
) -> str:
    """Return the licence that a corpus is published under, as confirmed by the person who publishes it.

    Args:
        corpus_name: `Corpus.name`.
        given: identifier that the person has given; case does not matter.
        ask: shows a question and returns the answer; None without a terminal.
        of_card: `Corpus.license`.

    Raises:
        UserError: for no licence, another one than the corpus has, one that the Hub does not know, or `other`, which
            is no licence without a text.
    """
    required = known_license(corpus_name, of_card)
    why = KNOWN[corpus_name][1] if corpus_name in KNOWN else f"the card of the dataset {corpus_name} states it"
    if required:
        question = (
            f"These clips can be published under {required} only, because {why}. Type {required} to confirm it: "
        )
        missing = f"expected a confirmed licence, found none: {why}, so confirm it with --license {required}"
    else:
        question = (
            "Type the identifier of the licence under which you may publish these clips "
            "(https://huggingface.co/docs/hub/repositories-licenses has the list): "
        )
        missing = (
            "expected the licence under which you may publish these clips, found none: name its identifier of the "
            "Hub's list, for example with --license cc-by-4.0"
        )
    if given is None:
        if ask is None:
            raise UserError(missing)
        try:
            given = ask(question)
        except EOFError as error:
            raise UserError(missing) from error
    if required and given.strip().lower() != required:
        raise UserError(
            f"expected the licence {required}, because {why}, found {given!r}: confirm it with --license {required}, "
            "or do not publish these clips."
        )
    license = check_license(given)
    if license == "other":
        raise UserError(
            "expected a licence of the Hub's list, found 'other', which needs a name and a text: choose one of the "
            "list, such as cc-by-4.0"
        )
    return license


def choose_license(corpus: str, base: str | None, license: str | None, of_card: str | None = None) -> str:
    """Return the licence of a model: as given, or as its clips and initial weights require.

    Args:
        corpus: name of its corpus.
        base: Hub id or folder of the weights that training started from; None for random ones.
        license: an identifier of the Hub's list. None for that of VIVAE; for that of the weights where the clips are
            generated; and for `unknown` where a licence is not known or the two exclude each other.
        of_card: licence that the card of a dataset of the Hub states.

    Raises:
        UserError: for an identifier that the Hub does not know, and for one whose terms the clips or weights forbid.
    """
    of_clips, clips = known_license(corpus, of_card) or "unknown", "VIVAE" if corpus in KNOWN else corpus
    of_weights = OF_WEIGHTS.get(base, "unknown")
    non_commercial = "-nc" in of_clips
    share_alike = of_weights.startswith("cc-by-sa-")  # derived works must have the same terms, and no others
    if base is None or of_clips == "unknown":
        usual = of_clips
    elif non_commercial:
        usual = "unknown" if of_weights == "unknown" or share_alike else of_clips
    else:
        usual = of_weights if of_clips in PERMISSIVE else "unknown"  # generated clips require nothing
    if license is None or (license := check_license(license)) == usual:
        return usual
    if non_commercial and share_alike:
        raise UserError(
            f"expected no licence for a model that was trained on {clips} ({of_clips}) and started from {base} "
            f"({of_weights}), whose terms exclude each other, found {license}; leave it out."
        )
    if non_commercial and "-nc" not in license:
        raise UserError(
            f"expected a non-commercial licence for a model that was trained on {clips}, found {license}; leave it "
            f"out, or give one with the terms of {of_clips}."
        )
    if share_alike and not license.startswith("cc-by-sa-"):
        raise UserError(
            f"expected a licence with the terms of {of_weights} and no others for a model that started from {base}, "
            f"found {license}; leave it out, or give a later version of {of_weights}."
        )
    return license
