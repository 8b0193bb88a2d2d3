UPDATE scores SET seed = 0.5;
