"""Run folders: write, find, compare, resume in sweeps."""
