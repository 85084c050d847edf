"""Workloads from recordings of agents and workflows (docs/importing.md).

Readers (`otel`, `wfcommons`, `steplog`) turn files into `recorded.Run`; `building` makes one job trace of them.
"""
