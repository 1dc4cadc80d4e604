"""What every wing uses: errors, safe file writing, progress."""
