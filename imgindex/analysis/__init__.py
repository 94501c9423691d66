"""Pure analysis: vectors in, answers out."""
