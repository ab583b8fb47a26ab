"""Short help of all scripts of recipes/."""

import re
import shlex

import pytest
from runner import ROOT, script

from hf_vivae.reproduction.study import DESCRIPTION

SCRIPTS = sorted((ROOT / "recipes").glob("*.py"), key=lambda file: file.stem)


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.stem)
def test_help_has_each_argument_once_on_one_page(file, capsys):
    with pytest.raises(SystemExit) as end:
        script(file).main(["--help"])
    assert end.value.code == 0
    page = capsys.readouterr().out
    names = re.findall(r"^  (--\w+|RUN)", page, re.MULTILINE)
    assert len(names) == len(set(names)) > 4
    assert len(page.splitlines()) <= 100
    with pytest.raises(SystemExit):
        script(file).main(["--help_all"])
    complete = capsys.readouterr().out
    assert [name for name in names if name not in complete] == []
    if file.stem in ("ablate", "curve", "search"):
        assert "--gradient_accumulation_steps" in complete


def test_the_examples_of_a_description_are_printed_as_they_are(capsys):
    example = DESCRIPTION.splitlines()[-1]
    with pytest.raises(SystemExit):
        script(ROOT / "recipes" / "reproduce.py").main(["--help"])
    assert example in capsys.readouterr().out.splitlines()
    assert (ROOT / shlex.split(example)[1]).is_file()
