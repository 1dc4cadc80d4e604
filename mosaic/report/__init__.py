"""Executing notebooks, and rendering them as HTML."""
