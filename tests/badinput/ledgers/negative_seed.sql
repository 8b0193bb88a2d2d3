UPDATE scores SET seed = -1;
