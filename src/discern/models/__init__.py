"""Networks by name, and the preprocessing that belongs to them."""
