"""The estate: which keys there should be, which there are, and how to get from one to the other."""
