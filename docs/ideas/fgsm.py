"""Adversarial training: every step sees its images moved against it (Goodfellow et al. 2015)."""

import jax
import jax.numpy as jnp
import optax

import cnnjax as cj

cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def fgsm(functions, params, state, batch, key):
    def loss(inputs):
        logits, new_state = functions.apply_train(params, state, inputs, key)
        return cross_entropy(logits, batch["labels"]).sum(), (logits, new_state)

    attack = jnp.sign(jax.grad(loss, has_aux=True)(batch["inputs"])[0])
    logits, state = loss(jnp.clip(batch["inputs"] + 0.1 * attack, 0, 1))[1]
    return cross_entropy(logits, batch["labels"]), cj.training.Aux(logits, state)


config = cj.TrainingConfig(epochs=3, resume=True)
data = cj.data.load("digits")
run = cj.fit(cj.create_model("mlp"), data, config, objective=fgsm, directory="checkpoints/fgsm")
