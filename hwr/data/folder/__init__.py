"""A dataset of image files: with a table of labels, or with one folder for every class."""
