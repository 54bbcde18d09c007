"""What the database plans to do for a statement."""
