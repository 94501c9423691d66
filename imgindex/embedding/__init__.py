"""From a decoded picture to a vector: recipes, weights, preparation, the network, the pipeline."""
