"""llama.cpp's format GGUF, both ways."""
