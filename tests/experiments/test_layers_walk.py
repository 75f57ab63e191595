"""The net whose maps are images: equal to Keras', whole and cut off."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras import layers

from cnnjax.models import create_model, summary
from cnnjax.models.pretrained.fill import PartlyLoaded
from cnnjax.weights import save_npz

pytestmark = pytest.mark.thorough

SHAPE = (50, 44, 3)


def keras_model(activation):
    with jax.numpy_rank_promotion("allow"):
        return keras.Sequential(
            [
                keras.Input(SHAPE),
                layers.Conv2D(3, 3, name="conv1"),
                layers.MaxPooling2D(3, name="pool1"),
                layers.Activation(activation, name="activation1"),
                layers.Conv2D(3, 3, name="conv2"),
                layers.MaxPooling2D(2, name="pool2"),
                layers.Activation(activation, name="activation2"),
                layers.Conv2D(3, 3, name="conv3"),
                layers.Activation(activation, name="activation3"),
                layers.Conv2D(3, 3, name="conv4"),
                layers.Activation(activation, name="activation4"),
                layers.Flatten(name="flatten"),
                layers.Dense(8, activation, name="dense"),
            ]
        )


@pytest.mark.sample(1)
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_outputs_and_layers_are_kerass(activation):
    model = create_model("layers_walk", input_shape=SHAPE, activation=activation)
    oracle = keras_model(activation)
    assert model.layer_names == tuple(layer.name for layer in oracle.layers)
    rows = summary(model).rows
    assert [row.output_shape for row in rows] == [layer.output.shape[1:] for layer in oracle.layers]
    for name, weights in model.params.items():
        oracle.get_layer(name).set_weights([weights["kernel"], weights["bias"]])
    x = np.random.default_rng(0).random((2, *SHAPE), np.float32)
    with jax.numpy_rank_promotion("allow"):
        expected = oracle(x, training=False)
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=2e-6)


def test_a_prefix_takes_the_weights_of_its_layers_by_name(tmp_path):
    whole = create_model("layers_walk", input_shape=SHAPE, seed=3)
    save_npz(whole.variables, tmp_path / "w.npz")
    with pytest.warns(PartlyLoaded, match=r"\+ conv4"):
        prefix = create_model(
            "layers_walk",
            input_shape=SHAPE,
            until="activation3",
            weights=tmp_path / "w.npz",
            allow_partial=True,
        )
    assert prefix.layer_names == whole.layer_names[:8]
    assert set(prefix.params) == {"conv1", "conv2", "conv3"}
    for name, weights in prefix.params.items():
        assert weights["kernel"].tobytes() == whole.params[name]["kernel"].tobytes()
    assert (prefix.spec.num_classes, prefix.spec.head) == (0, ())
    assert (whole.spec.num_classes, whole.spec.head) == (8, ("dense",))
    assert prefix(jnp.zeros((1, *SHAPE))).shape == (1, 5, 4, 3)


def test_the_smallest_size_and_arguments_that_make_no_sense():
    assert summary(create_model("layers_walk", input_shape=(38, 38, 3))).rows[-1].output_shape == (
        8,
    )
    with pytest.raises(ValueError, match="too small for 'layers_walk': at least 38x38"):
        create_model("layers_walk", input_shape=(37, 38, 3))
    with pytest.raises(ValueError, match=r"until must be one of conv1, pool1, .*, got 'pool7'"):
        create_model("layers_walk", until="pool7")
    with pytest.raises(ValueError, match=r"activation must be one of 'relu', 'sigmoid', 'tanh'"):
        create_model("layers_walk", activation="gelu")
