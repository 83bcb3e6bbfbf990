"""Running on one machine, and compiling for many."""
