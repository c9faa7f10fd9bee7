"""Ring-LWE additive encryption: parameters, keys, encodings, masks, wire formats and the bound on what noise tells.

One ciphertext of m is (c0, a) with c0 + a s = round(q m / t) + e modulo q and X^8192 + 1, both halves in the
transform's order. The owner holds s and sends a seed of a with c0; the multiplier adds products with its own
polynomials, re-randomises the sum with the owner's public key, masks what it sends and keeps the masks' shares.
This file is over 400 lines because formats and arithmetic that both roles must agree on stand together; the
protocols are in mpc/linear.py, the argument in docs/protocols/04-lattice-linear.md.

Source: Brakerski 2012 and Fan and Vercauteren 2012 for the scheme (with exact rounding); HomomorphicEncryption.org
Security Standard 2018, table 1, for 128 bits at N = 8192 with log2 q <= 218 and a ternary secret.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass

import numpy as np

from kernels.ntt import Basis, N, basis
from kernels.prg import Prg
from party.errors import InternalError, PeerError

__all__ = [
    "HIDING_BITS",
    "NARROW",
    "SETS",
    "TRAIN",
    "WIDE",
    "WORD",
    "Budget",
    "Key",
    "Parameters",
    "PublicKey",
    "Secrets",
    "expand",
    "expanded",
    "hiding_bits",
    "masks",
    "unpack_rows",
]

WORD = 1 << 64  # the plaintext modulus of everything but slots
HIDING_BITS = 40.0
ANSWER_BYTES = 10  # one coefficient of an answer: v / q as a binary fraction of 80 bits
SEED_BYTES = 16
_FIFTY = (0x3FFFFFFFFC001, 0x3FFFFFFFCC001, 0x3FFFFFFEF4001, 0x3FFFFFFE94001)
_NOISE_SD = math.sqrt(21 / 2)
_HALF = np.uint64(1 << 63)
_BITS_16 = np.uint64(0xFFFF)

Parts = tuple[np.ndarray, np.ndarray]  # binary fractions: the first 64 bits, the next 64


@dataclass(frozen=True)
class Parameters:
    """One set of primes; `bits` is what a residue takes on the wire."""

    name: str
    primes: tuple[int, ...]
    bits: int

    @property
    def basis(self) -> Basis:
        return basis(self.primes)

    @property
    def modulus_bits(self) -> float:
        return sum(math.log2(p) for p in self.primes)

    @property
    def body_bytes(self) -> int:
        """The packed half of one seeded ciphertext."""
        return len(self.primes) * N * self.bits // 8


NARROW = Parameters("narrow", _FIFTY[:3], 50)
WIDE = Parameters("wide", _FIFTY, 50)
TRAIN = Parameters("train", (0xFFFFFDC001, 0xFFFFF4C001, 0xFFFFF3C001), 40)
SETS = (NARROW, WIDE, TRAIN)


# --- randomness -------------------------------------------------------------------------------------------------


class Secrets:
    """All randomness of one side: streams from one root, each for one purpose, never rewound.

    root: the system's randomness if None. A given root and the labels of `begin` make every stream again: a caller
    who gives one must see to it that what stood under a label before stands there again, byte for byte.
    """

    def __init__(self, root: bytes | None = None) -> None:
        self._root = root or os.urandom(32)
        self._used: set[bytes] = set()
        self.begin(b"")

    def begin(self, label: bytes) -> None:
        """Streams of this label's own from here on; those of keys (`of_key`) stay what they are."""
        seed = hashlib.sha256(b"tallystick/v1/lattice/label/" + self._root + label).digest()
        self._seeds = Prg(seed, "lattice/seeds")
        self.noise = Prg(seed, "lattice/noise")
        self.ternary = Prg(seed, "lattice/ternary")
        self.masks = Prg(seed, "lattice/masks")

    def of_key(self, name: str) -> Secrets:
        """The randomness of one parameter set's key alone, whenever it is made."""
        return Secrets(hashlib.sha256(b"tallystick/v1/lattice/key/" + self._root + name.encode()).digest())

    def seed(self) -> bytes:
        """A fresh public seed; InternalError if it ever served before."""
        return self.claim(self._seeds.bytes(SEED_BYTES).tobytes())

    def claim(self, seed: bytes) -> bytes:
        """Mark a seed as used by one ciphertext: two under one seed would give away the difference of plaintexts."""
        if seed in self._used:
            raise InternalError("a ciphertext seed was about to be used twice")
        self._used.add(seed)
        return seed


def uniform(parameters: Parameters, stream: Prg, count: int) -> np.ndarray:
    """Residues uniform modulo each prime, (primes, count): words cut to `bits`, those >= p skipped, the next taken."""
    mask = np.uint64((1 << parameters.bits) - 1)
    pool = stream.words(len(parameters.primes) * count)
    pool &= mask
    rows = pool.reshape(len(parameters.primes), count)
    if bool((rows < parameters.basis.column).all()):
        return rows
    found = []
    for p in parameters.primes:
        good = np.flatnonzero(pool < np.uint64(p))
        while len(good) < count:
            pool = np.concatenate([pool, stream.words(count - len(good)) & mask])
            good = np.flatnonzero(pool < np.uint64(p))
        found.append(pool[good[:count]])
        pool = pool[good[count - 1] + 1 if count else 0 :]
    return np.stack(found)


def expand(parameters: Parameters, seed: bytes) -> np.ndarray:
    """The public half a of a seeded ciphertext, (primes, N), already in the transform's order."""
    return uniform(parameters, Prg(seed, f"lattice/a/{parameters.name}"), N)


def noise(stream: Prg, count: int) -> np.ndarray:
    """Centred binomial over 2 x 21 bits, int64: |e| <= 21, standard deviation 3.24."""
    words = stream.words(count)
    low = np.uint64((1 << 21) - 1)
    ones, others = np.bitwise_count(words & low), np.bitwise_count(words >> np.uint64(21) & low)
    return np.asarray(np.subtract(ones, others, dtype=np.int8).astype(np.int64))


def ternary(stream: Prg, count: int) -> np.ndarray:
    """Uniform in {-1, 0, 1}, int64: bytes below 255, modulo 3."""
    found = np.empty(0, dtype=np.uint8)
    while len(found) < count:
        more = stream.bytes(count + count // 64 + 16)
        found = np.concatenate([found, more[more < 255]])
    return np.asarray(found[:count].astype(np.int64) % 3 - 1)


# --- encodings --------------------------------------------------------------------------------------------------


def encode(parameters: Parameters, values: np.ndarray, t: int) -> np.ndarray:
    """round(q m / t) modulo each prime, exactly, (primes, n); m in [0, t), t = 2^64 or an odd t below 2^50.

    With h = floor(t/2) and rem = (q m + h) mod t, round(q m / t) = (q m + h - rem) / t, and q is 0 modulo p.
    (The textbook floor(q/t) m is wrong at this t: its error grows with m.)
    """
    ring = parameters.basis
    half = t // 2
    if t == WORD:
        rest = values * np.uint64(ring.modulus % WORD) + _HALF
    else:
        rest = basis((t,)).affine(values, [ring.modulus], [half])[0]
    inverse = [pow(t, -1, p) for p in parameters.primes]
    return ring.affine(rest, [-i for i in inverse], [half * i for i in inverse])


def scaled(high: np.ndarray, low: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
    """t times a binary fraction: whole part modulo 2^64 (below t for a small t) and the fraction's first 64 bits."""
    if t == WORD:
        return high, low
    factor = np.uint64(t)
    lo32 = np.uint64(0xFFFFFFFF)
    a, b = (high >> np.uint64(32)) * factor, (high & lo32) * factor
    # t < 2^32 keeps a, b exact; larger t goes through four partial products
    if t >= 1 << 32:
        return _scaled_wide(high, low, t)
    rest = (a << np.uint64(32)) + b
    whole = (a >> np.uint64(32)) + (rest < b)
    add = (low >> np.uint64(32)) * factor >> np.uint64(32)
    fraction = rest + add
    return whole + (fraction < add), fraction


def _scaled_wide(high: np.ndarray, low: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
    """The same for 2^32 <= t < 2^50: split t itself, t = t1 2^32 + t0."""
    t1, t0 = divmod(t, 1 << 32)
    whole_1, fraction_1 = scaled(high, low, t1)
    whole_0, fraction_0 = scaled(high, low, t0)
    moved = (whole_1 << np.uint64(32)) + (fraction_1 >> np.uint64(32))
    rest = fraction_1 << np.uint64(32)
    fraction = rest + fraction_0
    return moved + whole_0 + (fraction < rest), fraction


def rounded(high: np.ndarray, low: np.ndarray, t: int) -> np.ndarray:
    """round(t v / q) modulo t for v / q given as a binary fraction, uint64."""
    whole, fraction = scaled(high, low, t)
    whole = whole + (fraction >> np.uint64(63))
    return whole if t == WORD else np.asarray(np.where(whole >= np.uint64(t), whole - np.uint64(t), whole))


def masks(parameters: Parameters, stream: Prg, count: int, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Mask and flood in one: R uniform in Z_q, (primes, count), and the multiplier's share -round(t R / q), (count,).

    Draws with t R / q within 1/64 of a half-integer are thrown away (3 %): so the noise that rides on R never moves
    a rounding, and no share is ever off by one.
    """
    drawn: list[np.ndarray] = []
    shares: list[np.ndarray] = []
    have = 0
    while have < count:
        r = uniform(parameters, stream, count - have + count // 16 + 16)
        high, low = parameters.basis.fraction(r)
        _, fraction = scaled(high, low, t)
        keep = fraction - np.uint64((1 << 63) - (1 << 58)) >= np.uint64(1 << 59)
        drawn.append(r[:, keep])
        shares.append(rounded(high[keep], low[keep], t))
        have += int(keep.sum())
    share = np.concatenate(shares)[:count]
    negative = np.uint64(0) - share if t == WORD else np.where(share == 0, share, np.uint64(t) - share)
    return np.ascontiguousarray(np.concatenate(drawn, axis=1)[:, :count]), negative


# --- formats ----------------------------------------------------------------------------------------------------


def to_wire(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Binary fractions rounded to 80 bits, little-endian, uint8 (n, 10)."""
    up = low + np.uint64(1 << 47)
    top = high + (up < low)
    out = np.empty((len(high), 5), dtype="<u2")
    out[:, 0] = up >> np.uint64(48)
    out[:, 1:] = top.view("<u2").reshape(-1, 4)
    return out.view(np.uint8)


def from_wire(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The upper 64 bits and the lower 16 of each coefficient of an answer, uint64 each."""
    places = np.ascontiguousarray(data).view("<u2").reshape(-1, 5)
    return np.ascontiguousarray(places[:, 1:]).view("<u8")[:, 0], places[:, 0].astype(np.uint64)


def unpack_rows(parameters: Parameters, body: np.ndarray) -> np.ndarray:
    """The residues (primes, N) of a packed half; PeerError for one that is not below its prime."""
    rows = parameters.basis.unpack(body, parameters.bits).reshape(len(parameters.primes), N)
    if not bool((rows < parameters.basis.column).all()):
        raise PeerError("a ciphertext holds a residue that is not below its prime")
    return rows


def expanded(parameters: Parameters, seed: bytes, body: np.ndarray) -> np.ndarray:
    """Both halves of a seeded ciphertext, (2, primes, N); PeerError as `unpack_rows`."""
    return np.stack([unpack_rows(parameters, body), expand(parameters, seed)])


# --- the two keys -----------------------------------------------------------------------------------------------


class Key:
    """The owner's secret for one parameter set: encrypts under fresh seeds and decrypts answers."""

    def __init__(self, parameters: Parameters, secrets: Secrets) -> None:
        self.parameters = parameters
        self._secrets = secrets
        self._ring = parameters.basis
        self._own = secrets.of_key(parameters.name)
        s = ternary(self._own.ternary, N)
        self._minus_s = self._ring.forward(self._ring.residues(-s))
        # coefficient 0 of c s is the sum of c_j s'_j with s'_0 = s_0, s'_j = -s_(N-j)
        self.row = np.concatenate([s[:1], -s[:0:-1]])
        self._small = basis(_FIFTY[:1])
        self._s_small = self._small.forward(self._small.residues(s))

    def encrypt(self, plain: np.ndarray | None, constant: np.ndarray | None = None) -> tuple[bytes, np.ndarray]:
        """A fresh ciphertext of an encoded polynomial (primes, N), of an encoded constant (primes,), or of zero.

        Returns its seed and its packed half, uint8 (body_bytes,).
        """
        return self._encrypt(self._secrets, plain, constant)

    def public(self) -> tuple[bytes, np.ndarray]:
        """The public half: an encryption of zero, the same whenever it is asked for first; ask once."""
        return self._encrypt(self._own, None, None)

    def _encrypt(
        self, secrets: Secrets, plain: np.ndarray | None, constant: np.ndarray | None
    ) -> tuple[bytes, np.ndarray]:
        seed = secrets.seed()
        body = self._ring.residues(noise(secrets.noise, N))
        if plain is not None:
            self._ring.add(body, plain)
        body = self._ring.forward(body)
        self._ring.multiply_add(body, expand(self.parameters, seed), self._minus_s)
        if constant is not None:
            self._ring.add(body, constant[:, None])
        return seed, self._ring.pack(body, self.parameters.bits)

    def first(self, answer0: np.ndarray, answer1: np.ndarray, t: int) -> int:
        """Decrypt coefficient 0: answer0 uint8 (1, 10), answer1 uint8 (N, 10); the owner's share."""
        top, rest = from_wire(answer0)
        high, low = from_wire(answer1)
        lows = int((self.row * low.view(np.int64)).sum()) + int(rest[0])
        highs = int((self.row.view(np.uint64) * high).sum()) + int(top[0]) + (lows >> 16)
        share = rounded(np.array([highs % WORD], np.uint64), np.array([(lows & 0xFFFF) << 48], np.uint64), t)
        return int(share[0])

    def all(self, answer0: np.ndarray, answer1: np.ndarray, t: int, places: np.ndarray | None = None) -> np.ndarray:
        """Decrypt the first n coefficients, or those at `places`: answer0 uint8 (n, 10), answer1 uint8 (N, 10); shares
        uint64 (n,).

        c1 s modulo 2^80 by three digits of 27 bits: each product stays under 8192 2^27 = 2^40, far below a prime.
        """
        top, rest = from_wire(answer0)
        high, low = from_wire(answer1)
        word = high << np.uint64(16) | low
        mask = np.uint64((1 << 27) - 1)
        digits = np.stack([word & mask, word >> np.uint64(27) & mask, high >> np.uint64(38)])[:, None, :]
        product = self._small.inverse(self._small.multiply(self._small.forward(digits), self._s_small))
        p = self._small.primes[0]
        parts = product[:, 0, slice(len(top)) if places is None else places].astype(np.int64)
        parts -= (parts > p // 2) * np.int64(p)
        lows = rest.view(np.int64) + (parts[0] & 0xFFFF)
        highs = (parts[0] >> 16) + (parts[1] << 11) + (parts[2] << 38) + (lows >> 16)
        return rounded(top + highs.view(np.uint64), (lows.view(np.uint64) & _BITS_16) << np.uint64(48), t)


class PublicKey:
    """The multiplier's view of the owner's key, an encryption of zero: makes every answer look fresh."""

    def __init__(self, parameters: Parameters, seed: bytes, body: np.ndarray) -> None:
        self.parameters = parameters
        self._ring = parameters.basis
        self._first = unpack_rows(parameters, body)
        self._second = expand(parameters, seed)
        self._scale = [pow(N, -1, p) for p in parameters.primes]

    def answer_first(
        self, secrets: Secrets, total0: np.ndarray, total1: np.ndarray, t: int
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Re-randomise, mask and switch one answer of which only coefficient 0 is sent.

        total0 (primes,): sums of all values of the first half; total1 (primes, N): the second half, transform order.
        Returns uint8 (1, 10), uint8 (N, 10) for the owner and our own share of the coefficient.
        """
        r, share = masks(self.parameters, secrets.masks, 1, t)
        first, second = self.masked_first(secrets, (total0, total1), r)
        return to_wire(*first), to_wire(*second), int(share[0])

    def masked_first(
        self, secrets: Secrets, totals: tuple[np.ndarray, np.ndarray], r: np.ndarray
    ) -> tuple[Parts, Parts]:
        """An answer of which coefficient 0 is sent, under the mask r (primes, 1), as binary fractions of 128 bits."""
        u = self._ring.forward(self._ring.residues(ternary(secrets.ternary, N)))
        zero = self._ring.dot(self._first, u)
        values = [
            ((int(a) + int(b)) * scale + int(mask)) % p
            for a, b, scale, mask, p in zip(totals[0], zero, self._scale, r[:, 0], self.parameters.primes, strict=True)
        ]
        first = self._ring.fraction(np.array(values, dtype=np.uint64)[:, None])
        return first, self._second_half(secrets, u, totals[1])

    def answer_all(
        self, secrets: Secrets, totals: np.ndarray, n: int | np.ndarray, t: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Re-randomise, mask and switch one answer (2, primes, N) of which the first n coefficients, or those at the
        places n, are sent.

        Returns uint8 (n, 10), uint8 (N, 10) for the owner and our own shares, uint64 (n,).
        """
        u = self._ring.forward(self._ring.residues(ternary(secrets.ternary, N)))
        first = totals[0].copy()
        self._ring.multiply_add(first, self._first, u)
        first = np.ascontiguousarray(self._ring.inverse(first)[:, slice(n) if isinstance(n, int) else n])
        r, share = masks(self.parameters, secrets.masks, first.shape[1], t)
        self._ring.add(first, r)
        second = self._second_half(secrets, u, totals[1])
        return to_wire(*self._ring.fraction(first)), to_wire(*second), share

    def _second_half(self, secrets: Secrets, u: np.ndarray, total: np.ndarray) -> Parts:
        second = total.copy()
        self._ring.multiply_add(second, self._second, u)
        second = self._ring.inverse(second)
        self._ring.add(second, self._ring.residues(noise(secrets.noise, N)))
        return self._ring.fraction(second)


# --- what the noise tells ---------------------------------------------------------------------------------------


def hiding_bits(parameters: Parameters, terms: int, bits: float, coefficients: int, t: int = WORD) -> float:
    """How well a whole run's answers hide the multiplier's numbers: -log2 of the distance of the owner's view.

    terms: products added in one coefficient (rows of an inner product; 8192 x columns of a matrix-vector or slot
    product). bits: |multiplier| < 2^(bits - 1). coefficients: how many are sent in the run.
    An honest owner's noise has standard deviation 3.24 2^(bits-1) sqrt(terms), plus 2^9 of the re-randomising; under
    a mask uniform in Z_q with one part in 32 left out, a coefficient's view moves by about noise t / q.
    """
    spread = math.hypot(_NOISE_SD * 2.0 ** (bits - 1) * math.sqrt(max(1, terms)), 2.0**9)
    return parameters.modulus_bits - math.log2(t) - math.log2(spread) - math.log2(max(1, coefficients))


class Budget:
    """Adds up what one direction's answers tell over a run and refuses before it falls under 40 bits."""

    def __init__(self) -> None:
        self._spent = 0.0

    def spend(self, parameters: Parameters, terms: int, bits: float, coefficients: int, t: int = WORD) -> None:
        """Account for answers before they are made; InternalError when the run would leave less than 40 bits."""
        spent = self._spent + 2.0 ** -hiding_bits(parameters, terms, bits, coefficients, t)
        if spent > 2.0**-HIDING_BITS:
            raise InternalError(
                f"these products would leave {-math.log2(spent):.1f} bits of hiding, {HIDING_BITS:.0f} are required",
                hint="narrow the declared ranges or split the job",
            )
        self._spent = spent
