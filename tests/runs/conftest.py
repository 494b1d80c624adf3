"""Fake run folders, which no training has to write."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SPLITS = {"stratified": "StratifiedSplit", "kfold": "KFoldSplit"}


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that writes a finished run, and returns its settings."""

    def write(
        name: str,
        acc: float | None,
        seed: int = 0,
        model: str = "cnn",
        epochs: int = 30,
        split: str = "stratified",
        cut: dict[str, Any] | None = None,
        metrics: dict[str, Any] | None = None,
        **settings: Any,
    ) -> dict[str, Any]:
        config = {
            "seed": seed,
            "model": {"_target_": f"hwr.models.{model.upper()}"},
            "data": {"_target_": "hwr.data.FolderDataset", "name": "english", "root": name},
            "split": {"_target_": f"hwr.data.{SPLITS[split]}", "seed": seed, **(cut or {})},
            "trainer": {"max_epochs": epochs},
            **settings,
        }
        content = {
            **{"model": model, "data": "english", "split": split, "partial": False},
            **{"test/acc": acc, "test/acc_nocase": 0.5, "fit_seconds": 2.0},
            **{"parameters": 1_234_567, "train_images": 300, "test_images": 100},
            **(metrics or {}),
            "config": config,
        }
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "metrics.json").write_text(json.dumps(content))
        return config

    return write


@pytest.fixture
def write_unfinished(tmp_path: Path) -> Callable[[str, str], None]:
    """Return a function that writes what Hydra leaves of a run that was cut off."""

    def write(name: str, text: str) -> None:
        (tmp_path / name / ".hydra").mkdir(parents=True)
        (tmp_path / name / ".hydra/config.yaml").write_text(text)

    return write
