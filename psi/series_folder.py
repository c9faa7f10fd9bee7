"""Where a series stands on our side: its secrets, the states after its runs, and the run under way, all sealed.

    series.json     label (the run that began it) and when
    root/           scalar, salt, key of the identifiers' digests; how many keys of the peer each run met
    v0003/          the state after the third run, or what has changed since an earlier one, which stays as its base;
                    the one before is kept until the next run has begun
    v0004.RUN.new/  the state that RUN has made, until both sides have their alignment on disk
    work-.../       the journals of the run under way

Both sides promote a state only when both have their alignment on disk. A crash in between leaves one side with the
newer state and the other with the older: the next run goes on from the newest that both hold.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from kernels import curve25519
from party.errors import InternalError
from psi import known
from psi.known import Known
from psi.masking import Source
from psi.means import awaited
from psi.messages import MOST_ROWS, Held
from psi.run import Run
from psi.series import Keys, advance, begin
from psi.store import SealedStore, write_synced
from psi.terms import Alignment

__all__ = ["Limits", "SeriesFolder"]

_LABEL = b"tallystick/v1/psi/series/held/"
_SPENT = 2  # lists of the agreed length whose keys may meet one scalar before it is drawn anew


@dataclass(frozen=True)
class Limits:
    """When our policy wants a new key: after so many runs, or days."""

    runs: int
    days: float


class SeriesFolder:
    """One series of ours with one peer over one pair of tables."""

    def __init__(self, folder: Path, key_file: Path, limits: Limits) -> None:
        """`folder` is this series' alone; `key_file` the home's, as for `SealedStore`."""
        self._folder = folder
        self._key_file = key_file
        self._limits = limits
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def align(self, run: Run, identifiers: Source) -> Alignment | None:
        """The next alignment of the series, or the first of a new one, as both sides decide; None on both sides below
        the minimum size. One round more than `advance`, or `psi.match`."""
        versions = self._versions()[-2:]
        held = [self._held(version) for version in reversed(versions)] + [bytes(32)] * 2
        ours = Held(held[0], held[1], self._due(run, versions))
        run.channel.send(ours)
        told = awaited(run.channel, Held, run.report, "what it holds of the series")
        common = {told.newest, told.before} - {bytes(32)}
        base = next((version for version in reversed(versions) if self._held(version) in common), None)
        if ours.roll or told.roll or base is None:
            return self._first(run, identifiers)
        return self._next(run, identifiers, base)

    def promote(self, run: str) -> None:
        """Both sides have the alignment of this run on disk: its state is the newest now. Again is no harm."""
        for made in self._folder.glob(f"v*.{_mark(run)}.new"):
            target = self._folder / made.name.partition(".")[0]
            if target.exists():
                self._destroy(target)
            made.rename(target)
        for work in self._folder.glob(f"work-{_mark(run)}"):
            self._destroy(work)

    # --- a run ------------------------------------------------------------------------------------------------------

    def _first(self, run: Run, identifiers: Source) -> Alignment | None:
        if self._label != run.terms.run:  # else this run began it and was interrupted
            self._discard()
            content = json.dumps({"label": run.terms.run, "made": time.time()}).encode()
            root = SealedStore(self._folder / "root", self._key_file, run.terms.run)
            root.save("scalar", curve25519.random_scalar())
            root.save("identity", secrets.token_bytes(32))
            root.save("salt", run.terms.salt)
            write_synced(self._folder / "series.json", content)
        made = begin(self._bound(run), identifiers, self._keys(run))
        return self._keep(run, 1, made)

    def _next(self, run: Run, identifiers: Source, base: int) -> Alignment | None:
        bound = self._bound(run)
        state = known.load(lambda version: self._store(f"v{version:04d}", version), base)
        self._clear(run, base, state.base)
        made = advance(bound, identifiers, self._keys(run), state)
        return self._keep(run, base + 1, made)

    def _clear(self, run: Run, held: int, base: int | None) -> None:
        """Older states than the one that both hold, but for its base; and what runs have left that never ended."""
        mark = _mark(run.terms.run)
        for path in self._folder.iterdir():
            state = path.name.startswith("v") and path.suffix != ".new"
            older = state and int(path.name[1:]) < held and int(path.name[1:]) != base
            left = (path.suffix == ".new" and f".{mark}." not in path.name) or (
                path.name.startswith("work-") and not path.name.endswith(mark)
            )
            if older or left:
                self._destroy(path)

    def _keep(self, run: Run, version: int, made: tuple[Alignment, Known] | None) -> Alignment | None:
        if made is None:
            return None
        alignment, state = made
        name = f"v{version:04d}.{_mark(run.terms.run)}.new"
        if (self._folder / name).exists():
            self._destroy(self._folder / name)
        known.save(self._store(name, version), state.compact(), version)
        return alignment

    def _bound(self, run: Run) -> Run:
        """The same run with the series' label and salt, its journals in a folder of the series."""
        work = SealedStore(
            self._folder / f"work-{_mark(run.terms.run)}", self._key_file, f"{self._label}/work/{run.terms.run}"
        )
        salt = self._root().load("salt") or b""
        terms = replace(run.terms, series=self._label, salt=salt)
        return Run(run.channel, run.guard, terms, replace(run.means, store=work, ahead=None))

    # --- what is on disk --------------------------------------------------------------------------------------------

    @property
    def _label(self) -> str:
        path = self._folder / "series.json"
        return str(json.loads(path.read_bytes())["label"]) if path.exists() else ""

    def _due(self, run: Run, versions: list[int]) -> bool:
        """Whether our limits, or what the peer has already been answered, ask for a new key."""
        if not self._label:
            return True
        if self._label == run.terms.run:
            return False  # this very run began the series, and goes on
        if self._root().load("scalar") is None:
            return True  # it was being destroyed when a run broke
        made = float(json.loads((self._folder / "series.json").read_bytes())["made"])
        old = time.time() - made > self._limits.days * 86_400
        spent = self._root().journal("spent")
        met = sum(int.from_bytes(spent.read(entry, 1), "little") for entry in range(len(spent)))
        most = run.terms.most_theirs
        spare = min(_SPENT * most, MOST_ROWS - 2 * most)  # the places of a series end, too
        return old or not versions or versions[-1] >= self._limits.runs or met > spare

    def _versions(self) -> list[int]:
        return sorted(int(path.name[1:]) for path in self._folder.glob("v????") if path.name[1:].isdigit())

    def _held(self, version: int) -> bytes:
        salt = self._root().load("salt") or b""
        return hashlib.sha256(_LABEL + salt + version.to_bytes(8, "little")).digest()

    def _root(self) -> SealedStore:
        return SealedStore(self._folder / "root", self._key_file, self._label)

    def _store(self, name: str, version: int) -> SealedStore:
        return SealedStore(self._folder / name, self._key_file, f"{self._label}/{version}")

    def _keys(self, run: Run) -> Keys:
        scalar, identity = self._root().load("scalar"), self._root().load("identity")
        if scalar is None or identity is None:
            raise InternalError("the secrets of this series are gone", hint="run again with --realign")
        return Keys(scalar, identity, lambda count: self._debit(run, count))

    def _debit(self, run: Run, count: int) -> None:
        """Write down how many keys of the peer will meet our scalar in this run, before they do."""
        spent, mark = self._root().journal("spent"), _mark(run.terms.run).encode()
        if mark not in {spent.read(entry, 0) for entry in range(len(spent))}:
            spent.append([mark, count.to_bytes(8, "little")])
            spent.sync()

    def _discard(self) -> None:
        """Destroy an old series: its key first."""
        for path in sorted(self._folder.iterdir(), key=lambda path: path.name != "root"):
            if path.is_dir():
                self._destroy(path)
            else:
                path.unlink()

    def _destroy(self, folder: Path) -> None:
        """One store of this series: its records are overwritten first."""
        SealedStore(folder, self._key_file, "").wipe()
        shutil.rmtree(folder)


def _mark(run: str) -> str:
    """A run's name as part of a file's."""
    return hashlib.sha256(run.encode()).hexdigest()[:16]
