"""What is served, and the client that asks for it: model, serving, client. Imports nothing else of this project."""

from importlib.metadata import version

__version__ = version("pigeonhole")
