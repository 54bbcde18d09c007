"""What is read of what statements load: seen in samples, and free outside of them."""
