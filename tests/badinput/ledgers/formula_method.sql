UPDATE scores SET method = '=cmd|x';
