"""Load models and recognize images: checkpoints, forests, ONNX."""
