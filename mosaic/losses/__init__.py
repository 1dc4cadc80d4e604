"""Contrastive losses, label kernels, and one objective a file."""
