"""What an alignment asks for, and what it refuses at plan time."""

from __future__ import annotations

import pytest

from party.errors import UsageError
from party.request import Opening, Use
from psi import Terms, request
from psi.terms import receives_tags, tag_width
from tests.psi.support import KEYS, SALT


def test_both_learn_rows_and_every_key_column_is_used_for_join() -> None:
    keys = {"bank": ("customers", (("name", "born"),)), "telco": ("subscribers", (("full_name", "birth"),))}
    found = request(keys, "both")
    assert Use("bank", "customers", "born", "join") in found.uses and len(found.uses) == 4
    assert {use.use for use in found.uses} == {"join"}
    assert {o.what for o in found.openings if o.to == "bank"} == {
        "alignment.list",
        "alignment.count",
        "alignment.rows",
        "alignment.enough",
    }


def test_one_learner_opens_nothing_but_a_length_and_a_bit_to_the_other() -> None:
    found = request(KEYS, "bank").openings
    assert {o.what for o in found if o.to == "telco"} == {"alignment.list", "alignment.enough"}
    assert Opening("alignment.rows", "bank") in found and Opening("alignment.enough", "bank") not in found


def test_what_is_not_available_is_refused_with_a_remedy() -> None:
    for keys, learns, text in (
        (KEYS, "size", "not available"),
        (KEYS, "insurer", "neither"),
        ({**KEYS, "bank": ("customers", (("phone",), ("email",)))}, "both", "tried in order"),
        ({**KEYS, "bank": ("customers", (("phone", "name"),))}, "both", "different numbers"),
    ):
        with pytest.raises(UsageError, match=text) as caught:
            request(keys, learns)
        assert caught.value.exit_code == 2


def test_exactly_one_side_receives_tags() -> None:
    for n in range(4):
        for m in range(4):
            for learns in ("both", "bank", "telco"):
                bank, telco = ("bank", n), ("telco", m)
                assert receives_tags(bank, telco, learns) != receives_tags(telco, bank, learns)


@pytest.mark.parametrize(
    ("n", "m", "width"), [(0, 0, 10), (1000, 1000, 10), (2**20, 2**20, 10), (2**20 + 1, 2**20, 11)]
)
def test_tags_leave_forty_bits_of_safety(n: int, m: int, width: int) -> None:
    assert tag_width(n, m) == width
    assert 8 * width >= 40 and 2 ** (8 * width - 40) >= n * m


def test_impossible_terms_are_refused() -> None:
    with pytest.raises(UsageError, match="salt"):
        Terms(run="r", salt=b"short")
    with pytest.raises(UsageError, match="negative"):
        Terms(run="r", salt=SALT, our_min_size=-1)


def test_the_terms_digest_is_the_same_on_both_sides_and_changes_with_each_part() -> None:
    ours = Terms(run="r", salt=SALT, our_min_size=3, their_min_size=9, most_ours=10, most_theirs=20)
    theirs = Terms(run="r", salt=SALT, our_min_size=9, their_min_size=3, most_ours=20, most_theirs=10)
    assert ours.digest() == theirs.digest()
    others = [Terms(run="q", salt=SALT), Terms(run="r", salt=SALT[1:]), Terms(run="r", salt=SALT, learns="bank")]
    assert len({ours.digest(), *(other.digest() for other in others)}) == 4
