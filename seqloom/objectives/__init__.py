"""(model, batch) -> loss and metrics."""
