"""Checkpoints, tokenizers and word vectors in the formats of other programs."""
