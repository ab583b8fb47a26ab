"""A corpus is published under the licence that holds for it, and only when somebody has said so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback_hub.card_rules import LICENSES as RULES

from hf_vivae.licenses import LICENSES, check_license, confirm_license, known_license


def test_the_list_holds_every_license_of_the_rules_for_cards():
    assert not set(RULES) - LICENSES


def test_known_licenses():
    names = ["vivae", "vivae-core", "synthetic", "noise", "folder"]
    assert [known_license(name) for name in names] == ["cc-by-nc-4.0"] * 2 + ["apache-2.0"] * 2 + [None]


@pytest.mark.parametrize("name", ["vivae", "vivae-core", "synthetic", "noise"])
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


def test_the_question_says_what_to_type_and_why():
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


def test_without_a_license_or_anybody_to_ask_the_flag_is_named():
    with pytest.raises(ValueError, match=r"expected a confirmed licence, found none: .* --license cc-by-nc-4\.0$"):
        confirm_license("vivae", None)
    with pytest.raises(ValueError, match=r"expected the licence under which you may publish .* --license cc-by-4\.0$"):
        confirm_license("folder", None)


def test_a_folder_has_any_license_that_the_hub_knows():
    assert confirm_license("folder", "MIT") == "mit"
    assert check_license(" CC-BY-4.0 ") == "cc-by-4.0"
    with pytest.raises(ValueError, match=r"found 'cc-by-nc': did you mean 'cc-by-nc-\d.0'\?"):
        confirm_license("folder", "cc-by-nc")
    for license in LICENSES:
        assert check_license(license.upper()) == license


def test_other_names_no_license():
    with pytest.raises(ValueError, match="expected a licence that its identifier names, found 'other', for which"):
        confirm_license("folder", "other")
