"""Pictures of what is inside a model, for photos in files: PNG files and the arrays behind them."""

from cnnjax.gallery.cams import draw_methods
from cnnjax.gallery.contact import contact_sheet
from cnnjax.gallery.exporting import export_examples
from cnnjax.gallery.gradcam import ClassHeat, draw_gradcam
from cnnjax.gallery.maps import draw_activations
from cnnjax.gallery.overlays import overlay
from cnnjax.gallery.patterns import draw_classes, draw_filters
from cnnjax.gallery.photos import Photos, read_photos, save_picture, save_pixels
from cnnjax.gallery.sanity import draw_sanity, pointing_table
from cnnjax.gallery.words import coloured_words, draw_words

__all__ = [
    "ClassHeat",
    "Photos",
    "coloured_words",
    "contact_sheet",
    "draw_activations",
    "draw_classes",
    "draw_filters",
    "draw_gradcam",
    "draw_methods",
    "draw_sanity",
    "draw_words",
    "export_examples",
    "overlay",
    "pointing_table",
    "read_photos",
    "save_picture",
    "save_pixels",
]
