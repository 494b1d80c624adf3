"""hwr-train from Python: run folders, repeatability, resuming, refusals."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import EarlyStopping
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import hwr
from hwr import synthetic
from hwr.batches import Batches, Bundles
from hwr.config import compose
from hwr.errors import ConfigError, RunError
from hwr.models.base import CharacterClassifier, Seen
from hwr.recorder import ProgressBar
from hwr.run import started
from hwr.train import bundle_size, train

TINY = ["data=synthetic", "data.writers=4", "data.batch_size=62"]


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    return train(compose([*TINY, *overrides]), folder)


def weights(folder: Path, name: str = "last") -> dict[str, Any]:
    file = folder / f"checkpoints/{name}.ckpt"
    state: dict[str, Any] = torch.load(file, weights_only=True)["state_dict"]
    return state


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(point.step, point.value) for point in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set on disk with ten classes."""
    folder = tmp_path_factory.mktemp("digits")
    rows = ["image,label"]
    for writer in range(1, 5):
        for index, picture in enumerate(synthetic.pictures(writer, 0)[:10]):
            name = f"img{index + 1:03d}-{writer:03d}.png"
            picture.save(folder / name)
            rows.append(f"{name},{index}")
    (folder / "english.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="module")
def four_epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cnn") / "run"
    run(folder, "experiment=notebook_cnn", "trainer.max_epochs=4")
    return folder


def test_run_folder(four_epochs: Path) -> None:
    names = {path.name for path in four_epochs.iterdir() if "tfevents" not in path.name}
    assert names == {
        *("config.yaml", "checkpoints", "metrics.json", "predictions.csv", "README.md"),
        *("confusion.png", "mistakes.png", "reliability.png", "curves.png"),
        *("projector", "projector_config.pbtxt"),
    }
    metrics = json.loads((four_epochs / "metrics.json").read_text())
    keys = "test/acc test/loss test/acc_nocase test/top3 test/auroc test/ap train/acc fit_seconds"
    keys += " parameters epochs seed data split model git_commit val_is_test"
    assert set(keys.split()) <= metrics.keys()
    assert metrics["val_is_test"] is True
    assert metrics["parameters"] == 624_766
    assert metrics["epochs"] == metrics["reported_epoch"] == 4
    with (four_epochs / "predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == metrics["test_pictures"] == 62
    assert list(rows[0]) == ["file", "label", "prediction", "probability"]
    right = np.mean([row["label"] == row["prediction"] for row in rows])
    assert right == pytest.approx(metrics["test/acc"])


def test_tensorboard_tags(four_epochs: Path) -> None:
    found = curves(four_epochs)
    for part in ("train", "val"):
        for name in ("loss", "acc", "acc_nocase", "top3"):
            assert [step for step, _ in found[f"{part}/{name}"]] == [1, 2, 3, 4]
    assert {"test/acc", "test/loss", "test/acc_nocase", "test/top3"} <= found.keys()
    metrics = json.loads((four_epochs / "metrics.json").read_text())
    assert found["val/acc"][-1][1] == pytest.approx(metrics["test/acc"])
    events = EventAccumulator(str(four_epochs))
    events.Reload()
    assert set(events.Tags()["images"]) == {
        *("train/batch", "test/confusion", "test/mistakes", "test/reliability"),
        *("test/best_and_worst", "weights/first_layer", "test/curves"),
    }


def test_checkpoint_loads_with_default_settings(four_epochs: Path) -> None:
    model = hwr.CNN.load_from_checkpoint(four_epochs / "checkpoints/last.ckpt").eval()
    chars = hwr.CharacterData(compose(TINY).data, compose(["experiment=notebook_cnn"]).split)
    image, label = next(iter(chars.test_dataloader()))
    with torch.no_grad():
        predicted = model(image).argmax(1)
    with (four_epochs / "predictions.csv").open(encoding="utf-8") as file:
        written = [row["prediction"] for row in csv.DictReader(file)]
    assert [model.alphabet.names[index] for index in predicted] == written
    assert len(label) == len(written)


def test_seed_repeats_to_the_bit(four_epochs: Path, tmp_path: Path) -> None:
    run(tmp_path / "again", "experiment=notebook_cnn", "trainer.max_epochs=4")
    assert same(weights(four_epochs), weights(tmp_path / "again"))
    run(tmp_path / "other", "experiment=notebook_cnn", "trainer.max_epochs=4", "seed=1")
    assert not same(weights(four_epochs), weights(tmp_path / "other"))


@pytest.mark.parametrize("where", ["same folder", "new folder"])
def test_resume_is_as_if_never_stopped(four_epochs: Path, tmp_path: Path, where: str) -> None:
    first = tmp_path / "first"
    run(first, "experiment=notebook_cnn", "trainer.max_epochs=2")
    second = first if where == "same folder" else tmp_path / "second"
    torch.rand(17)  # the state of the generators must not matter
    ckpt = f"ckpt={first}/checkpoints/last.ckpt"
    metrics = run(second, "experiment=notebook_cnn", "trainer.max_epochs=4", ckpt)
    assert metrics["epochs"] == 4
    assert same(weights(four_epochs), weights(second))
    whole, pieced = curves(four_epochs), curves(second)
    assert whole.keys() == pieced.keys()
    for tag in whole.keys() - {"epoch_seconds", "pictures_per_second", "hp/fit_seconds"}:
        assert whole[tag] == pieced[tag]
    assert [step for step, _ in pieced["epoch_seconds"]] == [1, 2, 3, 4]
    one, other = (
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["optimizer_states"]
        for folder in (four_epochs, second)
    )
    for key, state in one[0]["state"].items():
        assert torch.equal(state["square"], other[0]["state"][key]["square"])


def test_a_checkpoint_from_before_there_was_augmentation_goes_on(
    four_epochs: Path, tmp_path: Path
) -> None:
    file = four_epochs / "checkpoints/last.ckpt"
    saved = torch.load(file, weights_only=True)
    (state,) = (one for one in saved["callbacks"].values() if "identity" in one)
    assert state["identity"].pop("augment") is None
    assert state["identity"].pop("split.writers") is None
    state["history"] = [json.loads(row) for row in state["history"]]
    torch.save(saved, tmp_path / "old.ckpt")
    settings = ["experiment=notebook_cnn", "trainer.max_epochs=5", "report=none"]
    metrics = run(tmp_path / "run", *settings, f"ckpt={tmp_path}/old.ckpt")
    assert metrics["epochs"] == 5


ALONE = "+trainer.log_every_n_steps=50"
"""A setting of Lightning's own, which are heeded at every batch."""


@pytest.mark.parametrize("words", [(ALONE, ALONE), (ALONE, ""), ("", ALONE), ("", "")])
def test_bundled_batches_train_as_single_ones(
    four_epochs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, str]
) -> None:
    monkeypatch.setattr("hwr.train.BUNDLE", 2 * 62 * 30 * 40)  # two batches, of the three
    ckpt = ""
    for epochs, word in zip((2, 4), words, strict=True):
        settings = ["experiment=notebook_cnn", f"trainer.max_epochs={epochs}", word, ckpt]
        run(tmp_path, *filter(None, settings))
        ckpt = f"ckpt={tmp_path}/checkpoints/last.ckpt"
    assert same(weights(four_epochs), weights(tmp_path))
    one, other = curves(four_epochs), curves(tmp_path)
    assert one.keys() == other.keys()
    for tag in one.keys() - {"epoch_seconds", "pictures_per_second", "hp/fit_seconds"}:
        assert one[tag] == other[tag]


def test_max_steps_counts_those_before_the_resume(tmp_path: Path) -> None:
    """However they were taken: seven in all, of three an epoch."""
    settings = ["model=mlp", "split.val_size=0", "report=none"]
    ended = []
    for name, words in (("single", [ALONE]), ("bundled", [])):
        folder = tmp_path / name
        run(folder, *settings, "trainer.max_epochs=1", *words)
        more = ["trainer.max_epochs=9", "+trainer.max_steps=7"]
        run(folder, *settings, *more, f"ckpt={folder}/checkpoints/last.ckpt")
        found = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
        assert found["global_step"] == 7
        ended.append(weights(folder))
    assert same(*ended)


@pytest.mark.parametrize(
    ("words", "batches"),
    [
        (["model=mlp"], 14),
        (["model=cnn", "data.batch_size=1000"], 1),
        (["model=mlp", "trainer.precision=bf16-mixed"], 1),
        (["model=mlp", "trainer.devices=2"], 1),
        (["model=mlp", "trainer.strategy=ddp"], 1),
        (["model=mlp", "+trainer.gradient_clip_val=1"], 1),
        (["model=mlp", "augment=hand"], 1),
        (["experiment=best", "trainer.precision=32-true", "augment=none"], 1),
    ],
)
def test_what_is_bundled(words: list[str], batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose([*TINY, *words])
    assert bundle_size(config) == batches
    monkeypatch.setenv("PL_TRAINER_LIMIT_TRAIN_BATCHES", "2")  # which Lightning heeds as well
    assert bundle_size(config) == 1


def test_networks_train_from_other_loaders(tmp_path: Path) -> None:
    """In a Trainer of one's own, whose callbacks find the figures."""
    image, label = torch.rand(40, 1, 30, 40), torch.arange(40) % 4
    loader = DataLoader(TensorDataset(image, label), batch_size=10)  # batches are lists
    stop = EarlyStopping("val/loss", patience=1, min_delta=1e9)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_epochs=9, callbacks=[stop], default_root_dir=tmp_path, **quiet)  # type: ignore[arg-type]
    trainer.fit(hwr.MLP(list("abcd")), loader, loader)
    assert trainer.current_epoch == 2
    assert {"train/loss", "val/acc"} <= trainer.callback_metrics.keys()


def test_a_bundle_is_cut_from_the_same_order() -> None:
    image, label = torch.arange(11, dtype=torch.uint8).view(11, 1, 1, 1), torch.arange(11)
    for seed in (None, 3):
        single = Batches(image, label, 2, seed)
        bundles = Bundles(Batches(image, label, 2, seed), 4)
        for epoch in range(2):
            single.set_epoch(epoch)
            bundles.sampler.set_epoch(epoch)
            found = list(bundles)
            assert [len(bundle) for bundle in found] == [4, 2]
            assert len(bundles) == 2
            flat = [batch for bundle in found for batch in bundle]
            for mine, theirs in zip(flat, single, strict=True):
                assert all(torch.equal(*parts) for parts in zip(mine, theirs, strict=True))
            if seed is not None:
                assert bundles.batches.rows(3).tolist() == flat[3][1].tolist()


def test_resume_leaves_no_figure_of_the_earlier_end(tmp_path: Path) -> None:
    settings = ["model=mlp", "split.val_size=0"]
    run(tmp_path, *settings, "trainer.max_epochs=1")
    assert (tmp_path / "confusion.png").exists()
    ckpt = f"ckpt={tmp_path}/checkpoints/last.ckpt"
    run(tmp_path, *settings, "trainer.max_epochs=2", "report=none", ckpt)
    assert not list(tmp_path.glob("*.png"))
    assert len(list(tmp_path.glob("events*"))) == 1
    assert "lr" in curves(tmp_path)  # of the first epoch, which the checkpoint remembers


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["experiment=notebook_mlp"], "model=cnn"),
        (["experiment=notebook_cnn", "seed=1"], "seed=0"),
        (["experiment=notebook_cnn", "model.lr=0.1"], "model.lr=0.0005"),
        (["experiment=notebook_cnn", "split.test_size=0.5"], "split.test_size=0.25"),
        (["experiment=notebook_cnn", "data.writers=5"], "data.fingerprint"),
        (["experiment=notebook_cnn", "trainer.max_epochs=3"], "4 epochs"),
    ],
)
def test_checkpoint_of_another_run_is_refused(
    four_epochs: Path, tmp_path: Path, overrides: list[str], words: str
) -> None:
    ckpt = f"ckpt={four_epochs}/checkpoints/last.ckpt"
    with pytest.raises(RunError, match=words):
        run(tmp_path / "new", "trainer.max_epochs=5", *overrides, ckpt)
    assert not (tmp_path / "new").exists()


def test_checkpoint_of_another_alphabet_is_refused(
    four_epochs: Path, tmp_path: Path, digits: Path
) -> None:
    ckpt = f"ckpt={four_epochs}/checkpoints/last.ckpt"
    config = compose(["experiment=notebook_cnn", f"data.root={digits}", ckpt])
    with pytest.raises(RunError, match="another alphabet: 62 classes, not the 10"):
        train(config, tmp_path / "new")


def test_pickle_is_never_loaded(tmp_path: Path) -> None:
    import pickle

    class Planted:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (Path.touch, (tmp_path / "mark",))  # type: ignore[return-value]

    (tmp_path / "x.ckpt").write_bytes(pickle.dumps(Planted()))
    (tmp_path / "y.ckpt").write_text("no checkpoint")
    for name in ("x.ckpt", "y.ckpt", "absent.ckpt"):
        with pytest.raises(RunError, match=name):
            run(tmp_path / "new", "split.val_size=0", f"ckpt={tmp_path / name}")
    assert not (tmp_path / "mark").exists()


def test_a_run_is_not_written_over(four_epochs: Path) -> None:
    before = weights(four_epochs)
    with pytest.raises(RunError, match="holds a run already"):
        run(four_epochs, "experiment=notebook_cnn", "trainer.max_epochs=1", "seed=3")
    assert same(before, weights(four_epochs))


def test_two_runs_at_once_in_one_folder(tmp_path: Path) -> None:
    settings = ["model=mlp", "split.val_size=0", "trainer.max_epochs=1"]
    with started(tmp_path, compose([*TINY, *settings])):
        before = (tmp_path / "config.yaml").read_bytes()
        with pytest.raises(RunError, match=f"another process writes into {tmp_path}; choose"):
            run(tmp_path, *settings, "seed=7")
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]
    assert (tmp_path / "config.yaml").read_bytes() == before
    run(tmp_path, *settings)


MONITORED = ["monitor=val/loss", "model=mlp", "split.val_size=0.34"]


def test_resume_needs_the_best_epoch_as_well(tmp_path: Path) -> None:
    run(tmp_path, *MONITORED, "trainer.max_epochs=1")
    best = tmp_path / "checkpoints/best.ckpt"
    again = [*MONITORED, "trainer.max_epochs=2", f"ckpt={tmp_path}/checkpoints/last.ckpt"]
    good, metrics = best.read_bytes(), (tmp_path / "metrics.json").read_bytes()
    for bad in (b"nothing", None):
        best.unlink() if bad is None else best.write_bytes(bad)
        with pytest.raises(RunError, match=str(best)):
            run(tmp_path, *again)
        assert (tmp_path / "metrics.json").read_bytes() == metrics
    best.write_bytes(good)
    run(tmp_path, *again)


def test_best_epoch_of_another_precision(tmp_path: Path) -> None:
    run(tmp_path, *MONITORED, "trainer.max_epochs=1", "trainer.precision=bf16-true")


def test_monitor_reports_the_best_epoch(tmp_path: Path) -> None:
    metrics = run(tmp_path, *MONITORED, "trainer.max_epochs=4")
    losses = [value for _, value in curves(tmp_path)["val/loss"]]
    assert metrics["reported_epoch"] == int(np.argmin(losses)) + 1
    assert metrics["val/loss"] == pytest.approx(min(losses), abs=1e-5)
    assert weights(tmp_path, "best")


def test_no_validation_and_writers(tmp_path: Path) -> None:
    settings = ["split=writer", "split.folds=4", "split.val_size=0", "trainer.max_epochs=1"]
    metrics = run(tmp_path, "model=mlp", *settings)
    assert metrics["val_pictures"] == 0
    assert not [tag for tag in curves(tmp_path) if tag.startswith("val/")]


def test_settings_that_lightning_refuses(tmp_path: Path) -> None:
    small = ["split.val_size=0", "trainer.max_epochs=1", "model=mlp"]
    with pytest.raises(
        ConfigError, match=r"no setting max_epoch; did you mean trainer\.max_epochs"
    ):
        run(tmp_path / "a", *small, "+trainer.max_epoch=1")
    with pytest.raises(ConfigError, match=r"trainer\.logger is set by hwr-train"):
        run(tmp_path / "b", *small, "+trainer.logger=true")
    with pytest.raises(ConfigError, match="Lightning"):
        run(tmp_path / "c", *small, "trainer.accelerator=abacus")
    run(tmp_path / "d", *small, "+trainer.gradient_clip_val=1")
    assert not any((tmp_path / name).exists() for name in "abc")


@pytest.mark.parametrize("kind", [hwr.MLP, hwr.CNN])
def test_networks_learn(kind: type[CharacterClassifier]) -> None:
    torch.manual_seed(0)
    off = {} if kind is hwr.MLP else {"conv_dropout": 0.0, "dense_dropout": 0.0}
    model = kind([chr(65 + i) for i in range(8)], lr=5e-3 if kind is hwr.MLP else 1e-3, **off)  # type: ignore[call-arg, arg-type]
    image, label = torch.rand(16, 1, 30, 40), torch.arange(16) % 8
    optimiser: Any = model.configure_optimizers()
    for step in range(300):
        optimiser.zero_grad()
        loss = functional.cross_entropy(model(image), label)
        loss.backward()
        if step == 0:
            assert all(weight.grad is not None for weight in model.parameters())
            assert all(weight.grad.abs().sum() > 0 for weight in model.parameters())  # type: ignore[union-attr]
        optimiser.step()
    assert float(loss.detach()) < 0.05


def test_progress_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hwr.train.progress_bars", lambda: [ProgressBar()])
    run(tmp_path, "model=mlp", "split.val_size=0.34", "trainer.max_epochs=2")
    said = capsys.readouterr().err
    assert "epoch 2/2: 100%" in said
    assert "val/acc=" in said


def test_an_epoch_is_kept_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwr.models.base.BLOCK", 40)  # ten rows of four classes
    seen = Seen()
    for sizes in ([3, 3, 3, 3, 3], [25, 1], [10, 10]):
        batches = [(torch.rand(size, 4), torch.arange(size)) for size in sizes]
        for logits, label in batches:
            seen.add(logits, label)
        for whole, parts in zip(seen.take(), zip(*batches, strict=True), strict=True):
            assert torch.equal(whole, torch.cat(parts))
