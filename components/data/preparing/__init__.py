"""The parts of `prepare`: a compact table of all rows, what leaves rows out, how splits are drawn, and the writing."""
