DROP TABLE plan; CREATE TABLE plan (a, b);
