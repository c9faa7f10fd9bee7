"""The verbs of `tally` about trained models, a part of `pipelines.cli`'s command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from party.errors import UsageError
from pipelines.printing import JsonFlag, show

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None)

Points = Annotated[float, typer.Option(help="Points where label 0 is --odds times as likely as label 1.")]
Odds = Annotated[float, typer.Option(help="Those odds.")]
Pdo = Annotated[float, typer.Option(help="Points to double the odds; below 0, points rise with label 1.")]


def _home(context: typer.Context) -> Path:
    return Path(context.find_root().params["home"])


@app.command()
def models(context: typer.Context, as_json: JsonFlag = False) -> None:
    """List our halves of trained models, newest first."""
    from pipelines import models as kept
    from pipelines import verbs_model

    show(verbs_model.listing(_home(context)), as_json, kept.listing_text)


@app.command()
def model(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="MODEL", help="The model's id, or a file with our half.")],
    card: Annotated[bool, typer.Option("--scorecard", help="Our features as points of a scorecard.")] = False,
    points: Points = 600.0,
    odds: Odds = 50.0,
    pdo: Pdo = 20.0,
    sklearn: Annotated[bool, typer.Option("--sklearn", help="Our coefficients on our table's scale.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show our half of a model: weights, points of a scorecard, or coefficients for scikit-learn."""
    from pipelines import verbs_model
    from pipelines.job_score import Scale

    if card and sklearn:
        raise UsageError("give --scorecard or --sklearn, not both")
    found = verbs_model.model(_home(context), name, Scale(points, odds, pdo) if card else None, sklearn=sklearn)
    show(found, as_json, verbs_model.model_text)


@app.command()
def score(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="MODEL", help="The model's id, or a file with our half.")],
    table: Annotated[str | None, typer.Option(help="Our table. Default: the one the model was trained on.")] = None,
    peer_table: Annotated[str | None, typer.Option(help="The peer's table. Default: the one of the training.")] = None,
    ids: Annotated[Path | None, typer.Option(help="Only rows with these keys: a line each, or a .csv.")] = None,
    one: Annotated[list[str] | None, typer.Option("--id", help="Only the row with this key; may be repeated.")] = None,
    receiver: Annotated[str | None, typer.Option(help="Who gets the scores. Default: we.")] = None,
    decimals: Annotated[int, typer.Option(help="Of a score, 0 to 6.")] = 3,
    form: Annotated[str, typer.Option("--as", help="score, logit or points.")] = "score",
    points: Points = 600.0,
    odds: Odds = 50.0,
    pdo: Pdo = 20.0,
    to: Annotated[str | None, typer.Option(help="csv: or parquet: inside the home.")] = None,
    realign: Annotated[bool, typer.Option("--realign", help="Do not reuse an earlier alignment.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Start afresh instead of resuming an unfinished run.")] = False,
    planned: Annotated[bool, typer.Option("--plan", help="Show what each party would learn; runs nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Score a newly aligned table with a model trained earlier, all its rows or some."""
    from pipelines import verbs_model
    from pipelines.job_score import Scale
    from pipelines.scoring import Wanted

    if ids is not None and one:
        raise UsageError("give --ids or --id, not both")
    scale = Scale(points, odds, pdo)
    wanted = Wanted(table, peer_table, receiver, decimals, form, scale, to, tuple(one) if one else None)
    if planned:
        from pipelines.verbs_plan import plan_text

        show(verbs_model.plan(_home(context), name, wanted, ids), as_json, plan_text)
        return
    found = verbs_model.score(_home(context), name, wanted, ids, new=new, realign=realign)
    show(found, as_json, verbs_model.score_text)
