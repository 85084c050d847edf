"""Episodes as pictures, and as traces for other tools."""
