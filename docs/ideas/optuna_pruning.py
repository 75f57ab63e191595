"""A search that gives up what is behind: Optuna is told every epoch, and may ask for a stop."""

import optuna

import cnnjax as cj

data = cj.data.load("digits").with_validation(0.2)


def loss_of(trial):
    def prune(moment):
        trial.report(moment.record["val_loss"], moment.epoch)
        if trial.should_prune():
            moment.stop()

    rate = trial.suggest_float("learning_rate", 1e-4, 1.0, log=True)
    config = cj.TrainingConfig(epochs=3, optimizer="sgd", learning_rate=rate, resume=True)
    place, model = (
        f"checkpoints/optuna_pruning/{trial.number}",
        cj.create_model("mlp", units=(16,)),
    )
    return cj.fit(model, data, config, callbacks=[prune], directory=place).metrics["val_loss"]


study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
study.optimize(loss_of, n_trials=3)
