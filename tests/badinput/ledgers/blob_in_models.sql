UPDATE models SET quality = x'01';
