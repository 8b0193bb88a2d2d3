UPDATE plan SET key = CAST(key AS BLOB);
