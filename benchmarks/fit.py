"""Fit time of the notebook's networks: ours against a plain PyTorch loop, in turn in one process.

Validation and logging (TensorBoard, checkpoints) count on our side; the loop validates too, and
has the same batches, optimiser and memory format. Medians of the ratios are what counts: the
machine may be shared. Run it on an idle one:  python benchmarks/fit.py [--rounds 3]
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

import hwr
from hwr.config import compose
from hwr.datamodule import CharacterData
from hwr.optim import KerasRMSprop
from hwr.train import build, train

EPOCHS = {"notebook_cnn": 4, "notebook_mlp": 60}


def ours(experiment: str, overrides: list[str]) -> float:
    """Seconds an epoch as metrics.json reports them."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = train(compose([f"experiment={experiment}", *overrides]), Path(folder))
    seconds: float = metrics["fit_seconds"]
    return seconds / EPOCHS[experiment]


def plain(experiment: str, overrides: list[str]) -> float:
    """Seconds an epoch of a loop that does the least one would write by hand."""
    config = compose([f"experiment={experiment}", *overrides])
    data = CharacterData(config.data, config.split, config.seed)
    batches, (image, label) = data.train_dataloader(), next(iter(data.test_dataloader()))
    model = build(config.model, data.alphabet, config.data)
    optimiser: torch.optim.Optimizer
    if isinstance(model, hwr.MLP):
        optimiser = torch.optim.Adam(model.parameters(), lr=5e-4, eps=1e-7, fused=True)
    else:
        optimiser = KerasRMSprop(model.parameters(), lr=5e-4)
    started = time.perf_counter()
    for epoch in range(EPOCHS[experiment]):
        model.train()
        batches.set_epoch(epoch)
        total, right = torch.zeros(()), torch.zeros(())
        for pictures, labels in batches:
            optimiser.zero_grad()
            logits = model(pictures)
            loss = functional.cross_entropy(logits, labels)
            loss.backward()
            optimiser.step()
            total += loss.detach() * len(labels)
            right += (logits.argmax(1) == labels).sum()
        validate(model, image, label)
    return (time.perf_counter() - started) / EPOCHS[experiment]


@torch.no_grad()
def validate(model: torch.nn.Module, image: Tensor, label: Tensor) -> tuple[float, float]:
    """Loss and accuracy."""
    model.eval()
    logits = model(image)
    right = (logits.argmax(1) == label).float().mean()
    return float(functional.cross_entropy(logits, label)), float(right)


def main() -> None:
    """Measure, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    results = {}
    for experiment, epochs in EPOCHS.items():
        overrides = [f"trainer.max_epochs={epochs}"]
        pairs = [
            (ours(experiment, overrides), plain(experiment, overrides))
            for _ in range(arguments.rounds + 1)
        ][1:]  # the first round warms up
        ratios = sorted(one / other for one, other in pairs)
        results[experiment] = {
            "ours_seconds_an_epoch": statistics.median(one for one, _ in pairs),
            "plain_seconds_an_epoch": statistics.median(other for _, other in pairs),
            "ratio": statistics.median(ratios),
            "ratios": ratios,
        }
        print(experiment, json.dumps(results[experiment]))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
