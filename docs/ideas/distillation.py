"""Distillation: a small net learns the soft answers of a large one (Hinton et al. 2015)."""

import jax
import optax

import cnnjax as cj

data = cj.data.load("digits").with_validation(0.2)
teacher = cj.fit(cj.create_model("mlp", units=(128,)), data, verbose=False).model
teach = teacher.functions().apply


def distil(functions, params, state, batch, key, heat=4.0):
    soft = jax.nn.softmax(teach(teacher.params, teacher.state, batch["inputs"]) / heat)
    logits, state = functions.apply_train(params, state, batch["inputs"], key)
    hard = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
    losses = 0.1 * hard + 0.9 * heat**2 * optax.softmax_cross_entropy(logits / heat, soft)
    return losses, cj.training.Aux(logits, state, {"hard_loss": hard})


config = cj.TrainingConfig(epochs=20, resume=True)
student = cj.create_model("mlp", units=(8,))
run = cj.fit(student, data, config, objective=distil, directory="checkpoints/distillation")
