"""A loss, a metric and an optimiser of one's own: three values handed to `fit`."""

import jax
import jax.numpy as jnp
import optax

import cnnjax as cj


def focal(logits, labels):  # Lin et al. 2017: what is easy counts less
    likely = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)[:, 0]
    return -((1 - jnp.exp(likely)) ** 2) * likely


def sure_and_right(logits, labels):
    return (jax.nn.softmax(logits).max(axis=1) > 0.9) & (logits.argmax(axis=1) == labels)


data = cj.data.load("digits").with_validation(0.2)
config = cj.TrainingConfig(epochs=3, monitor="f1", early_stopping=2, resume=True)
metrics = {"f1": cj.metrics.f1(), "sure_and_right": sure_and_right}
model, optimizer = cj.create_model("mlp", units=(32,)), optax.lion(1e-3)
run = cj.fit(model, data, config, focal, optimizer, "checkpoints/own_parts", metrics=metrics)
