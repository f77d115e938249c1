"""Language models: training on running text and conversations, and generation."""
