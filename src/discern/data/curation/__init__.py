"""Curation: prepared copies of data on disk, with varied images, the source untouched."""
