UPDATE scores SET seed = 'one';
