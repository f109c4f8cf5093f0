"""Labelled pictures: the registry of benchmarks, and the reading of anybody's own."""
