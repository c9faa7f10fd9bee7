"""What an alignment asks for, and what it refuses at plan time."""

from __future__ import annotations

import pytest

from party.errors import UsageError
from party.request import Opening, Use
from psi import Joined, Terms, request
from psi.terms import receives_tags, tag_width
from tests.psi.support import KEYS, SALT


def test_both_learn_rows_and_every_key_column_is_used_for_join() -> None:
    keys = {"bank": ("customers", (("name", "born"),)), "telco": ("subscribers", (("full_name", "birth"),))}
    found = request(Joined(keys))
    assert Use("bank", "customers", "born", "join") in found.uses and len(found.uses) == 4
    assert {use.use for use in found.uses} == {"join"}
    assert {o.what for o in found.openings if o.to == "bank"} == {
        "alignment.list",
        "alignment.count",
        "alignment.rows",
        "alignment.enough",
    }


def test_one_learner_opens_nothing_but_a_length_and_a_bit_to_the_other() -> None:
    found = request(Joined(KEYS, "bank")).openings
    assert {o.what for o in found if o.to == "telco"} == {"alignment.list", "alignment.enough"}
    assert Opening("alignment.rows", "bank") in found and Opening("alignment.enough", "bank") not in found


TWO = {"bank": ("customers", (("phone",), ("email",))), "telco": ("subscribers", (("msisdn",), ("mail",)))}


@pytest.mark.parametrize(
    ("joined", "text"),
    [
        (Joined(KEYS, "insurer"), "neither"),
        (Joined({**KEYS, "bank": TWO["bank"]}), "counterpart"),
        (Joined({**KEYS, "bank": ("customers", (("phone", "name"),))}), "different numbers"),
        (Joined(TWO, "bank"), "tried in order needs `learns: both`"),
        (Joined(TWO, "size"), "tried in order needs `learns: both`"),
        (Joined(KEYS, "bank", keep="bank"), "`keep` needs `learns: both`"),
        (Joined(KEYS, "size", multiple=True), "`duplicates: all` needs `learns: both`"),
        (Joined(KEYS, keep="insurer"), "neither"),
    ],
)
def test_what_cannot_be_joined_so_is_refused(joined: Joined, text: str) -> None:
    with pytest.raises(UsageError, match=text) as caught:
        request(joined)
    assert caught.value.exit_code == 2


def test_size_opens_a_number_to_both_and_rows_to_nobody() -> None:
    found = request(Joined(KEYS, "size")).openings
    assert {(o.what, o.to) for o in found if o.what == "alignment.count"} == {
        ("alignment.count", "bank"),
        ("alignment.count", "telco"),
    }
    assert "alignment.rows" not in {o.what for o in found}


def test_joins_name_what_they_open_besides() -> None:
    found = request(Joined(TWO, keep="bank", multiple=True))
    assert {use.column for use in found.uses} == {"phone", "email", "msisdn", "mail"}
    assert Opening("alignment.unmatched", "telco") in found.openings
    assert Opening("alignment.unmatched", "bank") not in found.openings
    assert {Opening("alignment.multiplicities", party) for party in KEYS} <= found.openings


def test_exactly_one_side_receives_tags() -> None:
    for n in range(4):
        for m in range(4):
            for learns in ("both", "size", "bank", "telco"):
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
    others += [Terms(run="r", salt=SALT, keep="bank"), Terms(run="r", salt=SALT, multiple=True)]
    assert len({ours.digest(), *(other.digest() for other in others)}) == 6
