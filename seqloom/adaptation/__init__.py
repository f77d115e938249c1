"""How much of a model is learned when it is trained further: all of it, its last layers, its biases, or low ranks."""
