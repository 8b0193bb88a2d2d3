UPDATE scores SET reason = CAST(x'ff41fe' AS TEXT);
