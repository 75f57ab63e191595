"""Image files: decoded, resized, checked, kept as a cache of pixels."""
