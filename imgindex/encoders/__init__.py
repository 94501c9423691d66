"""From pixels to vectors: recipes and their weights, devices, and the networks that encode images."""
