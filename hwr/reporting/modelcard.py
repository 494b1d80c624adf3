"""Write the model card of a run: its data, its metrics, and how to use it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hwr.errors import sanitize
from hwr.files import atomic_write

PERCENTAGES = {
    "test/acc_nocase": "case-insensitive accuracy",
    "test/acc_lookalike": "accuracy with confusable characters merged",
    "test/top3": "top-3 accuracy",
}
CARD = """\
# {model} on {data}

Recognizes single handwritten characters of {classes:,} classes; {parameters:,} parameters.
Trained by hwr {hwr_version} for {epochs} epochs in {fit_seconds:.0f} s, seed {seed}.

- Split {split}: {train_images:,} images for training, {val_images:,} images for validation, \
{test_images:,} images for test.
- {notes}

| test metric | value |
| --- | --- |
{values}

Interval: 95 % bootstrap over the writers, or over the images where the writers are unknown.

| true | predicted | times |
| --- | --- | --- |
{errors}

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
    low, high = interval
    values = {"accuracy": f"{metrics['test/acc']:.1%} ({low:.1%} - {high:.1%})"}
    values |= {words: f"{metrics[k]:.1%}" for k, words in PERCENTAGES.items() if k in metrics}
    values["loss"] = f"{metrics['test/loss']:.3f}"
    pairs = Counter((code(label), code(guess)) for _, label, guess, _ in predictions)
    errors = [(*pair, count) for pair, count in pairs.most_common() if pair[0] != pair[1]]
    notes = [f"Metrics of epoch {metrics['reported_epoch']} of {metrics['epochs']}."]
    if metrics["val_is_test"]:
        notes.append("Validated on the test images, which chose nothing.")
    if "began_with" in metrics:
        notes.append(f"Began with the weights of {metrics['began_with']}.")
    if metrics["data_fingerprint"]:  # a user's own data module has none
        notes.append(f"Fingerprint of the data: `{metrics['data_fingerprint']}`.")
    if metrics["partial"]:
        notes.append("The test was limited, so not comparable with other runs.")
    text = {
        **metrics,
        **{name: code(metrics[name]) for name in ("model", "data", "split")},
        "notes": "\n- ".join(notes),
        "values": _rows(values.items()),
        "errors": _rows(errors[:10]),
    }
    with atomic_write(folder / "README.md") as temporary:
        temporary.write_text(CARD.format(**text), encoding="utf-8")


def code(text: str, length: int = 24) -> str:
    """Quote any text as code in a Markdown table, cut off at a length."""
    text = sanitize(text).replace("|", "¦").replace("`", "'")
    return f"`{text}`" if len(text) <= length else f"`{text[: length - 1]}…`"


def _rows(rows: Iterable[Sequence[object]]) -> str:
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)
