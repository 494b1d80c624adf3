"""Compose, check and instantiate the settings of conf/."""
