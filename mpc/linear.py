"""Products of one side's columns with the other side's, landing as additive shares; both roles in this file.

The owner encrypts under its own key and uploads; the multiplier multiplies, re-randomises, masks and answers. Three
forms: inner products (one coefficient sent), matrix times vector (all rows sent), products in slots (modulo a small
prime). Steps are numbered as in docs/protocols/04-lattice-linear.md. The file is over 400 lines because the three
forms share messages, keys and pacing, and both roles of each are to be read side by side.

What each message reveals, semi-honest peer: PublicKey and Ciphertexts, nothing under ring-LWE but their number;
Firsts and Rows, values masked by one uniform draw modulo q over noise that hides the multiplier's numbers to at
least 40 bits over the whole run (mpc.lattice.Budget); Ready, nothing. Shares are uniform by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from kernels.ntt import N, basis
from mpc import lattice
from mpc.encrypted import Received, blocks_of, inner_products, padded
from mpc.lattice import NARROW, SETS, TRAIN, WIDE, WORD, Budget, Key, Parameters, Secrets
from mpc.ring import LIMB_BITS
from party.channel import Channel
from party.errors import InternalError, PeerError
from party.message import Array, Bytes, Cap, Int, Message

__all__ = ["Linear", "Received", "Uploaded", "limb_count", "slot_set", "smallest_slot_prime"]

BLOCKS = 32  # ciphertexts in one message
ANSWERS = 64  # answers in one message
WINDOW = 1024  # ciphertexts sent before the owner waits for a sign of life: bounds the receiver's queue


@dataclass(frozen=True, repr=False)
class PublicKey(Message, kind=0x0301):
    """Step 1, owner to multiplier, once for a parameter set: an encryption of zero."""

    number: Annotated[int, Int(0, len(SETS) - 1)]
    seed: Annotated[bytes, Bytes(lattice.SEED_BYTES)]
    body: Annotated[np.ndarray, Array("u1", Cap(WIDE.body_bytes))]


@dataclass(frozen=True, repr=False)
class Ciphertexts(Message, kind=0x0302):
    """Step 2, owner to multiplier: some seeded ciphertexts, in the order of the page."""

    seeds: Annotated[np.ndarray, Array("u1", Cap(BLOCKS), lattice.SEED_BYTES)]
    bodies: Annotated[np.ndarray, Array("u1", Cap(BLOCKS), Cap(WIDE.body_bytes))]


@dataclass(frozen=True, repr=False)
class Firsts(Message, kind=0x0303):
    """Step 4, multiplier to owner: answers of one coefficient each."""

    first: Annotated[np.ndarray, Array("u1", Cap(ANSWERS), 1, lattice.ANSWER_BYTES)]
    second: Annotated[np.ndarray, Array("u1", Cap(ANSWERS), N, lattice.ANSWER_BYTES)]


@dataclass(frozen=True, repr=False)
class Rows(Message, kind=0x0304):
    """Step 4, multiplier to owner: one answer with the coefficients of up to 8192 rows."""

    first: Annotated[np.ndarray, Array("u1", Cap(N), lattice.ANSWER_BYTES)]
    second: Annotated[np.ndarray, Array("u1", N, lattice.ANSWER_BYTES)]


@dataclass(frozen=True, repr=False)
class Ready(Message, kind=0x0305):
    """The multiplier has read a window of ciphertexts and wants the next."""


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


class Linear:
    """One side's half of the engine over one channel; keys are made and sent at their first use.

    `index` is 0 for the party named first, 1 for the other. Both sides call matching methods in the same order:
    `upload` faces `receive`, `inner_owner` faces `inner_multiplier` and so on. (Two uploads that face each other, both
    received afterwards, work up to 1,024 ciphertexts each; beyond, an upload waits for its reader.) An engine is used
    by one thread.
    """

    def __init__(self, channel: Channel, index: int) -> None:
        self.channel = channel
        self.index = index
        self._secrets = Secrets()
        self._keys: dict[str, Key] = {}
        self._theirs: dict[str, lattice.PublicKey] = {}
        self._answers = Budget()

    def begin_run(self) -> None:
        """Another run over the same connection: keys stay, the 40 bits of hiding are those of one run."""
        self._answers = Budget()

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

        self._send(NARROW, plain(), len(columns) * blocks)
        return Uploaded(len(columns), rows)

    def receive(self, k: int, n: int) -> Received:
        """Take the owner's k encrypted columns of n values; PeerError when they are not well formed."""
        received = Received(k, n, NARROW)
        self._receive(NARROW, k * received.blocks, lambda _, seed, body: received.append(seed, body))
        return received

    def inner_owner(self, up: Uploaded, rows: int, bits: int) -> np.ndarray:
        """Our shares of columns @ theirs.T modulo 2^64, uint64 (k, rows).

        rows: how many columns the multiplier brings, |value| < 2^(bits - 1). We learn nothing else.
        One round. Received: 81,930 bytes for each of k, rows and limb of 22 bits (`predict_inner`).
        """
        limbs = limb_count(bits)
        count = up.columns * rows * limbs
        key = self._key(NARROW)
        parts = np.zeros(count, dtype=np.uint64)
        for start in range(0, count, ANSWERS):
            expected = min(ANSWERS, count - start)
            answer = self.channel.recv(Firsts)
            if not len(answer.first) == len(answer.second) == expected:
                raise PeerError(f"{len(answer.first)} answers came where {expected} were due")
            # 5. Decrypt: the rounded value modulo 2^64 is our share of one limb.
            for i in range(expected):
                parts[start + i] = key.first(answer.first[i], answer.second[i], WORD)
        return _weighted(parts.reshape(up.columns, rows, limbs))

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
        self._answers.spend(NARROW, n, min(bits, LIMB_BITS), count)
        public, out = self._theirs[NARROW.name], _Outbox(self.channel, count)
        shares = np.zeros(count, dtype=np.uint64)
        # 3. Multiply: coefficient 0 of column times x_0 - sum x_i X^(N-i) is the inner product.
        for place, (total0, total1) in enumerate(inner_products(got, rows, limbs)):
            # 4. Re-randomise, mask the one coefficient, switch to 80 bits, send.
            first, second, shares[place] = public.answer_first(self._secrets, total0, total1, WORD)
            out.put(first, second)
        return _weighted(shares.reshape(got.columns, len(rows), limbs))

    # --- a matrix of the multiplier times a vector of the owner: one result a row -------------------------------

    def matvec_vector(self, weights: np.ndarray, n: int) -> np.ndarray:
        """Our shares of columns.T @ weights modulo 2^64, uint64 (n,), for our weights uint64 (d,).

        The multiplier learns d. One round. Sent: 204,816 bytes a weight; received: 81,920 a block of 8192 rows and
        10 a row (`predict_matvec`).
        """
        weights = np.ascontiguousarray(weights, dtype=np.uint64)
        constants = lattice.encode(WIDE, weights, WORD)
        self._send(WIDE, (constants[:, i] for i in range(len(weights))), len(weights))
        return self._collect(WIDE, n, WORD)

    def matvec_matrix(self, columns: np.ndarray, bits: int) -> np.ndarray:
        """Our shares of columns.T @ theirs modulo 2^64, uint64 (n,), for columns int64 (d, n), |x| < 2^(bits - 1)."""
        columns, n = _matrix(columns, np.int64)
        _check_width(columns, bits)
        self._answers.spend(WIDE, N * len(columns), bits, n)
        ciphers: list[np.ndarray] = []
        self._receive(WIDE, len(columns), lambda _, seed, body: ciphers.append(lattice.expanded(WIDE, seed, body)))
        ring, public = WIDE.basis, self._theirs[WIDE.name]
        shares = np.empty(n, dtype=np.uint64)
        for block in range(blocks_of(n)):
            totals = np.zeros((2, len(ring), N), dtype=np.uint64)
            for column, cipher in zip(columns, ciphers, strict=True):
                # 3. Multiply: an encrypted constant times sum x_i X^i holds row i in coefficient i.
                factor = ring.forward(ring.residues(padded(column, block)))
                ring.multiply_add(totals, cipher, factor)
            here = slice(block * N, min(n, block * N + N))
            first, second, shares[here] = public.answer_all(self._secrets, totals, here.stop - here.start, WORD)
            self.channel.send(Rows(first, second))
        return shares

    # --- products in slots, modulo a small prime ----------------------------------------------------------------

    def slots_owner(self, values: np.ndarray, t: int, outputs: int) -> np.ndarray:
        """Our shares modulo t of sum_h factors[o, h] * values[h], uint64 (outputs, n); values uint64 (h, n) below t.

        t: a prime below 2^50 that is 1 modulo 16384 (`smallest_slot_prime`). The multiplier learns h, n, t, outputs.
        One round. Sent: 122,896 bytes for each h and block of 8192 rows (15 a value; 204,816 for t over 2^26);
        received: 81,920 a block and 10 a row for each output (`predict_slots`).
        """
        parameters = slot_set(t)
        values, n = _matrix(values, np.uint64)
        _check_slots(values, t)
        small, height = basis((t,)), len(values)
        shares = np.empty((outputs, n), dtype=np.uint64)
        ahead = WINDOW // height  # blocks sent before the first answer is awaited; 0 leaves the pacing to Ready
        for block in range(blocks_of(n) + ahead):
            if block < blocks_of(n):
                polynomials = (small.inverse(padded(row, block)[None, :])[0] for row in values)
                self._send(parameters, (lattice.encode(parameters, f, t) for f in polynomials), height)
            if 0 <= block - ahead < blocks_of(n):
                here = slice((block - ahead) * N, min(n, (block - ahead + 1) * N))
                shares[:, here] = self._collect_slots(parameters, t, outputs)[:, : here.stop - here.start]
        return shares

    def slots_multiplier(self, factors: np.ndarray, t: int) -> np.ndarray:
        """Our shares modulo t of the same sums, uint64 (outputs, n), for factors uint64 (outputs, h, n) below t."""
        parameters = slot_set(t)
        if factors.ndim != 3 or factors.dtype != np.uint64 or not factors.shape[1]:
            raise InternalError(f"slot factors of {factors.dtype}, shape {factors.shape}")
        _check_slots(factors, t)
        outputs, height, n = factors.shape
        self._answers.spend(parameters, N * height, math.log2(t), outputs * n, t)
        ring, small = parameters.basis, basis((t,))
        shares = np.empty((outputs, n), dtype=np.uint64)
        for block in range(blocks_of(n)):
            totals = np.zeros((outputs, 2, len(ring), N), dtype=np.uint64)

            def take(row: int, seed: bytes, body: np.ndarray, block: int = block, totals: np.ndarray = totals) -> None:
                cipher = lattice.expanded(parameters, seed, body)
                for output in range(outputs):
                    # 3. Multiply: both sides' polynomials hold their values in the slots modulo t.
                    polynomial = small.inverse(padded(factors[output, row], block)[None, :])[0].view(np.int64)
                    centred = polynomial - (polynomial > t // 2) * np.int64(t)
                    ring.multiply_add(totals[output], cipher, ring.forward(ring.residues(centred)))

            self._receive(parameters, height, take)
            shares[:, block * N : block * N + N] = self._answer_slots(parameters, totals, n - block * N, t)
        return shares

    def _answer_slots(self, parameters: Parameters, totals: np.ndarray, left: int, t: int) -> np.ndarray:
        # 4. A slot depends on every coefficient, so all of them are sent, masked, also in a last short block.
        small = basis((t,))
        shares = []
        for total in totals:
            first, second, share = self._theirs[parameters.name].answer_all(self._secrets, total, N, t)
            self.channel.send(Rows(first, second))
            shares.append(small.forward(share[None, :])[0, :left])
        return np.stack(shares)

    def _collect_slots(self, parameters: Parameters, t: int, outputs: int) -> np.ndarray:
        small, key = basis((t,)), self._key(parameters)
        answers = (self._rows(N) for _ in range(outputs))
        return np.stack([small.forward(key.all(a.first, a.second, t)[None, :])[0] for a in answers])

    # --- steps that the forms share -----------------------------------------------------------------------------

    def _key(self, parameters: Parameters) -> Key:
        if parameters.name not in self._keys:
            # 1. Make a key for this set; its public half is one more seeded encryption of zero.
            self._keys[parameters.name] = key = Key(parameters, self._secrets)
            seed, body = key.encrypt(None)
            self.channel.send(PublicKey(SETS.index(parameters), seed, body))
        return self._keys[parameters.name]

    def _send(self, parameters: Parameters, plain: Iterator[np.ndarray], count: int) -> None:
        """2. Encrypt and send `count` encoded polynomials (primes, N) or constants (primes,), a few in a message."""
        key = self._key(parameters)
        for start in range(0, count, BLOCKS):
            if start and start % WINDOW == 0:
                self.channel.recv(Ready)
            made = []
            for _ in range(min(BLOCKS, count - start)):
                encoded = next(plain)
                made.append(key.encrypt(encoded) if encoded.ndim == 2 else key.encrypt(None, encoded))
            seeds = np.frombuffer(b"".join(seed for seed, _ in made), dtype=np.uint8)
            self.channel.send(Ciphertexts(seeds.reshape(-1, lattice.SEED_BYTES), np.stack([body for _, body in made])))

    def _receive(self, parameters: Parameters, count: int, take: Callable[[int, bytes, np.ndarray], None]) -> None:
        if parameters.name not in self._theirs:
            message = self.channel.recv(PublicKey)
            if message.number != SETS.index(parameters) or len(message.body) != parameters.body_bytes:
                raise PeerError(f"a public key of another parameter set came, {parameters.name} was due")
            self._theirs[parameters.name] = lattice.PublicKey(parameters, message.seed, message.body)
        for start in range(0, count, BLOCKS):
            if start and start % WINDOW == 0:
                self.channel.send(Ready())
            expected = min(BLOCKS, count - start)
            message_2 = self.channel.recv(Ciphertexts)
            if len(message_2.seeds) != expected or message_2.bodies.shape != (expected, parameters.body_bytes):
                raise PeerError(f"{len(message_2.seeds)} ciphertexts came where {expected} were due")
            for i in range(expected):
                take(start + i, message_2.seeds[i].tobytes(), message_2.bodies[i])

    def _rows(self, expected: int) -> Rows:
        answer = self.channel.recv(Rows)
        if len(answer.first) != expected:
            raise PeerError(f"an answer of {len(answer.first)} rows came where {expected} were due")
        return answer

    def _collect(self, parameters: Parameters, n: int, t: int) -> np.ndarray:
        key = self._key(parameters)
        shares = np.empty(n, dtype=np.uint64)
        for start in range(0, n, N):
            count = min(N, n - start)
            answer = self._rows(count)
            # 5. Decrypt every sent coefficient.
            shares[start : start + count] = key.all(answer.first, answer.second, t)
        return shares


class _Outbox:
    """Collects answers of one coefficient and sends them in messages of ANSWERS, the last one shorter."""

    def __init__(self, channel: Channel, count: int) -> None:
        self._channel = channel
        self._left = count
        self._held: list[tuple[np.ndarray, np.ndarray]] = []

    def put(self, first: np.ndarray, second: np.ndarray) -> None:
        self._held.append((first, second))
        self._left -= 1
        if len(self._held) == ANSWERS or self._left == 0:
            self._channel.send(Firsts(np.stack([f for f, _ in self._held]), np.stack([s for _, s in self._held])))
            self._held = []


def smallest_slot_prime(bits: int) -> int:
    """The smallest prime >= 2^bits that is 1 modulo 16384: a plaintext modulus for slots (bits up to 49)."""
    candidate = (1 << bits) + 1 + (-(1 << bits)) % (2 * N)
    while not _is_prime(candidate):
        candidate += 2 * N
    return candidate


def _is_prime(n: int) -> bool:
    """Miller and Rabin with bases that decide every n below 2^64 (Sorenson and Webster 2015)."""
    bases = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
    if any(n % base == 0 for base in bases):
        return n in bases
    twos = (n - 1 & 1 - n).bit_length() - 1
    for base in bases:
        x = pow(base, (n - 1) >> twos, n)
        if x not in (1, n - 1) and all(pow(x, 1 << i, n) != n - 1 for i in range(1, twos)):
            return False
    return True


def slot_set(t: int) -> Parameters:
    """The parameter set of slot products modulo t; InternalError when t does not fit."""
    if not 2 * N < t < 1 << 50 or t % (2 * N) != 1 or not _is_prime(t):
        raise InternalError(f"{t} is not a prime below 2^50 that is 1 modulo {2 * N}")
    return TRAIN if t < 1 << 26 else WIDE


def _check_slots(values: np.ndarray, t: int) -> None:
    if values.size and int(values.max()) >= t:
        raise InternalError("a slot value is not below the plaintext modulus")


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


def _weighted(parts: np.ndarray) -> np.ndarray:
    """Shares of limbs (..., limbs) to shares of numbers: weights 2^(22 l), exact because shares live modulo 2^64."""
    shifts = np.arange(parts.shape[-1], dtype=np.uint64) * np.uint64(LIMB_BITS)
    return np.asarray((parts << shifts).sum(axis=-1, dtype=np.uint64))
