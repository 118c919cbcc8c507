"""Reading and writing what a training leaves: the Run directory, its Predictions, its Evaluation."""
