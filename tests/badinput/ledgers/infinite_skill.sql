UPDATE scores SET skill = 9e999;
