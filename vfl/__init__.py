"""One model, split by columns: logistic regression trained and scored on shares."""

from vfl.crossval import Validated
from vfl.estimator import SplitLogisticRegression
from vfl.fitted import Preparation, columns_of, standardised
from vfl.folds import CrossValidation
from vfl.local import LocalSplit
from vfl.metrics import Metrics, auc, ks, log_loss
from vfl.model import ModelHalf
from vfl.recipes import Preparing, Recipe, Screen
from vfl.score import score
from vfl.spec import Plan, TrainSpec, plan, request
from vfl.state import Checkpoints, FileCheckpoints, MemoryCheckpoints
from vfl.train import Fitted, train
from vfl.wanted import Wanted

__all__ = [
    "Checkpoints",
    "CrossValidation",
    "FileCheckpoints",
    "Fitted",
    "LocalSplit",
    "MemoryCheckpoints",
    "Metrics",
    "ModelHalf",
    "Plan",
    "Preparation",
    "Preparing",
    "Recipe",
    "Screen",
    "SplitLogisticRegression",
    "TrainSpec",
    "Validated",
    "Wanted",
    "auc",
    "columns_of",
    "ks",
    "log_loss",
    "plan",
    "request",
    "score",
    "standardised",
    "train",
]
