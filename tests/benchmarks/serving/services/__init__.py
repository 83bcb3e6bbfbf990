"""Services of peers that come as a library: run as files, in environments that know nothing of this project."""
