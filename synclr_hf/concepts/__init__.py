"""Concepts: banks of names and the mixture that turns them into prompts."""
