"""The pages for people, each a file without anything from elsewhere."""
