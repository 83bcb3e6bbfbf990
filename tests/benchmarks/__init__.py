"""What measures. Nothing here asserts on a clock."""
