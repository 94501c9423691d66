"""What is twice in an index, what stands alone in it, and what of other files, or of another set, it holds already."""
