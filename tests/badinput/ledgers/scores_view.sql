ALTER TABLE scores RENAME TO hidden; CREATE VIEW scores AS SELECT * FROM hidden;
