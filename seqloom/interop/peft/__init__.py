"""Adapters of low rank in the format of Hugging Face's peft, both ways."""
