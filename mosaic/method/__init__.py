"""Views, encoders, kernels, losses and the table of methods. Pure torch; knows no files."""
