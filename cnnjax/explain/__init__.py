"""Looking inside a model: (model, images) -> arrays."""

from cnnjax.explain.activations import (
    Sparsity,
    activation_shapes,
    activations,
    normalise_maps,
    sparsity,
)
from cnnjax.explain.attention import attention_maps, attention_rollout
from cnnjax.explain.cam import (
    EmptyMap,
    eigen_cam,
    grad_cam,
    grad_cam_plus_plus,
    hires_cam,
    layer_cam,
)
from cnnjax.explain.classes import class_patterns
from cnnjax.explain.equivariance import Change, Move, equivariance
from cnnjax.explain.faithfulness import Curve, Pointing, deletion, insertion, pointing_game
from cnnjax.explain.filters import DeadFilters, dead_filters, filter_patterns
from cnnjax.explain.gradients import (
    as_heatmaps,
    guided_backpropagation,
    input_gradient,
    integrated_gradients,
    saliency,
    smooth_grad,
)
from cnnjax.explain.methods import METHODS, Method, method, methods_at
from cnnjax.explain.occlusion import occlusion
from cnnjax.explain.receptive_field import Box, receptive_box, receptive_field
from cnnjax.explain.rise import rise
from cnnjax.explain.sanity import Randomisation, randomisation
from cnnjax.explain.score_cam import score_cam
from cnnjax.explain.similarity import rank_correlation, structural_similarity
from cnnjax.explain.words import Ngram, top_ngrams, word_cam, word_occlusion

__all__ = [
    "METHODS",
    "Box",
    "Change",
    "Curve",
    "DeadFilters",
    "EmptyMap",
    "Method",
    "Move",
    "Ngram",
    "Pointing",
    "Randomisation",
    "Sparsity",
    "activation_shapes",
    "activations",
    "as_heatmaps",
    "attention_maps",
    "attention_rollout",
    "class_patterns",
    "dead_filters",
    "deletion",
    "eigen_cam",
    "equivariance",
    "filter_patterns",
    "grad_cam",
    "grad_cam_plus_plus",
    "guided_backpropagation",
    "hires_cam",
    "input_gradient",
    "insertion",
    "integrated_gradients",
    "layer_cam",
    "method",
    "methods_at",
    "normalise_maps",
    "occlusion",
    "pointing_game",
    "randomisation",
    "rank_correlation",
    "receptive_box",
    "receptive_field",
    "rise",
    "saliency",
    "score_cam",
    "smooth_grad",
    "sparsity",
    "structural_similarity",
    "top_ngrams",
    "word_cam",
    "word_occlusion",
]
