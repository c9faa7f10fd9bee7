"""Encrypted columns that one side has uploaded and the other keeps, for later statements of the same session.

Both sides hold the same names in the same order, since both see the same statements: so each knows what the other
still has, and nothing is asked. A name binds the alignment and everything the column's values come from. An upload
meets many multipliers; each answer is re-randomised and masked by itself (docs/protocols/04-lattice-linear.md).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from mpc.linear import Received, Uploaded

__all__ = ["BLOCKS", "Uploads"]

Handle = Uploaded | Received

BLOCKS = 1024  # of 8192 values: 400 MB at most on the side that keeps them


class Uploads:
    """Handles by name, the least recently used ones forgotten first; the same calls on both sides."""

    def __init__(self, most: int = BLOCKS) -> None:
        self._most = most
        self._held: OrderedDict[bytes, tuple[Handle, int]] = OrderedDict()

    def get(self, names: Sequence[bytes], blocks: int, make: Callable[[list[int]], Sequence[Handle]]) -> list[Handle]:
        """The handles of these names, each of so many blocks; `make` gives those of the places that are not held."""
        missing = [place for place, name in enumerate(names) if name not in self._held]
        found = {name: self._held[name][0] for name in names if name in self._held}
        if missing:
            found |= dict(zip((names[place] for place in missing), make(missing), strict=True))
        for name in names:
            self._held[name] = found[name], blocks
            self._held.move_to_end(name)
        while sum(cost for _, cost in self._held.values()) > self._most:
            self._held.popitem(last=False)
        return [found[name] for name in names]

    def clear(self) -> None:
        """Hold nothing: after a failure the two sides may not hold the same."""
        self._held.clear()
