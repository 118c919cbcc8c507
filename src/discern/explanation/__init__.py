"""Why a model said so: heat maps over images."""
