"""From a model that predicts the next word to whole sequences."""
