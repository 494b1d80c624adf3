"""Lends the fault campaign to its tests."""

from campaign import campaign, pytest_terminal_summary

__all__ = ["campaign", "pytest_terminal_summary"]
