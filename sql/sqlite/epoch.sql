-- Reads the store's epoch, which a restored copy is given anew. Params: none. Returns: value. Locks: none.
select value from meta where key = 'epoch'
