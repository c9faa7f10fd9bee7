"""job.yaml into a Job; every complaint names file, line, reason and the nearest known word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mpc.statistics.wanted import KINDS, Wanted
from party.scores import MOST_DECIMALS
from party.yamlfile import Reader, load
from pipelines.fitting import Fitting
from pipelines.job import Align, Analysis, Job, Train
from pipelines.job_score import FORMS, STANDARD, Scale, Score

if TYPE_CHECKING:
    from vfl.recipes import Recipe, Screen
from pipelines.measured import read_cross_validation, read_measured

__all__ = ["read_job"]

_RESERVED = ("learns", "duplicates", "keep", "incremental")


def read_job(path: Path, us: str) -> Job:
    """The job in this file, as the party `us` runs it. Raises FileError (exit 2)."""
    top = load(path)
    top.refuse_unknown(("version", "name", "peer", "align", "analyse", "train", "score"))
    top.version()
    peer = top.required("peer").text(64)
    job = Job(
        name=top.required("name").text(64),
        initiator=us,
        align=_align(top.required("align"), us, peer),
        analyse=_analyse(top, us),
        train=_train(top),
        score=_score(top),
    )
    for place, reason, hint in job.complaints():
        raise _at(top, place).error(reason, hint=hint)
    return job


def _align(node: Reader, us: str, peer: str) -> Align:
    node.refuse_unknown((us, peer, *_RESERVED))
    tables = []
    for word, reader in node.mapping().items():
        if word not in _RESERVED:
            tables.append((word, reader.text(64)))
    for party in (us, peer):
        node.required(party)
    duplicates, keep, incremental = (node.optional(word) for word in _RESERVED[1:])
    return Align(
        tuple(tables),
        node.required("learns").text(64),
        duplicates.text(20) if duplicates else None,
        keep.text(64) if keep else None,
        incremental.boolean() if incremental else False,
    )


def _analyse(top: Reader, us: str) -> tuple[Analysis, ...]:
    node = top.optional("analyse")
    found = []
    for item in node.list(100) if node is not None and not node.is_null else ():
        item.refuse_unknown(("name", "sql", "statistics", "to"))
        sql, statistics, to = item.optional("sql"), item.optional("statistics"), item.optional("to")
        if (sql is None) == (statistics is None):
            raise item.error("has either `sql` or `statistics`, not both and not neither")
        kinds = []
        if statistics is not None:
            statistics.refuse_unknown(KINDS)
            kinds = [(kind, _wanted(reader)) for kind, reader in statistics.mapping().items()]
            if not kinds:
                raise statistics.error("names no statistic", hint="one of " + ", ".join(KINDS))
        found.append(
            Analysis(
                name=item.required("name").text(64),
                to=_names(to) if to is not None else (us,),
                sql=None if sql is None else sql.text(20_000),
                statistics=tuple(kinds),
            )
        )
    return tuple(found)


def _wanted(node: Reader) -> Wanted:
    """A list of columns, or a mapping of them with options."""
    if node.is_list:
        return Wanted(_names(node))
    node.refuse_unknown(("columns", "by", "bins", "edges", "min_share", "merge", "at"))
    by, bins, edges, share, merge, at = map(node.optional, ("by", "bins", "edges", "min_share", "merge", "at"))
    return Wanted(
        columns=_names(node.required("columns")),
        by=None if by is None else by.text(256),
        bins=None if bins is None else bins.integer(2, 64),
        edges=_decimals(edges),
        min_share=None if share is None else share.number(),
        merge=None if merge is None else merge.number(),
        at=_decimals(at),
    )


def _decimals(node: Reader | None) -> tuple[str, ...]:
    """Numbers exactly as they are written."""
    return () if node is None else tuple(f"{item.decimal():f}" for item in node.list(64))


def _train(top: Reader) -> Train | None:
    node = top.optional("train")
    if node is None or node.is_null:
        return None
    known = ("label", "features", "l2", "winsorise", "test_fraction", "tol", "max_passes")
    options = ("weights", "class_weight", "offset", "early_stopping", "validation_fraction", "l1", "method")
    node.refuse_unknown((*known, *options, "prepare", "screen", "inference", "metrics", "cross_validation"))
    features = node.required("features").mapping()
    defaults = Train("", ())
    winsorise, most = node.optional("winsorise"), node.optional("max_passes")
    weights, offset, patience, inference = map(node.optional, ("weights", "offset", "early_stopping", "inference"))

    tried, penalty = read_cross_validation(node.optional("cross_validation")), node.optional("l2")
    if tried is not None and penalty is not None:
        raise penalty.error("is what `cross_validation` is to find", hint="leave out one of the two")

    def number(key: str, default: float) -> float:
        reader = node.optional(key)
        return default if reader is None else reader.number()

    return Train(
        label=node.required("label").text(256),
        features=tuple((party, _names(reader)) for party, reader in features.items()),
        l2=number("l2", defaults.l2),
        winsorise=defaults.winsorise if winsorise is None else None if winsorise.is_null else winsorise.number(),
        test_fraction=number("test_fraction", defaults.test_fraction),
        tol=number("tol", defaults.tol),
        max_passes=None if most is None or most.is_null else most.integer(1, 1000),
        weights=None if weights is None else weights.text(256),
        class_weight=_class_weight(node),
        offset=() if offset is None else _names(offset),
        early_stopping=None if patience is None else patience.integer(1, 100),
        validation_fraction=number("validation_fraction", defaults.validation_fraction),
        prepare=_prepare(node.optional("prepare")),
        screen=_screen(node.optional("screen")),
        inference=inference is not None and inference.boolean(),
        metrics=read_measured(node.optional("metrics")),
        cross_validation=tried,
        fitting=Fitting.read(node),
    )


def _class_weight(node: Reader) -> str | tuple[float, float] | None:
    wanted = node.optional("class_weight")
    if wanted is None or wanted.is_null:
        return None
    if not wanted.is_list:
        return wanted.text(20)
    numbers = [item.number() for item in wanted.list(3)]
    if len(numbers) != 2:
        raise wanted.error("is `balanced` or two numbers: of class 0 and class 1")
    return numbers[0], numbers[1]


def _prepare(node: Reader | None) -> tuple[tuple[str, Recipe], ...]:
    """A recipe for each column named, in the job's order."""
    if node is None or node.is_null:
        return ()
    from vfl.recipes import Recipe  # a query trains nothing

    found = []
    for name, reader in node.mapping().items():
        reader.refuse_unknown(
            ("impute", "indicator", "winsorise", "one_hot", "reference", "woe", "bins", "edges", "min_share", "merge")
        )
        impute, bins, share, merge = map(reader.optional, ("impute", "bins", "min_share", "merge"))
        flags = {key: reader.optional(key) for key in ("indicator", "one_hot", "reference", "woe")}
        recipe = Recipe(
            impute=None if impute is None else impute.text(64),
            winsorise=_tails(reader.optional("winsorise")),
            bins=None if bins is None else bins.integer(2, 64),
            edges=_decimals(reader.optional("edges")),
            min_share=None if share is None else share.number(),
            merge=None if merge is None else merge.number(),
            **{key: flag is not None and flag.boolean() for key, flag in flags.items()},
        )
        found.append((name, recipe))
    return tuple(found)


def _tails(node: Reader | None) -> tuple[float, ...] | None:
    """`winsorise` of one column: null, standard deviations, or two percentiles."""
    if node is None or node.is_null:
        return None if node is None else ()
    return tuple(item.number() for item in node.list(2)) if node.is_list else (node.number(),)


def _screen(node: Reader | None) -> Screen | None:
    if node is None or node.is_null:
        return None
    from vfl.recipes import Screen

    node.refuse_unknown(("correlation", "vif"))
    correlation, vif = node.optional("correlation"), node.optional("vif")
    return Screen(*(None if one is None else one.number() for one in (correlation, vif)))


def _score(top: Reader) -> Score | None:
    node = top.optional("score")
    if node is None or node.is_null:
        return None
    node.refuse_unknown(("receiver", "to", "decimals", "as", "scale"))
    to, decimals, form, scale = map(node.optional, ("to", "decimals", "as", "scale"))
    return Score(
        node.required("receiver").text(64),
        None if to is None else to.text(1024),
        Score("").decimals if decimals is None else decimals.integer(0, MOST_DECIMALS),
        Score("").form if form is None else form.choice(FORMS),
        _scale(scale),
    )


def _scale(node: Reader | None) -> Scale:
    if node is None:
        return STANDARD
    node.refuse_unknown(("points", "odds", "pdo"))
    points, odds, pdo = map(node.optional, ("points", "odds", "pdo"))
    return Scale(
        STANDARD.points if points is None else points.number(),
        STANDARD.odds if odds is None else odds.number(),
        STANDARD.pdo if pdo is None else pdo.number(),
    )


def _names(node: Reader) -> tuple[str, ...]:
    return tuple(item.text(256) for item in node.list(1000))


def _at(top: Reader, place: str) -> Reader:
    """The value that a complaint about `train.l2` or `analyse.by_plan.to` means, or the nearest above it."""
    node, words = top, place.split(".")
    while words:
        word, below = words.pop(0), None
        if node.is_mapping:
            below = node.optional(word)
            if below is None and words and node.has(f"{word}.{words[0]}"):  # train.prepare.bank.income
                below = node.optional(f"{word}.{words.pop(0)}")
        elif node.is_list:
            below = next((item for item in node.list() if _named(item, word)), None)
        if below is None:
            return node
        node = below
    return node


def _named(item: Reader, word: str) -> bool:
    name = item.optional("name") if item.is_mapping else None
    return name is not None and name.scalar() == word
