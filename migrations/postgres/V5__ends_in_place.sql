-- Where the ends of batches find room.

-- Queries that were submitted together stand side by side, and end together, by one commit: each record of a page is written a second
-- time before any of the old ones may go. Half of each page is kept free for that; with less of it most of these ends would
-- not be HOT, and write an entry into each index.
alter table batches set (fillfactor = 50);
