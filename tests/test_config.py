"""Every shipped setting composes; every mistake is one sentence that names the key."""

from itertools import product

import pytest

from hwr.config import compose
from hwr.errors import ConfigError
from hwr.schema import CNNConfig, MLPConfig, StratifiedConfig


@pytest.mark.parametrize(
    "choice",
    list(
        product(
            ["english", "synthetic", "folder", "emnist"],
            ["stratified", "kfold", "writer", "lockbox"],
            ["mlp", "cnn", "glyphnet"],
        )
    ),
)
def test_every_combination_composes(choice: tuple[str, str, str]) -> None:
    data, split, model = choice
    config = compose([f"data={data}", f"split={split}", f"model={model}"])
    assert (config.data.name, config.split.name, config.model.name) == choice
    config = compose([f"data={data}", f"split={split}"], "forest")
    assert (config.data.name, config.split.name, config.n_estimators) == (data, split, 200)


@pytest.mark.parametrize(
    ("experiment", "kind", "epochs"),
    [("notebook_mlp", MLPConfig, 200), ("notebook_cnn", CNNConfig, 30)],
)
def test_experiments_are_the_notebook(experiment: str, kind: type, epochs: int) -> None:
    config = compose([f"experiment={experiment}", "seed=3"])
    assert isinstance(config.model, kind)
    assert isinstance(config.split, StratifiedConfig)
    assert config.trainer.max_epochs == epochs
    assert config.data.batch_size == 32
    assert config.model.lr == 5e-4
    assert (config.split.test_size, config.split.val_is_test, config.split.seed) == (0.25, True, 3)
    assert config.monitor is None


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("seeed=1", "no such setting: seeed; did you mean seed?"),
        ("modle=cnn", "no such setting: modle; did you mean model?"),
        ("expriment=notebook_cnn", "did you mean experiment?"),
        ("trainer.max_epoch=3", "did you mean trainer.max_epochs?"),
        ("model=cnnn", "no model=cnnn, there are cnn, glyphnet, mlp; did you mean cnn?"),
        ("experiment=nope", "no experiment=nope, there are best, fast, notebook_cnn, notebook_mlp"),
        ("trainer.max_epochs=abc", "trainer.max_epochs=abc: Value 'abc'"),
        ("seed=1.5", "seed=1.5: Value '1.5'"),
        ("seed=null", "seed=null: "),
        ("ckpt=", "ckpt= is empty; it must name a checkpoint, or be left out"),
        ("data.root=", "data.root= is empty; it must name a folder, or be left out"),
        ("data=folder data.cache=", "data.cache= is empty"),
        ("+unknown=1", "no such setting: unknown"),
        ("+model.x=1", "no such setting: model.x"),
        ("++split.a.b=1", "no such setting: split.a"),
        ("model.hidden=3", "no such setting: model.hidden"),
        ("~model.lr", "~model.lr: "),
        ("model.lr=[1", "model.lr=[1: "),
        ("nonsense", "nonsense"),
        ("seed=1,2", "seed=1,2"),
        ("data.root=${nope}", "data.root"),
        ("seed=-1", "seed=-1 must lie between"),
        ("seed=4294967296", "seed=4294967296 must lie between"),
        ("model.lr=0", "model.lr=0.0 must be above 0"),
        ("model.lr=nan", "model.lr=nan must be above 0"),
        ("model.lr=inf", "model.lr=inf must be above 0"),
        ("model=mlp model.hidden=0", "model.hidden=0 must lie"),
        ("model.width=0", "model.width=0.0 must lie"),
        ("trainer.num_nodes=0", "trainer.num_nodes=0 must be"),
        ("trainer.strategy=fsdp", "trainer.strategy=fsdp must be auto or ddp"),
        ("model.conv_dropout=1", "model.conv_dropout=1.0 must lie"),
        ("model.dense_dropout=-0.1", "model.dense_dropout=-0.1 must lie"),
        ("data.batch_size=0", "data.batch_size=0 must be"),
        ("data.preprocessing=crop", "data.preprocessing=crop must be one of notebook, ink"),
        ("data=synthetic data.writers=0", "data.writers=0 must lie"),
        ("data.label_column=image", "data.image_column=image and data.label_column must be two"),
        ("data=synthetic data.seed=-1", "data.seed=-1 must be"),
        ("split.test_size=1", "split.test_size=1.0 must lie"),
        ("split.val_size=1", "split.val_size=1.0 must lie"),
        ("split=kfold split.fold=5", "split.fold=5 must lie between 0 and 4"),
        ("split=writer split.folds=1", "split.folds=1 must be"),
        ("trainer.max_epochs=0", "trainer.max_epochs=0 must be"),
        ("trainer.devices=0", "trainer.devices=0 must be"),
        ("report=ful", "no report=ful, there are full, light, none; did you mean full?"),
        ("report.projektor=false", "did you mean report.projector?"),
        ("report.images=many", "report.images=many: Value 'many'"),
        ("+report.x=1", "no such setting: report.x"),
        ("monitor=acc", "monitor=acc must be null or one of val/loss"),
        ("monitor=test/acc", "monitor=test/acc must be"),
        ("experiment=notebook_cnn monitor=val/acc", "would choose an epoch by the test split"),
        ("split.val_size=0 monitor=val/acc", "needs validation pictures"),
        ("split.val_is_test=true", "split.val_is_test=true leaves nothing to cut"),
    ],
)
def test_mistakes(overrides: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose(overrides.split())
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("override", ["n_estimators=0", "n_jobs=0", "n_jobs=-2"])
def test_mistakes_with_the_forest(override: str) -> None:
    with pytest.raises(ConfigError, match=f"{override} must"):
        compose([override], "forest")


def test_settings_for_lightning_may_be_added() -> None:
    assert compose(["+trainer.gradient_clip_val=1"]).trainer.gradient_clip_val == 1


@pytest.mark.parametrize("program", ["train", "forest"])
def test_parts_of_the_report(program: str) -> None:
    parts = {name: vars(compose([f"report={name}"], program).report) for name in ("none", "full")}
    assert not any(value for name, value in parts["none"].items() if name != "name")
    assert [name for name, value in parts["full"].items() if not value] == ["histograms"]
    light = compose(["report=light", "report.files=true"], program).report
    assert (light.hparams, light.images, light.files) == (True, False, True)
