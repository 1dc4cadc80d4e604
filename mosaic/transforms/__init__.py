"""Views: geometry and radiometry, batched, on the training device."""
