"""What one side of a training sees, kept pass by pass: every share its own calls returned, and every message it got.

`Watched` goes around a side's `vfl.secure.Arithmetic`, ideal or real. Over a real engine `listen` also keeps what came
on the channel, brought into a form with one number a row wherever there is one: coefficients of answers, words and
correction bits of transfers, ciphertexts read as if they had no secret, and, at the owner, what is left of an answer
below the rounded share.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kernels.ntt import N, basis
from mpc import lattice, ring
from mpc.exchange import Ciphertexts, Firsts, Rows
from mpc.lattice import NARROW, WIDE, WORD
from mpc.ot import Correction, Reply
from mpc.slots import slot_set
from vfl.state import MemoryCheckpoints

_SHIFT = 2  # bytes of an answer below its rounded share


class Fixed(MemoryCheckpoints):
    """Checkpoints whose secret is this seed's: a real engine then sends the same bytes whenever the test runs."""

    def __init__(self, seed: str) -> None:
        super().__init__()
        self._secret = hashlib.sha512(seed.encode()).digest()[:48]


@dataclass(frozen=True)
class Seen:
    """One vector: in which pass, what it is, its words, and their modulus (2 for bits)."""

    number: int
    name: str
    words: np.ndarray
    modulus: int = WORD


@dataclass
class Record:
    """One side's view. rows: how many rows the passes see, training rows first. columns: its own, (d, rows)."""

    rows: int
    long: list[Seen] = field(default_factory=list)  # a number a row
    short: list[Seen] = field(default_factory=list)  # a number a weight of ours
    kinds: list[tuple[str, Any]] = field(default_factory=list)  # messages received: kind and shapes
    bodies: list[tuple[int, str, str]] = field(default_factory=list)  # pass, kind, and a digest of what it held
    columns: np.ndarray | None = None
    number: int = 0
    characters: int = 0  # values in a ciphertext's slots for each row, where they are more than one; 64 are kept
    call: tuple[str, int] = ("", WORD)
    _streams: dict[tuple[Any, ...], list[np.ndarray]] = field(default_factory=dict)

    def add(self, name: str, words: np.ndarray, modulus: int = WORD) -> None:
        """Keep (..., rows or more): what goes beyond the rows is cut off."""
        flat = words.reshape(-1, words.shape[-1])
        for place, row in enumerate(flat):
            told = f"{name} {place}" if words.ndim > 1 else name
            self.long.append(Seen(self.number, told, np.ascontiguousarray(row[: self.rows]), modulus))

    def put(self, field_: str, words: np.ndarray) -> None:
        """Keep a part of what one call brings; `end` joins the parts."""
        self._streams.setdefault((self.number, *self.call, field_), []).append(words)

    def end(self) -> None:
        """Join what the last call brought."""
        rows, blocks = self.rows, -(-self.rows // N)
        for (_, call, modulus, what), parts in self._streams.items():
            name = f"{call}: {what}"
            if what == "corrections":
                bits = np.concatenate(parts, axis=1)
                for start in range(0, bits.shape[1] - rows + 1, rows):
                    self.add(f"{name} {start // rows}", bits[:, start : start + rows], 2)
            elif what == "ciphertexts" and self.characters and modulus != WORD:
                self.add(name, np.concatenate(parts).reshape(-1, self.characters)[:rows, :64].T, modulus)
            elif what == "replies" or (call == "products" and what != "second halves"):
                whole = np.concatenate(parts)
                for start in range(0, len(whole) - rows + 1, rows):
                    self.add(f"{name} {start // rows}", whole[start : start + rows])
            elif sum(map(len, parts)) % (blocks * N):
                whole = np.concatenate(parts)
                if len(whole) >= rows:
                    self.add(name, whole[: len(whole) // rows * rows].reshape(-1, rows))
            else:
                whole = np.concatenate(parts).reshape(blocks, -1, N).transpose(1, 0, 2).reshape(-1, blocks * N)
                self.add(name, whole, modulus if what == "ciphertexts" else WORD)
        self._streams.clear()


class Watched:
    """An Arithmetic that keeps what it hands out in a Record."""

    def __init__(self, inner: Any, record: Record) -> None:
        self.inner, self.record = inner, record

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def seeded(self, root: bytes) -> Watched:
        inner = self.inner.seeded(root)
        if hasattr(inner, "_engine"):
            _watch_keys(inner._engine.linear, self.record)
        return Watched(inner, self.record)

    def begin(self, label: bytes, number: int) -> None:
        self.record.number = number
        self.inner.begin(label, number)

    def products(self, columns: np.ndarray, share: np.ndarray, rows: int) -> Any:
        record = self.record
        record.columns, record.call = columns[:, : record.rows], ("products", WORD)
        mine, other = self.inner.products(columns, share, rows)
        record.end()
        record.add("logits, our columns", mine)
        record.add("logits, theirs", other)
        record.add("logits, both", mine[: record.rows] + other[: record.rows])
        return mine, other

    def slots_owner(self, values: Any, t: int, outputs: int) -> np.ndarray:
        return self._slots(values, t, lambda: self.inner.slots_owner(values, t, outputs))

    def slots_multiplier(self, factors: Any, t: int) -> np.ndarray:
        return self._slots(factors, t, lambda: self.inner.slots_multiplier(factors, t))

    def _slots(self, ours: Any, t: int, compute: Any) -> np.ndarray:
        record = self.record
        if hasattr(ours, "_side"):  # of a pass; an inverse brings its values as they are
            record.add("share of the logits", ours._side.logits)
        record.call = ("slots", t)
        found = compute()
        record.end()
        record.add("series", found, t)
        return np.asarray(found)

    def lift(self, share: np.ndarray, t: int) -> np.ndarray:
        record = self.record
        record.call = ("lift", WORD)
        found = self.inner.lift(share, t)
        record.end()
        if found.size % record.rows == 0:
            record.add("lifted", found.reshape(-1, record.rows))
        return np.asarray(found)

    def gradients(self, columns: np.ndarray, share: np.ndarray, theirs: int) -> Any:
        record = self.record
        record.call = ("gradients", WORD)
        mine, other = self.inner.gradients(columns, share, theirs)
        record.end()
        sent = [one for one in record.long if one.number == record.number and one.name == "gradients: ciphertexts 0"]
        if sent:
            record.add("residual, with the ciphertext", share[: record.rows] + sent[0].words)
        record.short.append(Seen(record.number, "gradient, ours", mine))
        record.short.append(Seen(record.number, "gradient", mine + ring.matmul(columns, share, a_bits=20)))
        return mine, other


_CALLS = {
    "linear": ("inner_owner", "inner_multiplier", "receive", "slots_owner", "slots_multiplier"),
    "ot": ("cot_send", "cot_receive", "cot_both"),
}


def watch(engine: Any, record: Record) -> None:
    """The same for an engine whose steps no Arithmetic names: its calls one by one, of rows that fit one block."""
    listen(engine.channel, record)
    _watch_keys(engine.linear, record)
    for part, names in _CALLS.items():
        for name in names:
            _watch_call(getattr(engine, part), name, record)


def _watch_call(part: Any, name: str, record: Record) -> None:
    plain = getattr(part, name)

    def call(*given: Any, **named: Any) -> Any:
        record.end()
        record.number += 1
        t = int(given[1]) if name.startswith("slots") else WORD
        record.call = (name, t)
        found = plain(*given, **named)
        record.end()
        record.call = ("between", WORD)
        for one in found if isinstance(found, tuple) else (found,):
            if isinstance(one, np.ndarray) and one.size >= record.rows:
                flat = one.reshape(-1)[: one.size // record.rows * record.rows].reshape(-1, record.rows)
                record.add(f"{name}: share", flat if name.startswith("cot") else one, t)
        return found

    setattr(part, name, call)


def listen(channel: Any, record: Record) -> None:
    """Keep every message that comes, decoded as far as somebody without the key can."""
    receive = channel.recv

    def recv(kind: Any, *rest: Any) -> Any:
        message = receive(kind, *rest)
        values = list(vars(message).values())
        record.kinds.append(
            (kind.__name__, tuple(np.shape(v) or (len(v) if isinstance(v, bytes) else ()) for v in values))
        )
        digest = hashlib.sha256(b"".join(v if isinstance(v, bytes) else np.asarray(v).tobytes() for v in values))
        record.bodies.append((record.number, kind.__name__, digest.hexdigest()))
        if kind in (Rows, Firsts):
            if kind is Rows:
                record.put("first halves", lattice.from_wire(message.first)[0])
            record.put("second halves", lattice.from_wire(message.second.reshape(-1, 10))[0])
        elif kind is Reply:
            record.put("replies", np.asarray(message.words))
        elif kind is Correction:
            record.put("corrections", np.unpackbits(message.bits, axis=1, bitorder="little"))
        elif kind is Ciphertexts and record.call[0] != "products":
            for seed, body in zip(message.seeds, message.bodies, strict=True):
                record.put("ciphertexts", without_key(record.call[1], seed.tobytes(), body))
        return message

    channel.recv = recv


def without_key(t: int, seed: bytes, body: np.ndarray) -> np.ndarray:
    """What a ciphertext decrypts to under the key 0: 8192 values modulo t, by rows."""
    wide = WIDE if len(body) == WIDE.body_bytes else NARROW
    parameters = wide if t == WORD else slot_set(t)
    plain = parameters.basis.inverse(lattice.unpack_rows(parameters, body))
    words = lattice.rounded(*parameters.basis.fraction(plain), t)
    return words if t == WORD else basis((t,)).forward(words[None, :])[0]


def _watch_keys(linear: Any, record: Record) -> None:
    """Keep what is left of each answer below the owner's rounded share: there rides the noise of the product."""
    plain = linear.key

    def key(parameters: Any) -> Any:
        found = plain(parameters)
        if "all" not in vars(found):
            decrypt = found.all

            def every(first: np.ndarray, second: np.ndarray, t: int, *places: Any) -> Any:
                if t == WORD:
                    below = decrypt(_below(first), _below(second), WORD, *places) >> np.uint64(48) << np.uint64(48)
                else:
                    below = decrypt(first, second, WORD, *places) * np.uint64(t)
                record.put("below the share", below)
                return decrypt(first, second, t, *places)

            found.all = every
        return found

    linear.key = key


def _below(answer: np.ndarray) -> np.ndarray:
    """An answer times 2^16 modulo 1: its lowest two bytes on top."""
    return np.concatenate([np.zeros_like(answer[:, : 10 - _SHIFT]), answer[:, :_SHIFT]], axis=1)
