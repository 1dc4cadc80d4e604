"""Stands in for PyTorch, whose import takes seconds, in processes of tests: they set its threads, no more."""

threads = 0


def set_num_threads(count):
    global threads
    threads = count
