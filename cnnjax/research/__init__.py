"""Research: gradients per example, curvature, and which examples a prediction rests on."""

from cnnjax.research.curvature import fisher_diagonal, ggn_vector_product, hvp
from cnnjax.research.influence import influence
from cnnjax.research.per_example import per_example_gradients
from cnnjax.research.spectrum import TopEigenvalues, top_hessian_eigenvalues

__all__ = [
    "TopEigenvalues",
    "fisher_diagonal",
    "ggn_vector_product",
    "hvp",
    "influence",
    "per_example_gradients",
    "top_hessian_eigenvalues",
]
