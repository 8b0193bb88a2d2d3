"""Files that `new` writes."""
