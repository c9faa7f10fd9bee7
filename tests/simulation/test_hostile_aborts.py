"""What an abort tells the peer: nothing of our rows and columns."""

from party.errors import DataError
from party.frame import abort_of


def test_an_error_in_our_data_names_no_row_column_or_value() -> None:
    abort = abort_of(DataError("row 4711, column 'balance': 'x93' is not a number"), "psi")
    assert abort.code == "data"
    assert not any(word in abort.text for word in ("4711", "balance", "x93", "row", "column"))
