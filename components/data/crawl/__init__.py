"""A polite crawler of the sites that a settings file names: articles in, labelled rows out."""
