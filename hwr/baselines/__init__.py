"""Classic baselines of scikit-learn on the same splits."""
