"""The search for a model's hyperparameters: Optuna or Ray Tune, through `Trainer.hyperparameter_search`."""
