"""Products of one side's columns with the other side's, landing as additive shares; both roles in this file.

The owner encrypts under its own key and uploads; the multiplier multiplies, re-randomises, masks and answers
(`mpc.exchange`). Four forms: inner products (one coefficient sent), the same modulo 2^104, matrix times vector (all
rows sent), products in slots (modulo a small prime). Steps are numbered as in docs/protocols/04-lattice-linear.md.
Shares are uniform by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kernels.ntt import N, basis
from mpc import exchange, lattice
from mpc.encrypted import Received, blocks_of, inner_products, padded
from mpc.exchange import Exchange, Firsts, LongFirsts, Outbox, batch_of
from mpc.lattice import NARROW, WIDE, WORD
from mpc.lattice_long import LONG, answer_long, decrypt_long, encode_long, two_words
from mpc.ring import LIMB_BITS, weighted
from mpc.slots import slot_set, smallest_slot_prime
from party.errors import InternalError

__all__ = [
    "Columns",
    "Linear",
    "Received",
    "Uploaded",
    "limb_count",
    "slot_groups",
    "slot_set",
    "smallest_slot_prime",
]


class Columns(Protocol):
    """Values by rows, in the last place: an array, or what computes the asked ones."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, key: Any, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Uploaded:
    """The owner's handle of columns it has sent: their number and length."""

    columns: int
    rows: int

    def parts(self, columns: int) -> list[Uploaded]:
        """Handles of so many columns each."""
        return [Uploaded(columns, self.rows)] * (self.columns // columns)

    @staticmethod
    def joined(handles: Sequence[Uploaded]) -> Uploaded:
        """One handle of all their columns, in order."""
        return Uploaded(sum(handle.columns for handle in handles), handles[0].rows)


class Linear(Exchange):
    """One side's half of the engine over one channel; keys are made and sent at their first use.

    `index` is 0 for the party named first, 1 for the other. Both sides call matching methods in the same order:
    `upload` faces `receive`, `inner_owner` faces `inner_multiplier` and so on. (Two uploads that face each other, both
    received afterwards, work up to 1,024 ciphertexts each; beyond, an upload waits for its reader.) An engine is used
    by one thread.
    """

    # --- inner products: columns (k, n) of the owner times rows (r, n) of the multiplier ------------------------

    def upload(self, columns: np.ndarray) -> Uploaded:
        """Encrypt columns, uint64 (k, n), modulo 2^64 and send them; the peer learns k and n.

        No round. 153,616 bytes for 8192 values of a column (18.8 a value), and 153,635 once for the key.
        """
        columns, rows = _matrix(columns, np.uint64)
        blocks = blocks_of(rows)

        def plain() -> Iterator[np.ndarray]:
            for column in columns:
                for block in range(blocks):
                    yield lattice.encode(NARROW, padded(column, block), WORD)

        self.send(NARROW, plain(), len(columns) * blocks)
        return Uploaded(len(columns), rows)

    def receive(self, k: int, n: int) -> Received:
        """Take the owner's k encrypted columns of n values; PeerError when they are not well formed."""
        received = Received(k, n, NARROW)
        for seed, body in self.ciphertexts(NARROW, k * received.blocks):
            received.append(seed, body)
        return received

    def inner_owner(self, up: Uploaded, rows: int, bits: int) -> np.ndarray:
        """Our shares of columns @ theirs.T modulo 2^64, uint64 (k, rows).

        rows: how many columns the multiplier brings, |value| < 2^(bits - 1). We learn nothing else.
        One round. Received: 81,930 bytes for each of k, rows and limb of 22 bits (`predict_inner`).
        """
        limbs = limb_count(bits)
        count = up.columns * rows * limbs
        key = self.key(NARROW)
        # 5. Decrypt: the rounded value modulo 2^64 is our share of one limb.
        shares = [key.first(first, second, WORD) for first, second in self.firsts(Firsts, count)]
        return weighted(np.array(shares, dtype=np.uint64).reshape(up.columns, rows, limbs))

    def inner_multiplier(self, got: Received, rows: np.ndarray, bits: int) -> np.ndarray:
        """Our shares of theirs @ rows.T modulo 2^64, uint64 (k, r), for rows int64 (r, n), |rows| < 2^(bits - 1).

        The owner learns r, n and bits. Raises InternalError when a value does not fit or too little hiding is left.
        """
        rows, n = _matrix(rows, np.int64)
        if n != got.rows:
            raise InternalError(f"{n} values against {got.rows} encrypted rows")
        _check_width(rows, bits)
        limbs = limb_count(bits)
        count = got.columns * len(rows) * limbs
        self.budget.spend(NARROW, n, min(bits, LIMB_BITS), count)
        public, out = self.theirs[NARROW.name], Outbox(self.channel, Firsts, count)
        shares = np.zeros(count, dtype=np.uint64)
        # 3. Multiply: coefficient 0 of column times x_0 - sum x_i X^(N-i) is the inner product.
        for place, (total0, total1) in enumerate(inner_products(got, rows, limbs)):
            # 4. Re-randomise, mask the one coefficient, switch to 80 bits, send.
            first, second, shares[place] = public.answer_first(self.secrets, total0, total1, WORD)
            out.put(first, second)
        return weighted(shares.reshape(got.columns, len(rows), limbs))

    # --- inner products modulo 2^104, of signed columns: for sums over 64 bits --------------------------------------

    def upload_long(self, columns: np.ndarray) -> Uploaded:
        """Encrypt columns, int64 (k, n), modulo 2^104 and send them; the peer learns k and n.

        No round. 204,816 bytes for 8192 values of a column (25 a value), and 204,835 once for the key.
        """
        columns, rows = _matrix(columns, np.int64)
        blocks = blocks_of(rows)
        plain = (encode_long(padded(column, block)) for column in columns for block in range(blocks))
        self.send(WIDE, plain, len(columns) * blocks)
        return Uploaded(len(columns), rows)

    def receive_long(self, k: int, n: int) -> Received:
        """Take the owner's k columns of n values of `upload_long`; PeerError when they are not well formed."""
        received = Received(k, n, WIDE)
        for seed, body in self.ciphertexts(WIDE, k * received.blocks):
            received.append(seed, body)
        return received

    def long_owner(self, up: Uploaded, rows: int) -> np.ndarray:
        """Our shares of columns @ theirs.T modulo 2^104, in two words each: uint64 (k, rows, 2).

        rows: how many columns the multiplier brings, of at most 22 bits. One round. Received: 122,895 bytes for each of
        k and rows (`predict_long`).
        """
        key = self.key(WIDE)
        answers = self.firsts(LongFirsts, up.columns * rows)
        return two_words([decrypt_long(key, first, second) for first, second in answers], (up.columns, rows))

    def long_multiplier(self, got: Received, rows: np.ndarray, bits: int) -> np.ndarray:
        """Our shares of theirs @ rows.T modulo 2^104, uint64 (k, r, 2), for rows int64 (r, n), |rows| < 2^(bits - 1).

        bits: at most 22; the owner learns r and n. InternalError as `inner_multiplier`.
        """
        rows, n = _matrix(rows, np.int64)
        if n != got.rows or got.parameters != WIDE or bits > LIMB_BITS:
            raise InternalError(f"{n} values of {bits} bits against {got.rows} rows under {got.parameters.name}")
        _check_width(rows, bits)
        count = got.columns * len(rows)
        self.budget.spend(WIDE, n, bits, count, LONG)
        public, out, shares = self.theirs[WIDE.name], Outbox(self.channel, LongFirsts, count), []
        for total0, total1 in inner_products(got, rows, 1):
            first, second, share = answer_long(public, self.secrets, total0, total1)
            out.put(first, second)
            shares.append(share)
        return two_words(shares, (got.columns, len(rows)))

    # --- a matrix of the multiplier times a vector of the owner: one result a row -------------------------------

    def matvec_vector(self, weights: np.ndarray, n: int) -> np.ndarray:
        """Our shares of columns.T @ weights modulo 2^64, uint64 (n,), for our weights uint64 (d,).

        The multiplier learns d. One round. Sent: 204,816 bytes a weight; received: 81,920 a block of 8192 rows and
        10 a row (`predict_matvec`).
        """
        weights = np.ascontiguousarray(weights, dtype=np.uint64)
        constants = lattice.encode(WIDE, weights, WORD)
        self.send(WIDE, (constants[:, i] for i in range(len(weights))), len(weights), batch_of(WIDE))
        key, blocks = self.key(WIDE), [_rows_of(block, n) for block in range(blocks_of(n))]
        shares = np.empty(n, dtype=np.uint64)
        for rows, answer in zip(blocks, self.rows([rows.stop - rows.start for rows in blocks]), strict=True):
            # 5. Decrypt every sent coefficient.
            shares[rows] = key.all(*answer, WORD)
        return shares

    def matvec_matrix(self, columns: np.ndarray, bits: int) -> np.ndarray:
        """Our shares of columns.T @ theirs modulo 2^64, uint64 (n,), for columns int64 (d, n), |x| < 2^(bits - 1)."""
        columns, n = _matrix(columns, np.int64)
        _check_width(columns, bits)
        self.budget.spend(WIDE, N * len(columns), bits, n)
        ciphers = [
            lattice.expanded(WIDE, seed, body) for seed, body in self.ciphertexts(WIDE, len(columns), batch_of(WIDE))
        ]
        ring, public = WIDE.basis, self.theirs[WIDE.name]
        shares = np.empty(n, dtype=np.uint64)
        answers: list[tuple[np.ndarray, np.ndarray]] = []
        for block in range(blocks_of(n)):
            totals = np.zeros((2, len(ring), N), dtype=np.uint64)
            for column, cipher in zip(columns, ciphers, strict=True):
                # 3. Multiply: an encrypted constant times sum x_i X^i holds row i in coefficient i.
                factor = ring.forward(ring.residues(padded(column, block)))
                ring.multiply_add(totals, cipher, factor)
            here = _rows_of(block, n)
            first, second, shares[here] = public.answer_all(self.secrets, totals, here.stop - here.start, WORD)
            answers.append((first, second))
            if len(answers) == exchange.ANSWERS:
                self.send_rows(answers)
                answers = []
        self.send_rows(answers)
        return shares

    # --- products in slots, modulo a small prime ----------------------------------------------------------------

    def slots_owner(self, values: Columns, t: int, outputs: int) -> np.ndarray:
        """Our shares modulo t of sum_h factors[o, h] * values[h], uint64 (outputs, n); values uint64 (h, n) below t.

        t: a prime below 2^50 that is 1 modulo 16384 (`smallest_slot_prime`). The multiplier learns h, n, t, outputs.
        values: an array, or what gives `values[:, rows]` of one where it is asked for (many rows need not be held).
        One round. Sent: 122,896 bytes for each h and block of 8192 rows (15 a value; 204,816 for t over 2^26);
        received: 81,920 a block and 10 a row for each output (`predict_slots`).
        """
        parameters = slot_set(t)
        height, n = values.shape
        small, key = basis((t,)), self.key(parameters)
        shares = np.empty((outputs, n), dtype=np.uint64)

        def polynomials(blocks: range) -> Iterator[np.ndarray]:
            for block in blocks:
                for row in _slot_rows(values[:, _rows_of(block, n)], (height,), t):
                    yield lattice.encode(parameters, small.inverse(padded(row, 0)[None, :])[0], t)

        def collect(blocks: range) -> None:
            answers = self.rows([N] * (len(blocks) * outputs))
            for block in blocks:
                rows = _rows_of(block, n)
                for output in range(outputs):
                    found = small.forward(key.all(*next(answers), t)[None, :])[0]
                    shares[output, rows] = found[: rows.stop - rows.start]

        groups = slot_groups(height, n)
        for group, before in zip([*groups, range(0)], [range(0), *groups], strict=True):
            self.send(parameters, polynomials(group), len(group) * height, batch_of(parameters))
            collect(before)
        return shares

    def slots_multiplier(self, factors: Columns, t: int) -> np.ndarray:
        """Our shares modulo t of the same sums, uint64 (outputs, n), for factors (outputs, h, n), as `values` above."""
        parameters = slot_set(t)
        outputs, height, n = factors.shape
        self.budget.spend(parameters, N * height, math.log2(t), outputs * n, t)
        ring, small = parameters.basis, basis((t,))
        shares = np.empty((outputs, n), dtype=np.uint64)
        for group in slot_groups(height, n):
            ciphers = self.ciphertexts(parameters, len(group) * height, batch_of(parameters))
            answers: list[tuple[np.ndarray, np.ndarray]] = []
            for block in group:
                rows = _rows_of(block, n)
                made = factors[:, :, rows]
                totals = np.zeros((outputs, 2, len(ring), N), dtype=np.uint64)
                for row in range(height):
                    cipher = lattice.expanded(parameters, *next(ciphers))
                    ours = _slot_rows(made[:, row], (outputs,), t)
                    for output in range(outputs):
                        # 3. Multiply: both sides' polynomials hold their values in the slots modulo t.
                        polynomial = small.inverse(padded(ours[output], 0)[None, :])[0].view(np.int64)
                        centred = polynomial - (polynomial > t // 2) * np.int64(t)
                        ring.multiply_add(totals[output], cipher, ring.forward(ring.residues(centred)))
                # 4. A slot depends on every coefficient, so all of them are sent, masked, in a short block, too.
                for output in range(outputs):
                    first, second, share = self.theirs[parameters.name].answer_all(self.secrets, totals[output], N, t)
                    shares[output, rows] = small.forward(share[None, :])[0, : rows.stop - rows.start]
                    answers.append((first, second))
            self.send_rows(answers)
        return shares


def slot_groups(height: int, n: int) -> list[range]:
    """Blocks of slot products that are answered together: two groups make at most a window of ciphertexts."""
    blocks, step = blocks_of(n), max(1, exchange.WINDOW // (2 * height))
    return [range(start, min(blocks, start + step)) for start in range(0, blocks, step)]


def _rows_of(block: int, n: int) -> slice:
    return slice(block * N, min(n, block * N + N))


def _slot_rows(values: np.ndarray, shape: tuple[int, ...], t: int) -> np.ndarray:
    """Values of one block's rows, checked: uint64 below the plaintext modulus."""
    if values.dtype != np.uint64 or values.shape[:-1] != shape or not values.size:
        raise InternalError(f"slot values of {values.dtype}, shape {values.shape}")
    if int(values.max()) >= t:
        raise InternalError("a slot value is not below the plaintext modulus")
    return values


def _check_width(values: np.ndarray, bits: int) -> None:
    if not 1 <= bits <= 63:
        raise InternalError(f"multipliers of {bits} bits; 1 to 63 are possible")
    if values.size and not -(1 << (bits - 1)) < int(values.min()) <= int(values.max()) < 1 << (bits - 1):
        raise InternalError(f"a multiplier does not fit its declared width of {bits} bits")


def _matrix(values: np.ndarray, dtype: type[np.generic]) -> tuple[np.ndarray, int]:
    if values.ndim != 2 or values.dtype != dtype or not len(values):
        raise InternalError(f"columns of {values.dtype}, shape {values.shape}")
    return values, int(values.shape[1])


def limb_count(bits: int) -> int:
    """Answers that one multiplier column of this width takes: digits of 22 bits."""
    return -(-bits // LIMB_BITS)
