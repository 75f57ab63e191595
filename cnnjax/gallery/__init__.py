"""Pictures of what is inside a model, for photos in files: PNG files and the arrays behind them."""

from cnnjax.gallery.photos import Photos, read_photos, save_picture

__all__ = ["Photos", "read_photos", "save_picture"]
