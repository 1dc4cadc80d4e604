"""Memory-mapped int16 records: the only form of data that training and analysis read."""
