"""Ideas in a few lines each, with all that `fit` does beside them."""
