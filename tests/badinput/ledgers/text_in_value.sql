UPDATE scores SET value = 'much';
