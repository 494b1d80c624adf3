"""Fit the notebook's networks as its readers do, with Keras and TensorFlow.

For the environment that `make bench` creates; hwr is not in it. Prints one line of JSON.

    python notebook_keras.py MODEL ROOT EPOCHS ARRAYS

ROOT is the folder of the dataset; so many ARRAYS are predicted after the fit.
"""

import json
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from keras import layers
from PIL import Image
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelEncoder


def network(model: str, classes: int) -> keras.Model:
    """Build and compile the MLP or the CNN."""
    same = {"padding": "same", "activation": "relu"}
    dense = layers.Dense(classes, activation="softmax")
    if model == "mlp":
        hidden = layers.Dense(100, activation="sigmoid")
        built = keras.Sequential([keras.Input((30, 40, 1)), layers.Flatten(), hidden, dense])
        optimizer = keras.optimizers.Adam(5e-4)
    else:
        built = keras.Sequential(
            [
                keras.Input((30, 40, 1)),
                layers.Conv2D(32, (3, 4), **same),
                layers.Conv2D(32, (3, 4), **same),
                layers.MaxPooling2D((3, 4)),
                layers.Dropout(0.25),
                layers.Conv2D(64, (3, 3), **same),
                layers.Conv2D(64, (3, 3), activation="relu"),
                layers.MaxPooling2D((2, 2)),
                layers.Dropout(0.25),
                layers.Flatten(),
                layers.Dense(512, activation="relu"),
                layers.Dropout(0.5),
                dense,
            ]
        )
        optimizer = keras.optimizers.RMSprop(5e-4)
    built.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    return built


def main() -> None:
    """Prepare the images, fit, test and predict."""
    model, root = sys.argv[1], Path(sys.argv[2])
    epochs, count = int(sys.argv[3]), int(sys.argv[4])
    table = pd.read_csv(root / "english.csv")
    arrays = []
    for name in table["image"]:
        arrays.append(np.asarray(Image.open(root / name).convert("L").resize((40, 30))))
    image = np.array(arrays, "float32")[..., None] / 255
    label = LabelEncoder().fit_transform(table["label"].astype(str))
    one_hot = keras.utils.to_categorical(label)
    train, test, train_label, test_label = train_test_split(
        image, one_hot, stratify=label, test_size=0.25, random_state=0
    )
    built = network(model, one_hot.shape[1])
    started = time.perf_counter()
    built.fit(
        train,
        train_label,
        batch_size=32,
        epochs=epochs,
        validation_data=(test, test_label),
    )
    seconds = {"fit": time.perf_counter() - started}
    accuracy = built.evaluate(test, test_label)[1]
    done = time.perf_counter()
    if count:
        many = np.resize(image, (count, *image.shape[1:]))
        built.predict(many)
        calls = []
        for _ in range(3):
            started = time.perf_counter()
            built.predict(many)
            calls.append(time.perf_counter() - started)
        seconds["predict"] = sorted(calls)[1]
    seconds["after"] = time.perf_counter() - done  # no part of the notebook
    print(json.dumps({**seconds, "accuracy": accuracy, "versions": f"Keras {keras.__version__}"}))


if __name__ == "__main__":
    main()
