"""From one sequence to another: translation, programs, dialogues."""
