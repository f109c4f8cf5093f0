"""Evaluation: an encoder and labelled pictures in, plain dictionaries of results out."""
