UPDATE problems SET seed = 'x';
