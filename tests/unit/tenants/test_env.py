"""What a script is told of a key that its tenant does not have."""

from __future__ import annotations

import pytest

from harvestd.errors import MissingKey
from harvestd.tenants.config import Env

DESK = Env({"DESK_TOKEN": "s3cret", "DESK_URL": "https://desk"}, tenant_id="acme", source="desk")


def test_a_key_that_is_misspelt_is_answered_with_the_nearest() -> None:
    with pytest.raises(MissingKey) as missing:
        DESK["DESK_TOKN"]

    assert missing.value.what == (
        "the configuration has no key 'DESK_TOKN': did you mean 'DESK_TOKEN'?"
    )
    assert missing.value.next_step == (
        "ask for env['DESK_TOKEN'] in the script, or harvestd config set acme desk DESK_TOKN"
    )
    assert "s3cret" not in str(missing.value)


def test_a_key_that_only_begins_as_others_is_not_taken_for_one_of_them() -> None:
    with pytest.raises(MissingKey) as missing:
        DESK["DESK_ORG"]

    assert missing.value.what == "the configuration has no key 'DESK_ORG'"
    assert missing.value.next_step == "harvestd config set acme desk DESK_ORG"
