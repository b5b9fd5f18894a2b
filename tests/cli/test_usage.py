"""A mistake on the command line: the next step is a command that exists."""

from __future__ import annotations

import pytest

from harvestd.cli.main import main
from harvestd.cli.names import unknown


@pytest.mark.parametrize(
    ("line", "what", "next_step"),
    [
        ("stauts", "no command 'harvestd stauts'", "did you mean 'harvestd status'?"),
        ("stauts acme --json", "'harvestd stauts'", "Its help: harvestd status --help"),
        ("tenant lst", "'harvestd tenant lst'", "did you mean 'harvestd tenant list'?"),
        ("confg list", "'harvestd confg'", "did you mean 'harvestd config'?"),
        ("qqqqqq", "'harvestd qqqqqq'", "  next: harvestd --help"),
        ("trigger acme --sorce=git", "harvestd trigger has no option --sorce", "mean --source?"),
        ("status --zzz", "harvestd status has no option --zzz", "  next: harvestd status --help"),
        ("--verison", "harvestd has no option --verison", "did you mean --version?"),
        ("reset", "harvestd reset needs TENANT", "harvestd reset --help"),
        ("tenant add a b", "harvestd tenant add does not take 'b'", "harvestd tenant add --help"),
    ],
)
def test_a_misspelt_word_leads_to_the_nearest_right_one(
    capsys: pytest.CaptureFixture[str], line: str, what: str, next_step: str
) -> None:
    code = main(line.split())
    said = capsys.readouterr().err.splitlines()

    assert code == 2
    assert what in said[0]
    assert next_step in said[2]
    assert len(said) == 3


def test_a_value_given_to_a_misspelt_config_set_is_not_repeated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for line in ("confg set acme git KEY canary", "config st acme git KEY canary"):
        assert main(line.split()) == 2
    assert "canary" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("there", "add", "why", "next_step"),
    [
        (["acme"], "ADD", "1 tenant known here", "did you mean 'acme'? Otherwise: ADD"),
        (["x", "y"], "ADD", "2 tenants known here", "there are: x, y. Otherwise: ADD"),
        (["x"], "", "1 tenant known here", "there are: x."),
        ([], "ADD", "there is no tenant at all yet", "ADD"),
        ([], "", "there is no tenant at all yet", "harvestd status shows what there is"),
    ],
)
def test_an_unknown_name_is_answered_in_sentences(
    there: list[str], add: str, why: str, next_step: str
) -> None:
    error = unknown("tenant", "acmee", there, add=add)

    assert (error.why, error.next_step) == (why, next_step)
