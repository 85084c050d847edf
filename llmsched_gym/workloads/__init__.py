"""Application templates, their fitted facts, arrivals, the generator, frozen workloads and trace readers."""
