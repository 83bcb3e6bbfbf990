"""The prediction log: takes what was answered from the event loop, and stores it from a thread of its own."""
