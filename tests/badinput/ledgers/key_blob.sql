UPDATE scores SET key = CAST(key AS BLOB);
