UPDATE scores SET value = x'00ff';
