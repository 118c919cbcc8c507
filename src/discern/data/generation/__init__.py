"""Images painted from prompts by a text-to-image model: what to ask for, the model, and the folder they go to."""
