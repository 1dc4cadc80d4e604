"""Encoders, projection heads, published weights and checkpoints."""
