"""Where completions come from: the discrete-event simulator, or real servers."""
