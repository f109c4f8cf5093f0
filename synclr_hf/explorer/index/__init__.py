"""Pictures with their features, ready to be searched: a data set, built once and opened through a memory map."""
