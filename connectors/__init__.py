"""A party's table in, local parts of a query evaluated, results out. Knows no cryptography and no peer."""

from connectors.declare import Declared
from connectors.local_sql import Column, evaluate, finds
from connectors.measure import Measured, measure
from connectors.registry import open_sink, open_source
from connectors.sink import Receipt, Sink
from connectors.source import Field, Source, Stamp

__all__ = [
    "Column",
    "Declared",
    "Field",
    "Measured",
    "Receipt",
    "Sink",
    "Source",
    "Stamp",
    "evaluate",
    "finds",
    "measure",
    "open_sink",
    "open_source",
]
