"""Sources of people in conversation: dialogues, instructions, and which of two answers was preferred."""
