"""How a model is understood."""
