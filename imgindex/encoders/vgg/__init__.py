"""VGG-16: the network, its faster forms on a CPU and on an NVIDIA GPU, and the encoder that uses them."""
