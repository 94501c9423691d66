"""Arithmetic on vectors: blocks of rows, principal components, projections to the plane, distances of pairs."""
