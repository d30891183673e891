-- Where a storage node that was given up was reached: it may come back there.
ALTER TABLE storage_node ADD COLUMN lost_address text;
