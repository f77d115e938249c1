"""What a command does, written once over the protocol of a task."""
