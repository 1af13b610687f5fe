-- How often an op's row may be lost. Params: 1 op. Returns: max_lost. Locks: none.
select max_lost from ops where id = ?1
