UPDATE metrics SET best = 'high';
