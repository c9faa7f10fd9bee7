"""Products of one side's columns with the other side's, landing as additive shares; both roles in this file.

The owner encrypts under its own key and uploads; the multiplier multiplies, re-randomises, masks and answers. Four
forms: inner products (one coefficient sent), the same modulo 2^104, matrix times vector (all rows sent), products in
slots (modulo a small prime). Steps are numbered as in docs/protocols/04-lattice-linear.md. The file is over 400 lines
because the forms share messages, keys and pacing, and both roles of each are to be read side by side.

What each message reveals, semi-honest peer: PublicKey and Ciphertexts, nothing under ring-LWE but their number;
Firsts, LongFirsts and Rows, values masked by one uniform draw modulo q over noise that hides the multiplier's numbers
to at least 40 bits over the whole run (mpc.lattice.Budget); Ready, nothing. Shares are uniform by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np

from kernels.ntt import N, basis
from mpc import lattice
from mpc.encrypted import Received, blocks_of, inner_products, padded
from mpc.lattice import NARROW, SETS, TRAIN, WIDE, WORD, Budget, Key, Parameters, Secrets
from mpc.lattice_long import LONG, LONG_BYTES, answer_long, decrypt_long, encode_long, two_words
from mpc.ring import LIMB_BITS, weighted
from mpc.slots import slot_set, smallest_slot_prime
from party.channel import Channel
from party.errors import InternalError, PeerError
from party.message import Array, Bytes, Cap, Int, Message

__all__ = [
    "Columns",
    "Linear",
    "Received",
    "Uploaded",
    "batch_of",
    "limb_count",
    "messages",
    "slot_groups",
    "slot_set",
    "smallest_slot_prime",
]

BLOCKS = 32  # ciphertexts of a column in one message
BATCH_BYTES = 20 << 20  # of ciphertexts that are answered together, in one message
ANSWERS = 64  # answers in one message
BATCH = BATCH_BYTES // (lattice.SEED_BYTES + TRAIN.body_bytes)  # of the smallest set
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

    seeds: Annotated[np.ndarray, Array("u1", Cap(BATCH), lattice.SEED_BYTES)]
    bodies: Annotated[np.ndarray, Array("u1", Cap(BATCH), Cap(WIDE.body_bytes))]


@dataclass(frozen=True, repr=False)
class Firsts(Message, kind=0x0303):
    """Step 4, multiplier to owner: answers of one coefficient each."""

    first: Annotated[np.ndarray, Array("u1", Cap(ANSWERS), 1, lattice.ANSWER_BYTES)]
    second: Annotated[np.ndarray, Array("u1", Cap(ANSWERS), N, lattice.ANSWER_BYTES)]


@dataclass(frozen=True, repr=False)
class LongFirsts(Message, kind=0x0307):
    """Step 4, multiplier to owner: answers of one coefficient each, modulo 2^104."""

    first: Annotated[np.ndarray, Array("u1", Cap(ANSWERS), 1, LONG_BYTES)]
    second: Annotated[np.ndarray, Array("u1", Cap(ANSWERS), N, LONG_BYTES)]


@dataclass(frozen=True, repr=False)
class Rows(Message, kind=0x0304):
    """Step 4, multiplier to owner: answers with the coefficients of up to 8192 rows each, one after the other."""

    first: Annotated[np.ndarray, Array("u1", Cap(ANSWERS * N), lattice.ANSWER_BYTES)]
    second: Annotated[np.ndarray, Array("u1", Cap(ANSWERS), N, lattice.ANSWER_BYTES)]


@dataclass(frozen=True, repr=False)
class Ready(Message, kind=0x0305):
    """The multiplier has read a window of ciphertexts and wants the next."""


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


class Factors(Protocol):
    """Slot factors (outputs, h, n), whole or made a row at a time."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, place: Any, /) -> Any: ...


class Linear:
    """One side's half of the engine over one channel; keys are made and sent at their first use.

    `index` is 0 for the party named first, 1 for the other. Both sides call matching methods in the same order:
    `upload` faces `receive`, `inner_owner` faces `inner_multiplier` and so on. (Two uploads that face each other, both
    received afterwards, work up to 1,024 ciphertexts each; beyond, an upload waits for its reader.) An engine is used
    by one thread.
    """

    def __init__(self, channel: Channel, index: int, root: bytes | None = None) -> None:
        """root: where all randomness comes from, for a caller that repeats steps (`Engine.seeded`)."""
        self.channel = channel
        self.index = index
        self._secrets = Secrets(root)
        self._keys: dict[str, Key] = {}
        self._theirs: dict[str, lattice.PublicKey] = {}
        self._answers = Budget()

    def begin(self, label: bytes) -> None:
        """Randomness of this label's own from here on; keys stay."""
        self._secrets.begin(label)

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
        for seed, body in self._receive(NARROW, k * received.blocks):
            received.append(seed, body)
        return received

    def inner_owner(self, up: Uploaded, rows: int, bits: int) -> np.ndarray:
        """Our shares of columns @ theirs.T modulo 2^64, uint64 (k, rows).

        rows: how many columns the multiplier brings, |value| < 2^(bits - 1). We learn nothing else.
        One round. Received: 81,930 bytes for each of k, rows and limb of 22 bits (`predict_inner`).
        """
        limbs = limb_count(bits)
        count = up.columns * rows * limbs
        key = self._key(NARROW)
        # 5. Decrypt: the rounded value modulo 2^64 is our share of one limb.
        shares = [key.first(first, second, WORD) for first, second in self._firsts(Firsts, count)]
        return weighted(np.array(shares, dtype=np.uint64).reshape(up.columns, rows, limbs))

    def _firsts(self, kind: type[Firsts | LongFirsts], count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Answers of one coefficient as they come; PeerError where their number is another."""
        for start in range(0, count, ANSWERS):
            expected = min(ANSWERS, count - start)
            answer = self.channel.recv(kind)
            if not len(answer.first) == len(answer.second) == expected:
                raise PeerError(f"{len(answer.first)} answers came where {expected} were due")
            yield from zip(answer.first, answer.second, strict=True)

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
        public, out = self._theirs[NARROW.name], _Outbox(self.channel, Firsts, count)
        shares = np.zeros(count, dtype=np.uint64)
        # 3. Multiply: coefficient 0 of column times x_0 - sum x_i X^(N-i) is the inner product.
        for place, (total0, total1) in enumerate(inner_products(got, rows, limbs)):
            # 4. Re-randomise, mask the one coefficient, switch to 80 bits, send.
            first, second, shares[place] = public.answer_first(self._secrets, total0, total1, WORD)
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
        self._send(WIDE, plain, len(columns) * blocks)
        return Uploaded(len(columns), rows)

    def receive_long(self, k: int, n: int) -> Received:
        """Take the owner's k columns of n values of `upload_long`; PeerError when they are not well formed."""
        received = Received(k, n, WIDE)
        for seed, body in self._receive(WIDE, k * received.blocks):
            received.append(seed, body)
        return received

    def long_owner(self, up: Uploaded, rows: int) -> np.ndarray:
        """Our shares of columns @ theirs.T modulo 2^104, in two words each: uint64 (k, rows, 2).

        rows: how many columns the multiplier brings, of at most 22 bits. One round. Received: 122,895 bytes for each of
        k and rows (`predict_long`).
        """
        key = self._key(WIDE)
        answers = self._firsts(LongFirsts, up.columns * rows)
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
        self._answers.spend(WIDE, n, bits, count, LONG)
        public, out, shares = self._theirs[WIDE.name], _Outbox(self.channel, LongFirsts, count), []
        for total0, total1 in inner_products(got, rows, 1):
            first, second, share = answer_long(public, self._secrets, total0, total1)
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
        self._send(WIDE, (constants[:, i] for i in range(len(weights))), len(weights), batch_of(WIDE))
        key, blocks = self._key(WIDE), [_rows_of(block, n) for block in range(blocks_of(n))]
        shares = np.empty(n, dtype=np.uint64)
        for rows, answer in zip(blocks, self._rows([rows.stop - rows.start for rows in blocks]), strict=True):
            # 5. Decrypt every sent coefficient.
            shares[rows] = key.all(*answer, WORD)
        return shares

    def matvec_matrix(self, columns: np.ndarray, bits: int) -> np.ndarray:
        """Our shares of columns.T @ theirs modulo 2^64, uint64 (n,), for columns int64 (d, n), |x| < 2^(bits - 1)."""
        columns, n = _matrix(columns, np.int64)
        _check_width(columns, bits)
        self._answers.spend(WIDE, N * len(columns), bits, n)
        ciphers = [
            lattice.expanded(WIDE, seed, body) for seed, body in self._receive(WIDE, len(columns), batch_of(WIDE))
        ]
        ring, public = WIDE.basis, self._theirs[WIDE.name]
        shares = np.empty(n, dtype=np.uint64)
        answers: list[tuple[np.ndarray, np.ndarray]] = []
        for block in range(blocks_of(n)):
            totals = np.zeros((2, len(ring), N), dtype=np.uint64)
            for column, cipher in zip(columns, ciphers, strict=True):
                # 3. Multiply: an encrypted constant times sum x_i X^i holds row i in coefficient i.
                factor = ring.forward(ring.residues(padded(column, block)))
                ring.multiply_add(totals, cipher, factor)
            here = _rows_of(block, n)
            first, second, shares[here] = public.answer_all(self._secrets, totals, here.stop - here.start, WORD)
            answers.append((first, second))
            if len(answers) == ANSWERS:
                self._send_rows(answers)
                answers = []
        self._send_rows(answers)
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
        small, key = basis((t,)), self._key(parameters)
        shares = np.empty((outputs, n), dtype=np.uint64)

        def polynomials(blocks: range) -> Iterator[np.ndarray]:
            for block in blocks:
                for row in _slot_rows(values[:, _rows_of(block, n)], (height,), t):
                    yield lattice.encode(parameters, small.inverse(padded(row, 0)[None, :])[0], t)

        def collect(blocks: range) -> None:
            answers = self._rows([N] * (len(blocks) * outputs))
            for block in blocks:
                rows = _rows_of(block, n)
                for output in range(outputs):
                    found = small.forward(key.all(*next(answers), t)[None, :])[0]
                    shares[output, rows] = found[: rows.stop - rows.start]

        groups = slot_groups(height, n)
        for group, before in zip([*groups, range(0)], [range(0), *groups], strict=True):
            self._send(parameters, polynomials(group), len(group) * height, batch_of(parameters))
            collect(before)
        return shares

    def slots_multiplier(self, factors: Columns, t: int) -> np.ndarray:
        """Our shares modulo t of the same sums, uint64 (outputs, n), for factors (outputs, h, n), as `values` above."""
        parameters = slot_set(t)
        outputs, height, n = factors.shape
        self._answers.spend(parameters, N * height, math.log2(t), outputs * n, t)
        ring, small = parameters.basis, basis((t,))
        shares = np.empty((outputs, n), dtype=np.uint64)
        for group in slot_groups(height, n):
            ciphers = self._receive(parameters, len(group) * height, batch_of(parameters))
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
                    first, second, share = self._theirs[parameters.name].answer_all(self._secrets, totals[output], N, t)
                    shares[output, rows] = small.forward(share[None, :])[0, : rows.stop - rows.start]
                    answers.append((first, second))
            self._send_rows(answers)
        return shares

    # --- steps that the forms share -----------------------------------------------------------------------------

    def _key(self, parameters: Parameters) -> Key:
        if parameters.name not in self._keys:
            # 1. Make a key for this set; its public half is one more seeded encryption of zero.
            self._keys[parameters.name] = key = Key(parameters, self._secrets)
            seed, body = key.public()
            self.channel.send(PublicKey(SETS.index(parameters), seed, body))
        return self._keys[parameters.name]

    def _send(self, parameters: Parameters, plain: Iterator[np.ndarray], count: int, batch: int = BLOCKS) -> None:
        """2. Encrypt and send `count` encoded polynomials (primes, N) or constants (primes,), `batch` in a message."""
        key = self._key(parameters)
        for start, pause in messages(count, batch):
            if pause:
                self.channel.recv(Ready)
            made = []
            for _ in range(min(batch, count - start)):
                encoded = next(plain)
                made.append(key.encrypt(encoded) if encoded.ndim == 2 else key.encrypt(None, encoded))
            seeds = np.frombuffer(b"".join(seed for seed, _ in made), dtype=np.uint8)
            self.channel.send(Ciphertexts(seeds.reshape(-1, lattice.SEED_BYTES), np.stack([body for _, body in made])))

    def _receive(self, parameters: Parameters, count: int, batch: int = BLOCKS) -> Iterator[tuple[bytes, np.ndarray]]:
        """Seed and body of each of `count` ciphertexts, as they come."""
        if parameters.name not in self._theirs:
            message = self.channel.recv(PublicKey)
            if message.number != SETS.index(parameters) or len(message.body) != parameters.body_bytes:
                raise PeerError(f"a public key of another parameter set came, {parameters.name} was due")
            self._theirs[parameters.name] = lattice.PublicKey(parameters, message.seed, message.body)
        for start, pause in messages(count, batch):
            if pause:
                self.channel.send(Ready())
            expected = min(batch, count - start)
            some = self.channel.recv(Ciphertexts)
            if len(some.seeds) != expected or some.bodies.shape != (expected, parameters.body_bytes):
                raise PeerError(f"{len(some.seeds)} ciphertexts came where {expected} were due")
            for seed, body in zip(some.seeds, some.bodies, strict=True):
                yield seed.tobytes(), body

    def _send_rows(self, answers: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        for start in range(0, len(answers), ANSWERS):
            some = answers[start : start + ANSWERS]
            self.channel.send(Rows(np.concatenate([first for first, _ in some]), np.stack([s for _, s in some])))

    def _rows(self, sizes: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Answers of so many coefficients each, in order, as they come."""
        for start in range(0, len(sizes), ANSWERS):
            due = sizes[start : start + ANSWERS]
            answer = self.channel.recv(Rows)
            if len(answer.first) != sum(due) or len(answer.second) != len(due):
                raise PeerError(f"answers of {len(answer.first)} rows came where {sum(due)} were due")
            ends = np.cumsum(due)
            for size, end, second in zip(due, ends, answer.second, strict=True):
                yield answer.first[end - size : end], second


class _Outbox:
    """Collects answers of one coefficient and sends them in messages of ANSWERS, the last one shorter."""

    def __init__(self, channel: Channel, kind: type[Firsts | LongFirsts], count: int) -> None:
        self._channel = channel
        self._kind = kind
        self._left = count
        self._held: list[tuple[np.ndarray, np.ndarray]] = []

    def put(self, first: np.ndarray, second: np.ndarray) -> None:
        self._held.append((first, second))
        self._left -= 1
        if len(self._held) == ANSWERS or self._left == 0:
            self._channel.send(self._kind(np.stack([f for f, _ in self._held]), np.stack([s for _, s in self._held])))
            self._held = []


def batch_of(parameters: Parameters) -> int:
    """Ciphertexts in one message where nobody can begin before all have come."""
    return BATCH_BYTES // (lattice.SEED_BYTES + parameters.body_bytes)


def slot_groups(height: int, n: int) -> list[range]:
    """Blocks of slot products that are answered together: two groups make at most a window of ciphertexts."""
    blocks, step = blocks_of(n), max(1, WINDOW // (2 * height))
    return [range(start, min(blocks, start + step)) for start in range(0, blocks, step)]


def messages(count: int, batch: int) -> Iterator[tuple[int, bool]]:
    """The first ciphertext of each message, and whether the owner waits before it: a window is on its way unread."""
    sent = 0
    for start in range(0, count, batch):
        pause = start - sent >= WINDOW
        if pause:
            sent = start
        yield start, pause


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
