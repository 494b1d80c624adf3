"""Plots, tables and the model card of a run, and their way to the loggers."""
