"""Who do we share: identifiers, the matching protocol, the alignment."""

from psi.cost import Cost, predict
from psi.ecdh import match
from psi.identifiers import NORMALISATION, Identifiers, from_items, from_scan, settings_digest
from psi.joining import align
from psi.masking import Facts
from psi.means import Means
from psi.messages import MOST_ROWS
from psi.normalise import KeyColumn
from psi.series_folder import Limits, SeriesFolder
from psi.store import MemoryStore, SealedStore, Store
from psi.terms import Alignment, Joined, Terms, request
from psi.unbalanced import prepare_ahead, prepared_ahead, smaller

__all__ = [
    "MOST_ROWS",
    "NORMALISATION",
    "Alignment",
    "Cost",
    "Facts",
    "Identifiers",
    "Joined",
    "KeyColumn",
    "Limits",
    "Means",
    "MemoryStore",
    "SealedStore",
    "SeriesFolder",
    "Store",
    "Terms",
    "align",
    "from_items",
    "from_scan",
    "match",
    "predict",
    "prepare_ahead",
    "prepared_ahead",
    "request",
    "settings_digest",
    "smaller",
]
