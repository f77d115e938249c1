"""From a model that predicts the next token to whole sequences."""
