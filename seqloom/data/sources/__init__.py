"""One file for each kind of data: a config that reads itself."""
