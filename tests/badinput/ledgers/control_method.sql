UPDATE scores SET method = 'a' || char(27) || 'b';
