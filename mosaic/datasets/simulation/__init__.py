"""Simulated scenes, written in the official layout of BigEarthNet v2."""
