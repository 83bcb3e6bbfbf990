"""Where labelled texts come from: a registry of sources, and the readers of files, databases and data sets."""
