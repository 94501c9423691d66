"""Duplicates, outliers, leaks between sets, and whether the index already holds a file."""
