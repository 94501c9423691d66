"""From answers to files and tables."""
