UPDATE scores SET key = CAST(x'ff41fe' AS TEXT) || rowid; UPDATE plan SET key = CAST(x'ff41fe' AS TEXT) || position;
