"""Labelled images: where they come from, what they are, what is wrong with them, and batches of them."""
