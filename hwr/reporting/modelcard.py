"""Write the model card of a run: its data, its metrics, and how to use it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hwr.files import atomic_write
from hwr.reporting.tables import code, table

PERCENTAGES = {
    "test/acc_nocase": "case-insensitive accuracy",
    "test/acc_lookalike": "accuracy with confusable characters merged",
    "test/top3": "top-3 accuracy",
}
USE = """\
```python
import hwr

recognizer = hwr.load("RUN")  # this folder
print(recognizer.read("image.png"))
```
"""


def write(
    folder: Path,
    metrics: Mapping[str, Any],
    interval: tuple[float, float],
    predictions: Sequence[tuple[str, str, str, float]],
) -> None:
    """Write `README.md` into a run folder.

    Args:
        folder: The run folder.
        metrics: The content of `metrics.json`.
        interval: 95 % interval of the test accuracy, 0 to 1.
        predictions: File, label, prediction and its probability of every test image.
    """
    text = "\n\n".join(
        [
            f"# {code(metrics['model'])} on {code(metrics['data'])}",
            f"Recognizes single handwritten characters of {metrics['classes']:,} classes; "
            f"{metrics['parameters']:,} parameters. Trained by hwr {metrics['hwr_version']} for "
            f"{metrics['epochs']} epochs in {metrics['fit_seconds']:.0f} s, "
            f"seed {metrics['seed']}.",
            "\n".join(f"- {line}" for line in _facts(metrics)),
            *_results(metrics, interval, predictions),
            USE,
        ]
    )
    with atomic_write(folder / "README.md") as temporary:
        temporary.write_text(text, encoding="utf-8")


def _facts(metrics: Mapping[str, Any]) -> list[str]:
    """Describe the data and which epoch was tested."""
    epoch = "the last epoch was tested"
    if metrics["reported_epoch"] != metrics["epochs"]:
        epoch = f"epoch {metrics['reported_epoch']} was chosen by validation and tested"
    if metrics["val_is_test"]:
        epoch += "; validated on the test images, which chose nothing"
    counts = ", ".join(
        f"{metrics[f'{stage}_images']:,} images for {words}"
        for stage, words in {"train": "training", "val": "validation", "test": "test"}.items()
    )
    facts = [
        f"Data {code(metrics['data'])}, split {code(metrics['split'])}: {counts}.",
        f"{epoch[0].upper()}{epoch[1:]}.",
    ]
    if "began_with" in metrics:
        facts.append(f"Began with the weights of {metrics['began_with']}.")
    if metrics["data_fingerprint"]:  # a user's own data module has none
        facts.append(f"Fingerprint of the data: `{metrics['data_fingerprint']}`.")
    if metrics["partial"]:
        facts.append("The test was limited, so not comparable with other runs.")
    return facts


def _results(
    metrics: Mapping[str, Any],
    interval: tuple[float, float],
    predictions: Sequence[tuple[str, str, str, float]],
) -> list[str]:
    """Tabulate the metrics of the test and the most confused pairs of classes."""
    low, high = interval
    values = {"accuracy": f"{100 * metrics['test/acc']:.1f} % ({100 * low:.1f} - {100 * high:.1f})"}
    for name, words in PERCENTAGES.items():
        if name in metrics:
            values[words] = f"{100 * metrics[name]:.1f} %"
    values["loss"] = f"{metrics['test/loss']:.3f}"
    results = [
        table(("test metric", "value"), values.items()),
        "The interval is a 95 % bootstrap over the writers, or over the images where the writers "
        "are unknown.",
    ]
    pairs = Counter((label, guess) for _, label, guess, _ in predictions if label != guess)
    if pairs:
        rows = [(code(true), code(other), count) for (true, other), count in pairs.most_common(10)]
        results.append(table(("true", "predicted", "times"), rows))
    return results
