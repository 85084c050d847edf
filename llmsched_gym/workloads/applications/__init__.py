"""The six applications: template and sampler of each."""
