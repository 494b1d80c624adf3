"""The metrics equal scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from hwr.charset import Charset
from hwr.reporting.metrics import evaluate


def test_equal_to_scikit_learn() -> None:
    charset = Charset.of("01ABCabcß")
    classes = len(charset)
    random = np.random.default_rng(0)
    label = np.concatenate([np.arange(classes), random.integers(0, classes, 200)])
    logits = random.normal(size=(len(label), classes)) + 2 * np.eye(classes)[label]
    scores = torch.log_softmax(torch.from_numpy(logits), dim=1)
    probability = scores.exp().numpy()
    found = evaluate(scores, torch.from_numpy(label), charset)
    folded = np.array([name.casefold() for name in charset.names])
    guess = probability.argmax(1)
    alike = np.array([{"c": "C"}.get(name, name) for name in charset.names])
    merged = np.array([n.lower() if n in "cC" else n for n in charset.names])
    sure, right = probability.max(1), guess == label
    bins = [(low <= sure) & (sure < low + 1 / 15) for low in np.arange(15) / 15]
    expected = {
        "loss": sklearn_metrics.log_loss(label, probability),
        "acc": np.mean(guess == label),
        "acc_nocase": np.mean(folded[guess] == folded[label]),
        "acc_lookalike": np.mean(alike[guess] == alike[label]),
        "acc_digits": np.mean((guess == label)[label < 2]),
        "acc_upper": np.mean((guess == label)[(label >= 2) & (label < 5)]),
        "acc_lower": np.mean((guess == label)[label >= 5]),
        "top3": sklearn_metrics.top_k_accuracy_score(label, probability, k=3),
        "acc_bymerge": np.mean(merged[guess] == merged[label]),
        "ece": sum(abs(right[b].sum() - sure[b].sum()) for b in bins) / len(label),
        "auroc": sklearn_metrics.roc_auc_score(label, probability, multi_class="ovr"),
        "ap": sklearn_metrics.average_precision_score(np.eye(classes)[label], probability),
    }
    assert found == pytest.approx(expected, abs=1e-6)
    assert found["acc_nocase"] > found["acc"]
    assert found["acc_nocase"] > found["acc_lookalike"] > found["acc"]


def test_metrics_that_mean_nothing_are_left_out() -> None:
    scores = torch.log_softmax(torch.tensor([[2.0, 0.0, 1.0], [0.0, 2.0, 1.0]]), dim=1)
    found = evaluate(scores, torch.tensor([0, 1]), Charset.of("XYZ"))  # nothing is a Z
    assert set(found) == {"loss", "acc", "ece", "auroc", "ap"}
    assert (found["acc"], found["auroc"], found["ap"]) == (1, 1, 1)
