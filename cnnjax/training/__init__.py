"""Training: `fit`, and its parts for a loop of one's own."""

from cnnjax.training import loggers
from cnnjax.training.callbacks import Callback, Moment
from cnnjax.training.evaluation import evaluate
from cnnjax.training.freezing import freeze, refreeze
from cnnjax.training.frozen_hash import FrozenLayersMoved
from cnnjax.training.loop import fit
from cnnjax.training.objective import Aux, Objective, supervised
from cnnjax.training.optim import learning_rate_factors, make_optimizer
from cnnjax.training.own_step import Step
from cnnjax.training.profile import Profile
from cnnjax.training.rate_finder import LearningRates, find_learning_rate
from cnnjax.training.reporting import report
from cnnjax.training.result import Run
from cnnjax.training.schedules import make_schedule
from cnnjax.training.state import TrainState
from cnnjax.training.step import make_eval_step, make_train_step
from cnnjax.training.stopping import Interrupted, NonFiniteLoss
from cnnjax.training.sweep import sweep
from cnnjax.training.swept import Sweep

__all__ = [
    "Aux",
    "Callback",
    "FrozenLayersMoved",
    "Interrupted",
    "LearningRates",
    "Moment",
    "NonFiniteLoss",
    "Objective",
    "Profile",
    "Run",
    "Step",
    "Sweep",
    "TrainState",
    "evaluate",
    "find_learning_rate",
    "fit",
    "freeze",
    "learning_rate_factors",
    "loggers",
    "make_eval_step",
    "make_optimizer",
    "make_schedule",
    "make_train_step",
    "refreeze",
    "report",
    "supervised",
    "sweep",
]
