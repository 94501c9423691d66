"""Nearest neighbours by Euclidean distance."""
