"""Code of users, such as policies and tools: how it is loaded and contained, what it depends on, how it fails."""
