"""Stand-ins for what the tests do not run: API servers, controllers, an object store, the engine.

Each is held to the contract of what it stands for: the generated client's models, upstream's functions (cited by line),
the type that the code under test asks for, or the same tests on a real API server (`tests/cluster`).
"""
