"""Pretraining and fine-tuning with Lightning."""
