"""Long forms of tests, to be run by hand."""
