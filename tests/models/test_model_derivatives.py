"""Every registered model under forward mode, under the engines that it takes by itself."""

import jax
import pytest
from families import marked, representatives

from cnnjax.models import Model
from cnnjax.models.builder import build

NAMES = marked(sorted(representatives(), key=lambda name: (name != "mnist_convnet", name)))


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", NAMES)
def test_forward_over_backward_mode_reaches_every_parameter(name):
    """Traced only: a rule that is missing is missing then."""
    model = Model.abstract(*build(name))
    functions, x = model.functions(), model.spec.sample(2)

    def product(params, state, x, vector):
        def loss(params):
            outputs, _ = functions.apply_train(params, state, x, jax.random.key(0))
            return sum((leaf**2).sum() for leaf in jax.tree.leaves(outputs))

        return jax.jvp(jax.grad(loss), (params,), (vector,))[1]

    shapes = jax.eval_shape(product, model.params, model.state, x, model.params)
    assert jax.tree.map(lambda a: a.shape, shapes) == jax.tree.map(lambda a: a.shape, model.params)
