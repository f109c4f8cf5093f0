"""Rows on disk: schemas, seeds, sharded resumable writing, reading, dataset cards."""
