"""Handwriting recognition of single characters: data, models, training, inference.

Names are imported when they are used, so that `import hwr` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwr.charset import Charset as Charset
    from hwr.config.compose import compose as compose
    from hwr.data.datamodule import CharacterDataModule as CharacterDataModule
    from hwr.inference.forestfile import load_forest as load_forest
    from hwr.inference.loading import load as load
    from hwr.inference.recognizer import Prediction as Prediction
    from hwr.inference.recognizer import Recognizer as Recognizer
    from hwr.training.module import CharacterClassifier as CharacterClassifier
    from hwr.training.networks import CNN as CNN
    from hwr.training.networks import MLP as MLP
    from hwr.training.networks import GlyphNet as GlyphNet

__version__ = "0.1.0"

_MODULES = {
    "CNN": "hwr.training.networks",
    "CharacterClassifier": "hwr.training.module",
    "CharacterDataModule": "hwr.data.datamodule",
    "Charset": "hwr.charset",
    "GlyphNet": "hwr.training.networks",
    "MLP": "hwr.training.networks",
    "Prediction": "hwr.inference.recognizer",
    "Recognizer": "hwr.inference.recognizer",
    "compose": "hwr.config.compose",
    "load": "hwr.inference.loading",
    "load_forest": "hwr.inference.forestfile",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'hwr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
