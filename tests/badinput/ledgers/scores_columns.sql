DROP TABLE scores; CREATE TABLE scores (a, b);
