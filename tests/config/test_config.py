"""Every shipped setting composes; every mistake is one sentence that names the key."""

from itertools import product

import pytest
from omegaconf import OmegaConf

from hwr.config.compose import compose, plain
from hwr.errors import ConfigError

SPLITS = ("stratified", "kfold", "writer", "lockbox")
MODELS = ("mlp", "cnn", "glyphnet")


@pytest.mark.parametrize("data", ["english", "synthetic", "folder", "emnist", "unipen"])
def test_every_combination_composes(data: str) -> None:
    for split, model in product(SPLITS, MODELS):
        config = compose([f"data={data}", f"split={split}", f"model={model}", "output_dir=run"])
        assert config.data.name == data
        assert config.model._target_.lower() == f"hwr.models.{model}"
        assert plain(config)["split"]["seed"] == 0
    forest = compose([f"data={data}", "split=writer"], "forest")
    assert (forest.data.name, forest.n_estimators) == (data, 200)


@pytest.mark.parametrize(
    "choice",
    [
        *(f"experiment={name}" for name in ("best", "fast", "pretrained")),
        *(f"optimizer={name}" for name in ("keras_adam", "keras_rmsprop", "adamw", "sgd")),
        *(f"scheduler={name}" for name in ("cosine", "none", "one_cycle", "plateau")),
        *(f"logger={name}" for name in ("csv", "mlflow", "none", "tensorboard", "wandb")),
        *(f"callbacks={name}" for name in ("default", "early_stopping", "light", "none")),
        *("trainer=ddp", "augment=handwriting", "data.channels=3", "compile=true"),
    ],
)
def test_every_choice_composes(choice: str) -> None:
    assert plain(compose([choice, "output_dir=run"]))


@pytest.mark.parametrize(
    ("experiment", "model", "optimizer", "epochs"),
    [("notebook_mlp", "MLP", "KerasAdam", 200), ("notebook_cnn", "CNN", "KerasRMSprop", 30)],
)
def test_experiments_are_the_notebook(
    experiment: str, model: str, optimizer: str, epochs: int
) -> None:
    config = compose([f"experiment={experiment}", "seed=3"])
    assert config.model._target_ == f"hwr.models.{model}"
    assert config.optimizer._target_ == f"hwr.training.optimizers.{optimizer}"
    assert (config.optimizer.lr, config.scheduler) == (5e-4, {})
    assert config.split._target_ == "hwr.data.StratifiedSplit"
    assert (config.split.test_size, config.split.val_is_test, config.split.seed) == (0.25, True, 3)
    assert (config.trainer.max_epochs, config.data.batch_size) == (epochs, 32)
    assert config.monitor is None


def test_a_model_brings_its_optimizer_unless_another_is_chosen() -> None:
    config = compose(["model=glyphnet"])
    assert config.optimizer._target_ == "torch.optim.AdamW"
    assert config.scheduler._target_ == "hwr.training.schedulers.one_cycle"
    config = compose(["model=glyphnet", "optimizer=sgd", "scheduler=cosine", "optimizer.lr=1"])
    assert (config.optimizer._target_, config.optimizer.lr) == ("torch.optim.SGD", 1)
    assert config.scheduler.T_max == config.trainer.max_epochs


def test_lists_of_callbacks_and_loggers_combine() -> None:
    config = compose(["callbacks=[default,early_stopping]", "logger=[tensorboard,csv]"])
    assert {"last", "best", "stop_on_nan", "plots", "early_stopping"} <= config.callbacks.keys()
    assert config.logger.keys() == {"tensorboard", "csv"}
    names = list(config.callbacks)
    assert names.index("best") < names.index("last")  # last.ckpt holds the state of best
    assert config.callbacks.best.monitor is None
    assert "plots" not in compose(["callbacks=light"]).callbacks
    assert compose(["monitor=val/loss"]).callbacks.best.mode == "min"
    assert compose(["callbacks=none", "logger=none"]).callbacks == {}
    stopping = compose(["callbacks=early_stopping"]).callbacks  # Hydra takes no file twice
    assert stopping == {**compose().callbacks, "early_stopping": stopping.early_stopping}


def test_own_nodes_and_settings_of_lightning_compose() -> None:
    config = compose(["+callbacks.mine._target_=my_pkg.Mine", "+callbacks.mine.often=3"])
    assert OmegaConf.to_container(config.callbacks.mine) == {"_target_": "my_pkg.Mine", "often": 3}
    assert compose(["+trainer.gradient_clip_val=1"]).trainer.gradient_clip_val == 1


def test_own_nodes_may_have_settings_with_our_names() -> None:
    """Ranges and contradictions are those of our own datasets, splits and networks."""
    own = "{_target_: my_pkg.Mine, channels: 3, persistent_workers: true, fold: 9, height: 4}"
    for group in ("data", "split", "model"):
        config = compose([f"~{group}", f"+{group}={own}", f"+{group}.backbone=lcnet"])
        assert config[group].fold == 9


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        # unknown
        ("seeed=1", "no such setting: seeed; did you mean seed?"),
        ("expriment=notebook_cnn", "did you mean experiment?"),
        ("trainer.max_epoch=3", "did you mean trainer.max_epochs?"),
        ("+unknown=1", "no such setting: unknown"),
        ("+model.depth=3 model._target_=my_pkg.Net", "no such setting: model.depth"),
        ("++split.a.b=1", "no such setting: split.a"),
        ("model=cnnn", "no model=cnnn, there are cnn, glyphnet, mlp; did you mean cnn?"),
        ("callbacks=[default,nope]", "no callbacks=nope, there are default, early_stopping, light"),
        ("logger=csvv", "did you mean csv?"),
        # of the wrong type, or missing
        ("model=null", "model=null: Config group override must be a string"),
        ("model=[1]", "model=[1]: "),
        ("trainer.max_epochs=abc", "trainer.max_epochs=abc: Value 'abc'"),
        ("seed=null", "seed=null: "),
        ("compile=perhaps", "compile=perhaps: Value 'perhaps'"),
        ("ckpt_path=", "ckpt_path= is empty; it must name something, or be left out"),
        ("data=folder data.cache=", "data.cache= is empty"),
        ("~compile", "compile= is needed"),
        ("~model.width_mult", "~model.width_mult: CNNConfig"),
        ("optimizer.lr=[1", "optimizer.lr=[1: "),
        ("nonsense", "nonsense"),
        ("seed=1,2", "seed=1,2"),
        ("data.root=${nope}", "data.root"),
        # out of range
        ("seed=-1", "seed=-1 must lie between 0 and 4294967295"),
        ("data.batch_size=0", "data.batch_size=0 must be at least 1"),
        ("data.batch_size=4294967296", "data.batch_size=4294967296 must lie between 1 and 42949"),
        ("label_smoothing=1", "label_smoothing=1.0 must be at least 0 and below 1"),
        ("split.test_size=1", "split.test_size=1.0 must be above 0 and below 1; hwr-ev"),
        ("augment.scale=nan", "augment.scale=nan must be"),
        ("model=glyphnet model.tta=5", "model.tta=5 must lie between 0 and 4"),
        ("data.preprocessing=crop", "data.preprocessing=crop must be one of notebook, ink"),
        ("split.writers=all", "split.writers=all must be numbers and ranges, such as 1-44"),
        ("optimizer.lr=0", "optimizer.lr=0 must be a number above 0"),
        ("optimizer.lr=inf", "optimizer.lr=inf must be a number above 0"),
        ("optimizer.lr=high", "optimizer.lr=high must be a number above 0"),
        # contradictory
        ("data.channels=3 data.preprocessing=ink", "data.channels=3 needs"),
        ("data.persistent_workers=true", "needs data.num_workers of at least 1"),
        ("data.height=11", "data.height=11 data.width=40 is too small for model=cnn"),
        ("split=kfold split.fold=5", "split.fold=5 must lie between 0 and 4"),
        ("split.val_is_test=true", "split.val_is_test=true leaves nothing to cut"),
        (
            "model=glyphnet model.backbone=lcnet model.width_mult=2",
            "is for model.backbone=residual",
        ),
        ("monitor=acc", "monitor=acc must be null or a validation metric"),
        ("monitor=test/acc", "monitor=test/acc must be a validation metric"),
        ("split.val_size=0 monitor=val/acc", "needs validation images"),
        ("split.val_size=0 scheduler=plateau", "scheduler.monitor=val/loss needs validation"),
    ],
)
def test_mistakes(overrides: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose(overrides.split())
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ("monitor=val/acc", "monitor=val/acc"),
        ("optimized_metric=val/acc", "optimized_metric=val/acc"),
        ("callbacks=early_stopping", "callbacks.early_stopping.monitor=val/loss"),
        (
            "callbacks=early_stopping callbacks.early_stopping.monitor=train/loss",
            "callbacks.early_stopping.monitor=train/loss",
        ),
        ("+callbacks.mine.monitor=val/f1", "callbacks.mine.monitor=val/f1"),
        ("scheduler=plateau", "scheduler.monitor=val/loss"),
        ("scheduler=plateau scheduler.monitor=test/loss", "scheduler.monitor=test/loss"),
    ],
)
def test_nothing_is_chosen_on_test_images(overrides: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} (is rejected, since the val|must be a val)"):
        compose(["experiment=notebook_cnn", *overrides.split()])


@pytest.mark.parametrize("override", ["n_estimators=0", "n_jobs=0", "n_jobs=-2"])
def test_mistakes_with_the_forest(override: str) -> None:
    with pytest.raises(ConfigError, match=f"{override} must"):
        compose([override], "forest")
