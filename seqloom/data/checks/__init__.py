"""What is suspicious in rows."""
