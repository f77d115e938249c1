"""What other programs have made, taken up here."""
