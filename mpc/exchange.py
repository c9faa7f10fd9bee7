"""Ciphertexts and answers on their way: messages, keys, pacing; what the forms of products have in common.

The owner makes a key for a parameter set at its first use and sends ciphertexts, some in a message; the multiplier
answers. Products themselves are in `mpc.linear` and `mpc.matrix`. Steps are those of
docs/protocols/04-lattice-linear.md.

What each message reveals, semi-honest peer: PublicKey and Ciphertexts, nothing under ring-LWE but their number;
Firsts, LongFirsts and Rows, values masked by one uniform draw modulo q over noise that hides the multiplier's numbers
to at least 40 bits over the whole run (mpc.lattice.Budget); Ready, nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from kernels.ntt import N
from mpc import lattice
from mpc.lattice import SETS, TRAIN, WIDE, Budget, Key, Parameters, Secrets
from mpc.lattice_long import LONG_BYTES
from party.channel import Channel
from party.errors import PeerError
from party.message import Array, Bytes, Cap, Int, Message

__all__ = ["ANSWERS", "BLOCKS", "Exchange", "Firsts", "LongFirsts", "Outbox", "Rows", "batch_of", "messages"]

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


class Exchange:
    """One side's keys, randomness and hiding budget over one channel, and the steps that send and receive."""

    def __init__(self, channel: Channel, index: int, root: bytes | None = None) -> None:
        """root: where all randomness comes from, for a caller that repeats steps (`Engine.seeded`)."""
        self.channel = channel
        self.index = index
        self.secrets = Secrets(root)
        self._keys: dict[str, Key] = {}
        self.theirs: dict[str, lattice.PublicKey] = {}
        self.budget = Budget()

    def begin(self, label: bytes) -> None:
        """Randomness of this label's own from here on; keys stay."""
        self.secrets.begin(label)

    def begin_run(self) -> None:
        """Another run over the same connection: keys stay, the 40 bits of hiding are those of one run."""
        self.budget = Budget()

    def key(self, parameters: Parameters) -> Key:
        if parameters.name not in self._keys:
            # 1. Make a key for this set; its public half is one more seeded encryption of zero.
            self._keys[parameters.name] = key = Key(parameters, self.secrets)
            seed, body = key.public()
            self.channel.send(PublicKey(SETS.index(parameters), seed, body))
        return self._keys[parameters.name]

    def send(self, parameters: Parameters, plain: Iterator[np.ndarray], count: int, batch: int = BLOCKS) -> None:
        """2. Encrypt and send `count` encoded polynomials (primes, N) or constants (primes,), `batch` in a message."""
        key = self.key(parameters)
        for start, pause in messages(count, batch):
            if pause:
                self.channel.recv(Ready)
            made = []
            for _ in range(min(batch, count - start)):
                encoded = next(plain)
                made.append(key.encrypt(encoded) if encoded.ndim == 2 else key.encrypt(None, encoded))
            seeds = np.frombuffer(b"".join(seed for seed, _ in made), dtype=np.uint8)
            self.channel.send(Ciphertexts(seeds.reshape(-1, lattice.SEED_BYTES), np.stack([body for _, body in made])))

    def ciphertexts(
        self, parameters: Parameters, count: int, batch: int = BLOCKS
    ) -> Iterator[tuple[bytes, np.ndarray]]:
        """Seed and body of each of `count` ciphertexts, as they come."""
        if parameters.name not in self.theirs:
            message = self.channel.recv(PublicKey)
            if message.number != SETS.index(parameters) or len(message.body) != parameters.body_bytes:
                raise PeerError(f"a public key of another parameter set came, {parameters.name} was due")
            self.theirs[parameters.name] = lattice.PublicKey(parameters, message.seed, message.body)
        for start, pause in messages(count, batch):
            if pause:
                self.channel.send(Ready())
            expected = min(batch, count - start)
            some = self.channel.recv(Ciphertexts)
            if len(some.seeds) != expected or some.bodies.shape != (expected, parameters.body_bytes):
                raise PeerError(f"{len(some.seeds)} ciphertexts came where {expected} were due")
            for seed, body in zip(some.seeds, some.bodies, strict=True):
                yield seed.tobytes(), body

    def send_rows(self, answers: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        for start in range(0, len(answers), ANSWERS):
            some = answers[start : start + ANSWERS]
            self.channel.send(Rows(np.concatenate([first for first, _ in some]), np.stack([s for _, s in some])))

    def rows(self, sizes: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Answers of so many coefficients each, in order, as they come."""
        for start in range(0, len(sizes), ANSWERS):
            due = sizes[start : start + ANSWERS]
            answer = self.channel.recv(Rows)
            if len(answer.first) != sum(due) or len(answer.second) != len(due):
                raise PeerError(f"answers of {len(answer.first)} rows came where {sum(due)} were due")
            ends = np.cumsum(due)
            for size, end, second in zip(due, ends, answer.second, strict=True):
                yield answer.first[end - size : end], second

    def firsts(self, kind: type[Firsts | LongFirsts], count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Answers of one coefficient as they come; PeerError where their number is another."""
        for start in range(0, count, ANSWERS):
            expected = min(ANSWERS, count - start)
            answer = self.channel.recv(kind)
            if not len(answer.first) == len(answer.second) == expected:
                raise PeerError(f"{len(answer.first)} answers came where {expected} were due")
            yield from zip(answer.first, answer.second, strict=True)


class Outbox:
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


def messages(count: int, batch: int) -> Iterator[tuple[int, bool]]:
    """The first ciphertext of each message, and whether the owner waits before it: a window is on its way unread."""
    sent = 0
    for start in range(0, count, batch):
        pause = start - sent >= WINDOW
        if pause:
            sent = start
        yield start, pause
