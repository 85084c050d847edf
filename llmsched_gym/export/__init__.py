"""Export of episodes to other tools."""
