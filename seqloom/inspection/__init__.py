"""What a model has learned, and how it behaves: attention, gradients, gates, the report."""
