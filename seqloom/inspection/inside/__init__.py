"""What a model does with one input: guesses by layer, heads that matter, attributions, alignments, pronouns."""
