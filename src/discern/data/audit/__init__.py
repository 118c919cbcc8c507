"""The audit: what is wrong or notable in a Dataset, and how well that is known."""
