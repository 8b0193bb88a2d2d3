UPDATE scores SET method = 3;
