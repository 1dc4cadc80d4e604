"""Errors, files, progress, hashing and collectives."""
