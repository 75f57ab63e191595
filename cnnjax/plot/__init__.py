"""Figures: of runs, of data, of what is inside a model; those of photos in files as PNG files."""

from cnnjax.plot.activation_maps import draw_activations
from cnnjax.plot.contact import contact_sheet
from cnnjax.plot.exporting import export_examples
from cnnjax.plot.figures import confusion_matrix, curves, mean_curves, sparsity
from cnnjax.plot.gradcam import ClassHeat, draw_gradcam
from cnnjax.plot.grids import feature_maps, image_grid, pattern_grid
from cnnjax.plot.images import Photos, read_photos, save_image, save_pixels
from cnnjax.plot.method_grid import draw_methods
from cnnjax.plot.overlays import overlay
from cnnjax.plot.patterns import draw_classes, draw_filters
from cnnjax.plot.randomisation import draw_sanity, pointing_table
from cnnjax.plot.rates import learning_rates
from cnnjax.plot.word_colours import coloured_words, draw_words

__all__ = [
    "ClassHeat",
    "Photos",
    "coloured_words",
    "confusion_matrix",
    "contact_sheet",
    "curves",
    "draw_activations",
    "draw_classes",
    "draw_filters",
    "draw_gradcam",
    "draw_methods",
    "draw_sanity",
    "draw_words",
    "export_examples",
    "feature_maps",
    "image_grid",
    "learning_rates",
    "mean_curves",
    "overlay",
    "pattern_grid",
    "pointing_table",
    "read_photos",
    "save_image",
    "save_pixels",
    "sparsity",
]
