"""cnnjax: research with convolutional networks in JAX."""

from cnnjax import augment, data, explain, metrics, nn, research, runs, training, transfer
from cnnjax.config import TrainingConfig
from cnnjax.core.runtime import configure_runtime
from cnnjax.core.tracebacks import load_ipython_extension, unload_ipython_extension
from cnnjax.models import (
    Model,
    ModelSpec,
    create_model,
    decode_predictions,
    export,
    export_weights,
    predict,
    summary,
)
from cnnjax.recipes.reproduce import Reproduction, reproduce
from cnnjax.runs import load, save
from cnnjax.task import Inputs, Task, decode_positions
from cnnjax.training import Run, Sweep, evaluate, fit, sweep

__all__ = [
    "Inputs",
    "Model",
    "ModelSpec",
    "Reproduction",
    "Run",
    "Sweep",
    "Task",
    "TrainingConfig",
    "augment",
    "configure_runtime",
    "create_model",
    "data",
    "decode_positions",
    "decode_predictions",
    "evaluate",
    "explain",
    "export",
    "export_weights",
    "fit",
    "load",
    "load_ipython_extension",
    "metrics",
    "nn",
    "predict",
    "reproduce",
    "research",
    "runs",
    "save",
    "summary",
    "sweep",
    "training",
    "transfer",
    "unload_ipython_extension",
]
