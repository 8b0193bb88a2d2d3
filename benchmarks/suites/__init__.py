"""Named grids."""
