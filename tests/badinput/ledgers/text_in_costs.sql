UPDATE costs SET seconds = 'long';
