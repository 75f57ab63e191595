"""Side-by-side measurements against Keras and PyTorch."""
