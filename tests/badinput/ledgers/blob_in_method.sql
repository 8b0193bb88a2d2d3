UPDATE scores SET method = x'00ff';
