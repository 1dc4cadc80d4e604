"""What encoders are trained for: one file a family of losses, all of one shape."""
