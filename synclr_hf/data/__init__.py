"""Rows on disk: schemas, seeds, sharded resumable writing, reading, pictures, dataset cards."""
