"""Images made rather than taken: rendered industrial parts with masks and known faults."""

from discern.data.synthetic.parts import CLASSES, DOMAINS, Faults, Parts, ensure, render, write

__all__ = ["CLASSES", "DOMAINS", "Faults", "Parts", "ensure", "render", "write"]
