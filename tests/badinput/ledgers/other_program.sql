PRAGMA user_version = 0; DROP TABLE scores; CREATE TABLE bookmarks (url TEXT); INSERT INTO bookmarks VALUES ('precious');
