"""Models: the registry of builders, `Model`, prediction, tables, files."""

from cnnjax.models.export import export_weights
from cnnjax.models.fields import ReceptiveField, receptive_fields
from cnnjax.models.files import load_model, save
from cnnjax.models.manifest import UnreadableModel
from cnnjax.models.model import Functions, Model
from cnnjax.models.order import WeightsDoNotFit
from cnnjax.models.predict import UnknownWords, decode_positions, decode_predictions, predict
from cnnjax.models.registry import BUILDERS, create_model
from cnnjax.models.spec import ModelSpec
from cnnjax.models.surgery import convolutionalize
from cnnjax.models.table import LayerRow, Summary, summary

__all__ = [
    "BUILDERS",
    "Functions",
    "LayerRow",
    "Model",
    "ModelSpec",
    "ReceptiveField",
    "Summary",
    "UnknownWords",
    "UnreadableModel",
    "WeightsDoNotFit",
    "convolutionalize",
    "create_model",
    "decode_positions",
    "decode_predictions",
    "export_weights",
    "load_model",
    "predict",
    "receptive_fields",
    "save",
    "summary",
]
