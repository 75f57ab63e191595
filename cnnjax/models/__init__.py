"""Models: the registry of builders, `Model`, prediction, tables, files."""

from cnnjax.models.create import create_model
from cnnjax.models.functions import Functions
from cnnjax.models.layers.receptive_fields import ReceptiveField, receptive_fields
from cnnjax.models.layers.summary import LayerRow, Summary, summary
from cnnjax.models.manifest import UnreadableModel
from cnnjax.models.model import Model
from cnnjax.models.named_classes import decode_predictions
from cnnjax.models.predict import UnknownWords, predict
from cnnjax.models.pretrained.export import export_weights
from cnnjax.models.pretrained.order import WeightsDoNotFit
from cnnjax.models.registry import BUILDERS, Builder, Release, register
from cnnjax.models.runtimes.portable import Exported, OtherOutputs, export
from cnnjax.models.saved import load_model, save_model
from cnnjax.models.spec import ModelSpec
from cnnjax.models.surgery import convolutionalize

__all__ = [
    "BUILDERS",
    "Builder",
    "Exported",
    "Functions",
    "LayerRow",
    "Model",
    "ModelSpec",
    "OtherOutputs",
    "ReceptiveField",
    "Release",
    "Summary",
    "UnknownWords",
    "UnreadableModel",
    "WeightsDoNotFit",
    "convolutionalize",
    "create_model",
    "decode_predictions",
    "export",
    "export_weights",
    "load_model",
    "predict",
    "receptive_fields",
    "register",
    "save_model",
    "summary",
]
