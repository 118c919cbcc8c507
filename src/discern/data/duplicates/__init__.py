"""Copies of one picture: how they are found, and the gate that keeps them out of two splits."""
