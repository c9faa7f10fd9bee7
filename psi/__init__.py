"""Who do we share: identifiers, the matching protocol, the alignment."""

from psi.cost import Cost, predict
from psi.ecdh import match, prepared
from psi.identifiers import NORMALISATION, Identifiers, from_batches, from_items, settings_digest
from psi.normalise import KeyColumn
from psi.store import MemoryStore, SealedStore, Store
from psi.terms import Alignment, Terms, request

__all__ = [
    "NORMALISATION",
    "Alignment",
    "Cost",
    "Identifiers",
    "KeyColumn",
    "MemoryStore",
    "SealedStore",
    "Store",
    "Terms",
    "from_batches",
    "from_items",
    "match",
    "predict",
    "prepared",
    "request",
    "settings_digest",
]
