"""What past runs have shown: the file, its tables, the command `history`."""
