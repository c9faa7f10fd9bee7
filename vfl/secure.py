"""What one training pass needs of joint arithmetic, and the real engine's form of it.

`vfl.passes` is written against `Arithmetic` alone, so the tests can run the same passes over an ideal oracle that
computes with both sides' values and hands out fresh shares. `Secure` is the real thing: every method is a few calls
into `mpc`, in an order that both sides derive from their index.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np

from mpc import compare, convert, garbled, matrix, opening
from mpc.engine import Engine
from mpc.garbled import Asked
from mpc.linear import Columns
from mpc.matrix import Strips
from party.errors import InternalError
from party.message import Message

__all__ = ["Arithmetic", "Secure"]

M = TypeVar("M", bound=Message)


class Arithmetic(Protocol):
    """Shares are uint64 modulo 2^64 unless a modulus is named; each method is called by both sides at the same time."""

    @property
    def index(self) -> int: ...

    @property
    def us(self) -> str: ...

    @property
    def peer(self) -> str: ...

    def seeded(self, root: bytes) -> Arithmetic:
        """The same with randomness from this secret of ours, for passes that may be repeated."""
        ...

    def begin(self, label: bytes, number: int) -> None:
        """Randomness of this label's own from here on, at both sides."""
        ...

    def products(self, columns: np.ndarray, share: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Shares of (our columns.T @ the peer's share, the peer's columns.T @ our share).

        columns: ours, int64 (d, m); share: ours of the peer's weights (d_peer,); rows: how many the peer's has.
        """
        ...

    def gradients(self, columns: np.ndarray, share: np.ndarray, theirs: int) -> tuple[np.ndarray, np.ndarray]:
        """Shares of (our columns @ the peer's share, the peer's columns @ our share), (d,) and (theirs,)."""
        ...

    def slots_owner(self, values: Columns, t: int, outputs: int) -> np.ndarray:
        """Shares modulo t of sum_h factors[o, h] values[h], (outputs, n), for our values (h, n)."""
        ...

    def slots_multiplier(self, factors: Columns, t: int) -> np.ndarray:
        """The same, for our factors (outputs, h, n)."""
        ...

    def matrices(
        self, owned: Strips, factors: Strips, theirs: tuple[int, int], bits: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Shares of (our owned @ the peer's factors.T, the peer's owned @ our factors.T).

        owned: uint64 (m, k); factors: int64 (n, k') of `bits` bits; theirs: the peer's (m', n').
        """
        ...

    def lift(self, share: np.ndarray, t: int) -> np.ndarray:
        """Shares modulo t of |value| < t/4 to shares modulo 2^64."""
        ...

    def truncate(self, share: np.ndarray, shift: int) -> np.ndarray:
        """Shares of |value| < 2^62 to shares of value / 2^shift, to one unit."""
        ...

    def truncate_and_test(
        self, share: np.ndarray, shift: int, asked: Asked, what: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """`truncate`, and a bit for each group of asked values, opened to both sides: is any negative? uint8."""
        ...

    def negative(self, share: np.ndarray, bits: int) -> np.ndarray:
        """XOR shares of [value < 0] for |value| < 2^(bits - 1), uint8."""
        ...

    def select(self, bits: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Shares of bit * value from XOR shares of bits and shares of values, (n,) each."""
        ...

    def to_arithmetic(self, bits: np.ndarray) -> np.ndarray:
        """XOR shares of bits to shares modulo 2^64."""
        ...

    def open_bits(self, bits: np.ndarray, what: str) -> np.ndarray:
        """XOR shares opened to both sides: uint8."""
        ...

    def open_to(self, share: np.ndarray, what: str, to: str) -> np.ndarray | None:
        """Shares opened to one side: the value there, None at the other."""
        ...

    def disclose(self, what: str, to: str, rows: int) -> None:
        """Ask the guard before a value leaves in a message of our own."""
        ...

    def swap(self, message: M) -> M:
        """Our message for the peer's of the same kind."""
        ...


class Secure:
    """`Arithmetic` over one engine: lattice products, oblivious transfers, comparisons, openings through the guard."""

    def __init__(self, engine: Engine, bits: int) -> None:
        """bits: signed width of the columns that `products` and `gradients` will see."""
        self._engine = engine
        self._bits = bits

    @property
    def index(self) -> int:
        return self._engine.index

    @property
    def us(self) -> str:
        return self._engine.channel.us

    @property
    def peer(self) -> str:
        return self._engine.channel.peer

    def seeded(self, root: bytes) -> Secure:
        return Secure(self._engine.seeded(root), self._bits)

    def begin(self, label: bytes, number: int) -> None:
        self._engine.begin(label, number)

    def products(self, columns: np.ndarray, share: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
        linear = self._engine.linear
        if self.index == 0:
            theirs = linear.matvec_vector(share, rows)
            return linear.matvec_matrix(columns, self._bits), theirs
        ours = linear.matvec_matrix(columns, self._bits)
        return ours, linear.matvec_vector(share, rows)

    def gradients(self, columns: np.ndarray, share: np.ndarray, theirs: int) -> tuple[np.ndarray, np.ndarray]:
        linear = self._engine.linear
        # both uploads are on their way before either side begins to multiply
        if self.index == 0:
            sent = linear.upload(share[None, :])
            got = linear.receive(1, len(share))
            other = linear.inner_owner(sent, theirs, self._bits)
            return linear.inner_multiplier(got, columns, self._bits)[0], other[0]
        got = linear.receive(1, len(share))
        sent = linear.upload(share[None, :])
        ours = linear.inner_multiplier(got, columns, self._bits)
        return ours[0], linear.inner_owner(sent, theirs, self._bits)[0]

    def slots_owner(self, values: Columns, t: int, outputs: int) -> np.ndarray:
        return self._engine.linear.slots_owner(values, t, outputs)

    def slots_multiplier(self, factors: Columns, t: int) -> np.ndarray:
        return self._engine.linear.slots_multiplier(factors, t)

    def matrices(
        self, owned: Strips, factors: Strips, theirs: tuple[int, int], bits: int
    ) -> tuple[np.ndarray, np.ndarray]:
        return matrix.products(self._engine.linear, owned, factors, theirs, bits)

    def lift(self, share: np.ndarray, t: int) -> np.ndarray:
        return convert.lift(self._engine, share, t)

    def truncate(self, share: np.ndarray, shift: int) -> np.ndarray:
        return convert.truncate(self._engine, share, shift)

    def truncate_and_test(
        self, share: np.ndarray, shift: int, asked: Asked, what: str
    ) -> tuple[np.ndarray, np.ndarray]:
        return garbled.truncate_and_test(self._engine, share, shift, asked, what)

    def negative(self, share: np.ndarray, bits: int) -> np.ndarray:
        return compare.negative(self._engine, share, bits)

    def select(self, bits: np.ndarray, values: np.ndarray) -> np.ndarray:
        return convert.select(self._engine, bits, values)

    def to_arithmetic(self, bits: np.ndarray) -> np.ndarray:
        return convert.to_arithmetic(self._engine, bits)

    def open_bits(self, bits: np.ndarray, what: str) -> np.ndarray:
        opened = opening.open_bits(self._engine, bits, what, (self.us, self.peer))
        if opened is None:
            raise InternalError("bits opened to both sides did not arrive")
        return opened

    def open_to(self, share: np.ndarray, what: str, to: str) -> np.ndarray | None:
        return opening.open_to(self._engine, share, what, (to,))

    def disclose(self, what: str, to: str, rows: int) -> None:
        self._engine.guard.disclose(what, to, rows)

    def swap(self, message: M) -> M:
        return self._engine.channel.swap(message)
