"""The reference page names every scheme, type and public name, and the how-to's connector works."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pyarrow as pa
import pytest

import connectors
from connectors.declare import TYPES
from connectors.files import stamp_of
from connectors.registry import SINKS, SOURCES
from connectors.source import Source, Stamp

DOCS = Path(__file__).parents[2] / "docs"


def test_the_reference_names_every_scheme_and_type() -> None:
    page = (DOCS / "reference/connectors.md").read_text()
    for scheme in SOURCES.keys() | SINKS.keys():
        assert f"| `{scheme}:` |" in page
    for kind in TYPES:
        assert f"| `{kind}" in page


def test_public_names_are_sorted_and_there() -> None:
    assert list(connectors.__all__) == sorted(connectors.__all__)
    assert all(hasattr(connectors, name) for name in connectors.__all__)


def test_the_how_tos_connector_works(tmp_path: Path) -> None:
    page = (DOCS / "how-to/write-a-connector.md").read_text()
    found = re.search(r"```python\n(class LinesSource.*?)```", page, re.DOTALL)
    assert found is not None
    names = {"Source": Source, "Stamp": Stamp, "pa": pa, "itertools": itertools, "stamp_of": stamp_of}
    exec(found[1], names)
    (tmp_path / "t.txt").write_text("1\n22\n")
    source = names["LinesSource"](tmp_path / "t.txt", "t.txt", {}, [])  # type: ignore[operator]
    assert source.rows() == 2
    assert source.read(["line"])["line"].to_pylist() == [1, 22]


def test_a_source_without_its_four_answers_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Source("t", {}, [])  # type: ignore[abstract]
