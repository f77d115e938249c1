"""What each command does, written once over the protocol of a task."""
