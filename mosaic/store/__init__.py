"""Packed, memory-mapped records: writer, reader, label budgets and temporal pairs."""
