"""Preprocess image files and arrays for a model; imports no torch."""
