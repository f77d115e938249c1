"""Several tasks with one model, over inputs of any modality."""
