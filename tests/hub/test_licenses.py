"""Licences: confirmed for a corpus, and chosen for a model by its clips and weights."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback_hub.card_rules import LICENSES as RULES

from hf_vivae.hub.licenses import LICENSES, check_license, choose_license, confirm_license, known_license
from hf_vivae.models.backbones import BACKBONES


def test_the_list_holds_every_license_of_the_rules_for_cards():
    assert not set(RULES) - LICENSES


def test_known_licenses():
    names = ["vivae", "vivae-core", "emogator", "synthetic", "noise", "folder"]
    assert [known_license(name) for name in names] == ["cc-by-nc-4.0"] * 2 + ["apache-2.0"] * 3 + [None]


@pytest.mark.parametrize("name", ["vivae", "vivae-core", "emogator", "synthetic", "noise"])
@given(given_license=st.one_of(st.sampled_from(sorted(LICENSES)), st.text(max_size=12)))
def test_only_the_license_that_holds_is_confirmed(name, given_license):
    holds = known_license(name)
    for answer in (confirm_license(name, holds.upper()), confirm_license(name, None, lambda _: f"{holds}\n")):
        assert answer == holds
    if given_license.strip().lower() != holds:
        with pytest.raises(ValueError, match=rf"expected the licence {holds}, because .*: confirm it with --license"):
            confirm_license(name, given_license)
        with pytest.raises(ValueError, match=f"expected the licence {holds}"):
            confirm_license(name, None, lambda _: given_license)


def test_the_question_names_the_licence_and_the_reason():
    questions = []

    def ask(question: str) -> str:
        questions.append(question)
        return "cc-by-nc-4.0"

    assert confirm_license("vivae", None, ask) == "cc-by-nc-4.0"
    assert confirm_license("folder", None, ask) == "cc-by-nc-4.0"
    assert questions[0] == (
        "These clips can be published under cc-by-nc-4.0 only, because VIVAE's authors publish it under CC BY-NC 4.0. "
        "Type cc-by-nc-4.0 to confirm it: "
    )
    assert questions[1].startswith("Type the identifier of the licence under which you may publish these clips")


def test_without_a_license_or_a_terminal_the_flag_is_named():
    with pytest.raises(ValueError, match=r"expected a confirmed licence, found none: .* --license cc-by-nc-4\.0$"):
        confirm_license("vivae", None)
    with pytest.raises(ValueError, match=r"expected the licence under which you may publish .* --license cc-by-4\.0$"):
        confirm_license("folder", None)


def test_a_folder_has_any_license_that_the_hub_knows():
    assert confirm_license("folder", "MIT") == "mit"
    assert check_license(" CC-BY-4.0 ") == "cc-by-4.0"
    with pytest.raises(ValueError, match=r"found 'cc-by-nc' \(did you mean cc-by-nc-\d.0\?\); choose"):
        confirm_license("folder", "cc-by-nc")
    for license in LICENSES:
        assert check_license(license.upper()) == license


def test_other_names_no_license():
    with pytest.raises(ValueError, match="expected a licence of the Hub's list, found 'other', which needs"):
        confirm_license("folder", "other")


def test_the_licence_of_a_dataset_is_that_of_its_card_where_it_is_known():
    assert confirm_license("some/clips", "CC-BY-4.0", of_card="cc-by-4.0") == "cc-by-4.0"
    with pytest.raises(ValueError, match=r"because the card of the dataset some/clips states it, found 'mit'"):
        confirm_license("some/clips", "mit", of_card="cc-by-4.0")
    for unknown in ("other", "unknown", "our terms", None):
        assert known_license("some/clips", unknown) is None
        assert confirm_license("some/clips", "mit", of_card=unknown) == "mit"
    assert known_license("vivae", "mit") == "cc-by-nc-4.0"


@pytest.mark.parametrize(
    ("of_card", "base", "expected"),
    [
        ("cc-by-4.0", None, "cc-by-4.0"),
        ("cc-by-4.0", "openai/whisper-base", "apache-2.0"),
        ("gpl-3.0", "openai/whisper-base", "unknown"),
        ("cc-by-nc-4.0", "openai/whisper-base", "cc-by-nc-4.0"),
        ("other", None, "unknown"),
    ],
)
def test_the_licence_of_a_model_follows_from_the_card_of_its_dataset(of_card, base, expected):
    assert choose_license("some/clips", base, None, of_card) == expected


# --- models

WAVLM, WHISPER = "microsoft/wavlm-large", "openai/whisper-base"  # share-alike, and free


@pytest.mark.parametrize(
    ("corpus", "base", "given", "expected"),
    [
        ("vivae", None, None, "cc-by-nc-4.0"),
        ("vivae", None, "CC-BY-NC-SA-4.0", "cc-by-nc-sa-4.0"),
        ("vivae-core", "some/one", None, "unknown"),
        ("vivae", "/home/anna/base", None, "unknown"),
        ("vivae", "some/one", "cc-by-nc-4.0", "cc-by-nc-4.0"),
        ("vivae", "facebook/wav2vec2-base-960h", None, "cc-by-nc-4.0"),
        ("vivae", WHISPER, None, "cc-by-nc-4.0"),
        ("vivae", WAVLM, None, "unknown"),
        ("vivae", WAVLM, "unknown", "unknown"),
        ("synthetic", None, None, "apache-2.0"),
        ("synthetic", "some/one", None, "unknown"),
        ("synthetic", WHISPER, None, "apache-2.0"),
        ("synthetic", WAVLM, None, "cc-by-sa-3.0"),
        ("noise", WAVLM, "CC-BY-SA-4.0", "cc-by-sa-4.0"),
        ("noise", None, "mit", "mit"),
        ("emogator", None, None, "apache-2.0"),
        ("emogator", WHISPER, None, "apache-2.0"),
        ("emogator", WAVLM, None, "cc-by-sa-3.0"),
        ("emogator", "some/one", None, "unknown"),
        ("emogator", None, "mit", "mit"),
        ("folder", None, None, "unknown"),
        ("folder", WHISPER, None, "unknown"),
        ("folder", WHISPER, "cc0-1.0", "cc0-1.0"),
    ],
)
def test_the_licence_of_a_model_follows_from_clips_and_weights(corpus, base, given, expected):
    assert choose_license(corpus, base, given) == expected


@pytest.mark.parametrize(
    ("corpus", "base", "given", "sentence"),
    [
        ("vivae", None, "mit", r"expected a non-commercial licence for a model that was trained on VIVAE, found mit; "
         r"leave it out, or give one with the terms of cc-by-nc-4\.0\.$"),
        *(("vivae", WAVLM, license, r"expected no licence for a model that was trained on VIVAE \(cc-by-nc-4\.0\) "
           r"and started from microsoft/wavlm-large \(cc-by-sa-3\.0\), whose terms exclude each other, found cc-by-")
          for license in ("cc-by-sa-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0")),
        *(("synthetic", WAVLM, license, r"expected a licence with the terms of cc-by-sa-3\.0 and no others for a model"
           r" that started from microsoft/wavlm-large, found .*; leave it out, or give a later version of cc-by-sa-3")
          for license in ("apache-2.0", "cc-by-nc-sa-4.0")),
        ("folder", None, "my-own", "expected an identifier of the Hub's list of licences, found 'my-own'"),
    ],
)  # fmt: skip
def test_licences_without_the_terms_of_clips_or_weights_are_refused(corpus, base, given, sentence):
    with pytest.raises(ValueError, match=sentence):
        choose_license(corpus, base, given)


@pytest.mark.parametrize("name", BACKBONES)
@given(given_license=st.sampled_from(sorted(LICENSES)))
def test_terms_of_a_named_encoder_are_never_lost(name, given_license):
    backbone = BACKBONES[name]
    for corpus, license in (("synthetic", None), ("synthetic", given_license), ("folder", given_license)):
        try:
            chosen = choose_license(corpus, backbone.hub_id, license)
        except ValueError:
            continue
        if (corpus, chosen) != ("folder", "unknown"):  # which states no terms
            assert "-sa" not in backbone.license or chosen.startswith("cc-by-sa-")
