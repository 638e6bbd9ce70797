"""The command line: parsing and printing only; everything it does, the library does."""
