"""LightningModules, optimizers, schedulers, and the training and evaluation around them."""
