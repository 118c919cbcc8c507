"""From a Run to predictions on new images."""
